"""How much memory pods hold that have nothing to do, beside what they ask for."""

from __future__ import annotations

from tests.kubernetes.cluster import Object, quantity
from tests.kubernetes.figures import Figures
from tests.kubernetes.installation import COMPONENT, Installation
from tests.servers.ports import wait_until

MIB = 2**20
_NEAR = 0.8


def memory(installation: Installation, figures: Figures, profile: str) -> None:
    """Notes each kind of running pod. Asserts that each holds no more than it asks for, and is far from its limit.

    Where there are several of a kind the largest counts. Skips the test (or fails it) without metrics-server.
    """
    cluster, namespace = installation.cluster, installation.namespace
    cluster.require("metrics.k8s.io/v1beta1", "metrics-server", "install it in the cluster.")
    # Pods of the chart have an owner; one of the tests that looks like them has none.
    pods = {
        str(pod["metadata"]["name"]): pod
        for pod in installation.pods()
        if pod["status"]["phase"] == "Running" and "ownerReferences" in pod["metadata"]
    }
    wait_until(
        lambda: pods.keys() <= cluster.memory(namespace).keys(),
        seconds=120,
        what="metrics-server knows every pod",
        interval=3,
    )
    used = {name: held for name, held in cluster.memory(namespace).items() if name in pods}
    largest = {str(pods[name]["metadata"]["labels"][COMPONENT]): name for name in sorted(used, key=used.__getitem__)}
    for component, name in sorted(largest.items()):
        _note(figures, f"{profile}: {component}", used[name], *_bounds(pods[name]))
    bounds = [_bounds(pod) for pod in pods.values()]
    totals = sum(one for one, _ in bounds), sum(one for _, one in bounds)
    _note(figures, f"{profile}: all {len(pods)} pods", sum(used.values()), *totals)
    beyond = {name: held // MIB for name, held in used.items() if held > _bounds(pods[name])[0]}
    assert beyond == {}, "these hold more MiB than they ask for"
    for name, held in used.items():
        assert held < _NEAR * _bounds(pods[name])[1], f"{name} is near its limit"


def _bounds(pod: Object) -> tuple[int, int]:
    resources = [one["resources"] for one in pod["spec"]["containers"]]
    requests, limits = (sum(quantity(one[which]["memory"]) for one in resources) for which in ("requests", "limits"))
    return requests, limits


def _note(figures: Figures, row: str, used: int, request: int, limit: int) -> None:
    for column, value in (("idle, MiB", used), ("request, MiB", request), ("limit, MiB", limit)):
        figures.note("memory", row, column, round(value / MIB, 1))
