"""Which ways are open: asks from inside of pods whether a connection is taken, and starts pods that ask."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping

from tests.kubernetes.cluster import Cluster, Object
from tests.servers.ports import wait_until
from tests.settings import machine

# A packet that a policy drops is answered by nobody.
_SECONDS = 3
_PYTHON = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def taken(target):
    try:
        socket.create_connection(tuple(target), timeout=float(sys.argv[1])).close()
    except OSError:
        return False
    return True
targets = json.loads(sys.argv[2])
with ThreadPoolExecutor(32) as pool:
    print(json.dumps([target for target, one in zip(targets, pool.map(taken, targets)) if one]))
"""
_BASH = """
seconds=$1; shift
for target in "$@"; do
  (timeout "$seconds" bash -c "</dev/tcp/${target%:*}/${target##*:}" 2>/dev/null && printf '%s\\n' "$target") &
done
wait
"""
Target = tuple[str, int]


def open_from(cluster: Cluster, namespace: str, pod: str, container: str, targets: Iterable[Target]) -> set[Target]:
    """Those that take a connection from this pod, which has Python or bash."""
    asked = list(targets)
    where = ("exec", "--namespace", namespace, pod, "--container", container, "--")
    if container in ("redis", "sentinel", "postgres", "elasticsearch"):
        words = (f"{host}:{port}" for host, port in asked)
        told = cluster.kubectl(*where, "bash", "-c", _BASH, "probe", str(_SECONDS), *words).split()
        return {(host, int(port)) for host, _, port in (one.partition(":") for one in told)}
    return _read(cluster.kubectl(*where, "python", "-c", _PYTHON, str(_SECONDS), json.dumps(asked)))


def open_from_new(
    cluster: Cluster, namespace: str, labels: Mapping[str, str], targets: Iterable[Target]
) -> set[Target]:
    """Those that take a connection from a new pod with these labels."""
    name = start(cluster, namespace, labels, ["python", "-c", _PYTHON, str(_SECONDS), json.dumps(list(targets))])

    def ended() -> str:
        phase = str(cluster.object("pod", name, "--namespace", namespace)["status"].get("phase"))
        return phase if phase in ("Succeeded", "Failed") else ""

    phase = wait_until(ended, seconds=120, what="the probe has ended", interval=0.5)
    log = cluster.kubectl("logs", name, "--namespace", namespace)
    assert phase == "Succeeded", log
    return _read(log)


def start(cluster: Cluster, namespace: str, labels: Mapping[str, str], command: list[str], port: int = 9) -> str:
    """A pod of the API's image with another command; returns its name. Without labels nobody selects it."""
    name = f"probe-{uuid.uuid4().hex[:6]}"
    restricted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container: Object = {
        "name": "probe",
        "image": f"{machine().image_prefix}api:{machine().image_tag}",
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "ports": [{"containerPort": port}],
        "securityContext": restricted,
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
    }
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return name


def _read(told: str) -> set[Target]:
    return {(str(host), int(port)) for host, port in json.loads(told)}
