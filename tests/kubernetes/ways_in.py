"""Ways to a Service from outside of the cluster: a port of its nodes where one answers here, else a port-forward."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_network

from tests.kubernetes.cluster import Cluster
from tests.servers.ports import free_port, wait_until

_READY_SECONDS = 60
_NODE_SECONDS = 10


class PortForward:
    """``kubectl port-forward`` to a Service, at one port for as long as it lasts; begun anew when its pod is gone.

    Requests under way at that moment fail, which is no fault of the product: what counts errors takes another way.
    """

    def __init__(self, cluster: Cluster, namespace: str, service: str, port: int = 80) -> None:
        self._what = ("port-forward", "--namespace", namespace, f"service/{service}")
        self._cluster, self._service, self._service_port = cluster, service, port
        self.port = free_port()
        self._stop = threading.Event()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # for as long as this object lives
        self._process: subprocess.Popen[str] | None = None
        self._keeper = threading.Thread(target=self._keep, name=f"port-forward {service}", daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it takes connections; raises ``AssertionError`` when it does not."""
        self._keeper.start()
        try:
            wait_until(
                lambda: answers("127.0.0.1", self.port),
                seconds=_READY_SECONDS,
                what=f"the port-forward to {self._service}",
                interval=0.1,
            )
        except AssertionError as error:
            self._log.seek(0)
            raise AssertionError(f"{error}: {self._log.read()[-500:]}") from error

    def _keep(self) -> None:
        while not self._stop.is_set():
            self._process = subprocess.Popen(
                self._cluster.command(*self._what, f"{self.port}:{self._service_port}"),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                text=True,
                env=self._cluster.environment,
            )
            self._process.wait()
            self._stop.wait(0.2)

    def stop(self) -> None:
        """Ends it."""
        self._stop.set()
        if self._process is not None:
            self._process.terminate()
        self._keeper.join(timeout=10)
        self._log.close()


@contextlib.contextmanager
def forwarded(cluster: Cluster, namespace: str, service: str, port: int = 80) -> Iterator[PortForward]:
    """A port-forward for a while."""
    forward = PortForward(cluster, namespace, service, port)
    forward.start()
    try:
        yield forward
    finally:
        forward.stop()


def node_port(cluster: Cluster, namespace: str, pods: dict[str, str], port: str = "http") -> str | None:
    """The address at a node of a new Service for pods with those labels; nothing where this machine does not reach it.

    The way that real users' requests take: kube-proxy leaves out a pod that is about to stop, as an Ingress does. A
    NetworkPolicy lets in what comes from the nodes and from here, in place of the router's.
    """
    nodes = cluster.object("nodes")["items"]
    hosts = [one["address"] for node in nodes for one in node["status"]["addresses"] if one["type"] == "InternalIP"]
    # A node speaks to its own pods from the first address of their network.
    bridges = [str(next(ip_network(node["spec"]["podCIDR"]).hosts())) for node in nodes if "podCIDR" in node["spec"]]
    peers = [{"ipBlock": {"cidr": f"{one}/32"}} for one in dict.fromkeys([*hosts, *bridges, *map(_own_address, hosts)])]
    metadata = {"name": "tests-from-outside", "namespace": namespace}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"type": "NodePort", "selector": pods, "ports": [{"port": 80, "targetPort": port}]},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata,
            "spec": {
                "podSelector": {"matchLabels": pods},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": peers, "ports": [{"protocol": "TCP", "port": port}]}],
            },
        },
    )
    made = cluster.object("service", metadata["name"], "--namespace", namespace)
    number = int(made["spec"]["ports"][0]["nodePort"])
    deadline = time.monotonic() + _NODE_SECONDS
    while time.monotonic() < deadline:
        for host in hosts:
            if answers(host, number):
                return f"http://{host}:{number}"
        time.sleep(0.2)
    return None


def _own_address(host: str) -> str:
    """This machine's, as that host sees it; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])


def answers(host: str, port: int, seconds: float = 1) -> bool:
    """Whether somebody takes a connection there."""
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except OSError:
        return False
    return True
