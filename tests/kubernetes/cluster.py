"""The cluster that ``KUBECONFIG`` names: asked by kubectl, a namespace for each test. Knows nothing of the chart."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.programs import program
from tests.servers.ports import wait_until
from tests.settings import absent, machine

Object = dict[str, Any]
_ANSWER_SECONDS = 120


class KubectlFailed(Exception):
    """kubectl ended with an error; the text is what it said."""


@dataclass
class Cluster:
    """``namespaces``: those that a test has open now, for the report of a failure."""

    namespaces: list[str] = field(default_factory=list)

    # --- kubectl -----------------------------------------------------------------------------------------------------
    @property
    def environment(self) -> dict[str, str]:
        """For programs that are to speak with this cluster."""
        return os.environ | {"KUBECONFIG": str(machine().kubeconfig)}

    def command(self, *arguments: str) -> list[str]:
        """A command line of kubectl."""
        return [str(program("kubectl")), *arguments]

    def kubectl(self, *arguments: str, given: str | None = None, seconds: float = _ANSWER_SECONDS) -> str:
        """What kubectl prints. ``given``: its standard input. Raises ``KubectlFailed``, after ``seconds`` too."""
        try:
            done = subprocess.run(
                self.command(*arguments),
                input=given,
                capture_output=True,
                text=True,
                check=False,
                env=self.environment,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise KubectlFailed(f"kubectl {' '.join(arguments[:4])}: no end within {seconds:g} s") from error
        if done.returncode != 0:
            raise KubectlFailed(f"kubectl {' '.join(arguments[:4])}: {done.stderr.strip()}")
        return done.stdout

    def object(self, *arguments: str) -> Object:
        """One object, or a list, after ``kubectl get``. Raises ``KubectlFailed``."""
        found: Object = json.loads(self.kubectl("get", *arguments, "--output", "json"))
        return found

    def objects(self, namespace: str, kind: str, selector: str = "") -> list[Object]:
        """All of a kind in a namespace, by labels."""
        chosen = ("--selector", selector) if selector else ()
        return list(self.object(kind, "--namespace", namespace, *chosen)["items"])

    def apply(self, *documents: Object) -> None:
        """Makes or changes objects, server-side."""
        everything = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename", "-", given=json.dumps(everything))

    # --- what it has -------------------------------------------------------------------------------------------------
    @property
    def version(self) -> str:
        """Of its API server, like v1.34.4."""
        return str(json.loads(self.kubectl("version", "--output", "json"))["serverVersion"]["gitVersion"])

    def serves(self, group_version: str) -> bool:
        """Whether its API serves this group now, like keda.sh/v1alpha1 or metrics.k8s.io/v1beta1."""
        try:
            self.kubectl("get", "--raw", f"/apis/{group_version}")
        except KubectlFailed:
            return False
        return True

    def require(self, group_version: str, what: str, remedy: str) -> None:
        """Skips the test (or fails it) where that group is not served."""
        if not self.serves(group_version):
            absent(what, remedy)

    def memory(self, namespace: str) -> dict[str, int]:
        """Bytes that each pod's containers use now, by metrics-server; a young pod may be missing."""
        told = json.loads(self.kubectl("get", "--raw", f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"))
        return {
            pod["metadata"]["name"]: sum(quantity(one["usage"]["memory"]) for one in pod["containers"])
            for pod in told["items"]
        }

    # --- namespaces --------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def namespace(self, what: str) -> Iterator[str]:
        """A new namespace that enforces restricted Pod Security; gone afterwards, with all that is in it."""
        name = f"{machine().cluster_namespace}-{what}-{uuid.uuid4().hex[:5]}"
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        self.namespaces.append(name)
        try:
            yield name
        finally:
            self.namespaces.remove(name)
            # Pods are not waited for: their volumes and what they drain are nobody's any more. Nor made anew, else the
            # namespace waits as long as a worker may drain.
            everything = ("--all", "--namespace", name, "--wait=false")
            with contextlib.suppress(KubectlFailed):
                self.kubectl("delete", "deployments,statefulsets,jobs", *everything, "--cascade=orphan")
                self.kubectl("delete", "replicasets", *everything, "--cascade=orphan")
                self.kubectl("delete", "pods", *everything, "--grace-period=1")
            self.kubectl("delete", "namespace", name, "--wait=false")
            wait_until(lambda: self._gone(name), seconds=180, what=f"the namespace {name} is gone", interval=1)

    def _gone(self, namespace: str) -> bool:
        return not self.kubectl("get", "namespace", namespace, "--ignore-not-found", "--output", "name")

    # --- a failure's report ------------------------------------------------------------------------------------------
    def report(self, namespace: str) -> str:
        """Pods, events, and the last log lines of pods that are not ready or began anew."""
        parts = [self._said("get", "pods", "--namespace", namespace, "--output", "wide")]
        events = ("get", "events", "--namespace", namespace, "--sort-by=.lastTimestamp")
        columns = "custom-columns=AT:.lastTimestamp,TIMES:.count,WHAT:.involvedObject.name,WHY:.reason,SAYS:.message"
        parts.append("\n".join(self._said(*events, "--output", columns).splitlines()[-60:]))
        with contextlib.suppress(KubectlFailed):
            pods = [pod["metadata"]["name"] for pod in self.objects(namespace, "pods") if suspicious(pod)]
            parts += [self._logs(namespace, pod) for pod in pods]
        return "\n\n".join(parts)

    def _logs(self, namespace: str, pod: str) -> str:
        parts = []
        for which, more in ((pod, ()), (f"{pod}, before", ("--previous",))):
            said = self._said("logs", pod, "--namespace", namespace, "--all-containers", "--prefix", "--tail=25", *more)
            # A line of JSON may hold a whole traceback.
            parts += [f"── {which}", *(line[:500] for line in said.splitlines())]
        return "\n".join(parts)

    def _said(self, *arguments: str) -> str:
        try:
            return self.kubectl(*arguments, seconds=20)
        except KubectlFailed as error:
            return str(error)


def ready(pod: Object) -> bool:
    """Whether a pod is ready and nobody deletes it."""
    conditions = {one["type"]: one["status"] for one in pod.get("status", {}).get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def restarts(pod: Object) -> int:
    """How often its containers began anew."""
    return sum(one["restartCount"] for one in pod.get("status", {}).get("containerStatuses", []))


def suspicious(pod: Object) -> bool:
    """Whether its log may say why a test failed."""
    ended = pod.get("status", {}).get("phase") == "Succeeded"
    return (not ready(pod) and not ended) or restarts(pod) > 0


_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}


def quantity(text: str) -> int:
    """Bytes of a quantity as Kubernetes writes it."""
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    return int(text)


def reachable() -> Cluster:
    """The cluster. Skips the test (or fails it) where none is named or it does not answer."""
    remedy = "set KUBECONFIG to a cluster that tests may install on, with the four images loaded (see Makefile)."
    if machine().kubeconfig is None:
        absent("a Kubernetes cluster", remedy)
    cluster = Cluster()
    program("helm")
    try:
        cluster.kubectl("get", "--raw", "/readyz", seconds=20)
    except KubectlFailed as error:
        absent("a Kubernetes cluster that answers", f"{error}; {remedy}")
    return cluster
