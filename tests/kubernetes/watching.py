"""Looks at the workers' numbers of pods all the while, so that what was for a moment only is seen too."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.kubernetes.cluster import KubectlFailed
from tests.kubernetes.installation import COMPONENT, Installation
from tests.servers.ports import wait_until

_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Look:
    """Pods of each worker, ``wanted`` by the autoscaler and ``ready``, at a time of this machine's clock since 1970."""

    at: float
    wanted: dict[str, int]
    ready: dict[str, int]


@dataclass
class Watch:
    """Every look so far. Exact to about a second: a look takes some tenths."""

    looks: list[Look] = field(default_factory=list)

    def first(self, condition: Callable[[Look], bool], since: float = 0) -> float | None:
        """When it first held."""
        return next((look.at for look in self.looks if look.at >= since and condition(look)), None)

    def wait(self, condition: Callable[[Look], bool], *, seconds: float, what: str, since: float = 0) -> float:
        """Until it holds, which is told; raises ``AssertionError`` with the last look after ``seconds``."""
        try:
            return wait_until(lambda: self.first(condition, since), seconds=seconds, what=what, interval=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {self.looks[-1:]}") from error

    def most(self, worker: str, since: float = 0) -> int:
        """The highest number of pods wanted."""
        return max((look.wanted[worker] for look in self.looks if look.at >= since), default=0)


@contextlib.contextmanager
def watched(installation: Installation) -> Iterator[Watch]:
    """Looks from now on, until the end of the block."""
    watch, stop = Watch(), threading.Event()

    def look_on() -> None:
        while not stop.wait(_LOOK_SECONDS):
            with contextlib.suppress(KubectlFailed):
                watch.looks.append(_look(installation))

    watcher = threading.Thread(target=look_on, name="watch", daemon=True)
    watcher.start()
    try:
        yield watch
    finally:
        stop.set()
        watcher.join(timeout=30)


def _look(installation: Installation) -> Look:
    at = time.time()
    chosen = f"app.kubernetes.io/instance={installation.release}"
    found = installation.cluster.objects(installation.namespace, "deployments", chosen)
    named = {one["metadata"]["labels"][COMPONENT]: one for one in found}
    workers = {name.removesuffix("-worker"): one for name, one in named.items() if name.endswith("-worker")}
    return Look(
        at,
        wanted={name: int(one["spec"].get("replicas", 1)) for name, one in workers.items()},
        ready={name: int(one.get("status", {}).get("readyReplicas", 0)) for name, one in workers.items()},
    )
