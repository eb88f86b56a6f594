"""The default profile, small enough for one node of two cores: three Redis, three Sentinels, and what becomes of them.

Its workers do not come and go, so that what a fault costs is not mixed with what scaling costs. Times read from logs
and from the database are taken to be of the same clock as this machine's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.kubernetes.cluster import Cluster, KubectlFailed, restarts
from tests.kubernetes.evidence import explained
from tests.kubernetes.figures import Figures
from tests.kubernetes.installation import Installation
from tests.kubernetes.laws import judged
from tests.kubernetes.ledger import Ledger
from tests.kubernetes.load import LEAST, LONG, QUEUES, Load, backlog
from tests.servers.ports import wait_until

MEMBERS = range(3)
_WHOLE_SECONDS = 240
# Waiting when a fault comes. With the rate a thousand are accepted in less than a minute and a half.
_WAITING = 400
_RATE = 10
_SMALL_WORKER = ("workerDefaults.autoscaling.minReplicas=1", "workerDefaults.autoscaling.maxReplicas=1")
SMALL = (
    "api.autoscaling.enabled=false",
    "api.replicas=1",
    "scheduler.replicas=1",
    "flower.enabled=false",
    "redis.exporter.enabled=false",
    "api.resources.requests.cpu=100m",
    *(f"{where}.resources.requests.cpu=20m" for where in ("admin", "scheduler", "migrate", "workerDefaults")),
    *(f"{where}.internal.resources.requests.cpu=50m" for where in ("redis", "database")),
    "workerDefaults.drainSeconds=20",
    *(f"workers.{name}.drainSeconds=20" for name in ("indexer", "ai", "learning")),
    *_SMALL_WORKER,
    "workers.learning.autoscaling.maxReplicas=1",
)


@dataclass
class Replicated:
    """An installation with Sentinels, and its ledger."""

    installation: Installation
    ledger: Ledger
    token: str

    # --- Redis and its Sentinels -------------------------------------------------------------------------------------
    def pod(self, number: int, component: str = "redis") -> str:
        """Its name."""
        return f"{self.installation.name(component)}-{number}"

    def ids(self, component: str = "redis") -> set[str]:
        """What tells a pod from the one of the same name before it."""
        return {str(pod["metadata"]["uid"]) for pod in self.installation.pods(component)}

    def delete(self, *pods: str, force: bool = False) -> float:
        """Deletes pods, without waiting; returns when."""
        how = ("--force", "--grace-period=0") if force else ()
        at = time.time()
        where = ("--namespace", self.installation.namespace)
        self.installation.cluster.kubectl("delete", "pod", *pods, *where, "--wait=false", *how)
        return at

    def whole(self) -> int | None:
        """The primary's number, if all is well: one primary, two replicas in step, three Sentinels that know all."""
        if any(len(self.installation.ready(component)) != 3 for component in ("redis", "sentinel")):
            return None
        roles = [self.installation.role(number) for number in MEMBERS]
        if sorted(roles) != ["master", "slave", "slave"]:
            return None
        primary = roles.index("master")
        return primary if all(self._knows(number, primary) for number in MEMBERS) else None

    def _knows(self, sentinel: int, primary: int) -> bool:
        told = self.told(sentinel)
        named = told.get("ip", "").split(".")[0] == self.pod(primary)
        complete = (told.get("num-slaves"), told.get("num-other-sentinels")) == ("2", "2")
        return named and complete and "down" not in told.get("flags", "down")

    def told(self, sentinel: int) -> dict[str, str]:
        """What a Sentinel says of the primary; nothing when it does not answer."""
        try:
            lines = self.installation.sentinel(sentinel, "SENTINEL", "MASTER", "mymaster").split("\n")
        except KubectlFailed:
            return {}
        return dict(zip(lines[::2], lines[1::2], strict=False))

    def wait_whole(self, seconds: float = _WHOLE_SECONDS) -> int:
        """The primary's number, once all is well."""

        def found() -> tuple[int] | None:
            primary = self.whole()
            return None if primary is None else (primary,)

        what = "one primary, two replicas, three Sentinels that agree"
        try:
            return wait_until(found, seconds=seconds, what=what, interval=1)[0]
        except AssertionError as error:
            roles = [self.installation.role(number) for number in MEMBERS]
            raise AssertionError(f"{error}; roles: {roles}; told: {[self.told(one) for one in MEMBERS]}") from error

    def sentinels_said(self, words: str, since: float) -> list[float]:
        """When Sentinels wrote a line with these words into their logs."""
        found = []
        began = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for number in MEMBERS:
            where = ("--namespace", self.installation.namespace, "--container", "sentinel")
            options = ("--timestamps", f"--since-time={began}", "--tail=-1")
            with contextlib.suppress(KubectlFailed):
                log = self.installation.cluster.kubectl("logs", self.pod(number, "sentinel"), *where, *options)
                told = [line.partition(" ")[0] for line in log.splitlines() if words in line]
                # Nanoseconds, of which Python reads six digits.
                found += [datetime.fromisoformat(f"{at[:26].rstrip('Z')}+00:00").timestamp() for at in told]
        return sorted(at for at in found if at >= since)

    def wait_switch(self, since: float) -> float:
        """When the first Sentinel told of another primary."""

        def switched() -> float | None:
            return next(iter(self.sentinels_said("+switch-master", since)), None)

        return wait_until(switched, seconds=_WHOLE_SECONDS, what="the Sentinels name another primary", interval=0.5)

    # --- the others --------------------------------------------------------------------------------------------------
    def restarts(self) -> dict[str, int]:
        """How often containers of each pod began anew."""
        return {str(pod["metadata"]["name"]): restarts(pod) for pod in self.installation.pods()}

    @contextlib.contextmanager
    def nobody_else_restarts(self) -> Iterator[None]:
        """No container begins anew while a fault lasts, but those of pods that were deleted."""
        before = self.restarts()
        yield
        after = self.restarts()
        assert {pod: after[pod] for pod in before if pod in after} == {
            pod: before[pod] for pod in before if pod in after
        }

    # --- load and laws -----------------------------------------------------------------------------------------------
    def load(self, rate: float = _RATE, searches: float = 1, queues: Sequence[str] = QUEUES) -> Load:
        """Tasks on every queue, and searches."""
        return Load(self.installation.public, self.token, rate=rate, searches=searches, seconds=0.05, queues=queues)

    @contextlib.contextmanager
    def under_load(self, searches: float = 1) -> Iterator[Load]:
        """For a fault: tasks flow on every queue when the block begins, with some waiting, and until enough came."""
        with self.nobody_else_restarts(), self.load(searches=searches) as load:
            self.flows(load, time.time())
            load.send(*backlog(_WAITING))
            yield load
            with explained(self.installation, self.ledger, load, load.began):
                load.reach()

    def flows(self, load: Load, since: float, seconds: float = 180, on: Collection[str] = QUEUES) -> None:
        """Until a task of each queue that was accepted after ``since`` has ended."""

        def each() -> bool:
            accepted = load.accepted
            try:
                stories = self.ledger.stories(since)
            except KubectlFailed:
                return False
            known = [stories[one] for one in accepted if one in stories]
            return {one.queue for one in known if one.accepted_at > since and one.finished_at} >= set(on)

        with explained(self.installation, self.ledger, load, since):
            wait_until(each, seconds=seconds, what="a task of each queue ends", interval=2)

    def under_way(self, count: int, seconds: float = 180) -> None:
        """Until so many of those that ``load.LONG`` is the note of have been taken by workers.

        What is sent comes to the API behind what was sent before, so a task that was sent later may have ended by then.
        """
        begun = f"SELECT count(*) AS many FROM tasks WHERE state = 'STARTED' AND payload ->> 'note' = '{LONG}'"
        wait_until(
            lambda: self.installation.rows(begun)[0]["many"] >= count,
            seconds=seconds,
            what="long tasks run",
            interval=1,
        )

    def judge(
        self, figures: Figures, row: str, load: Load, *, away: Sequence[tuple[float, float]] = (), least: int = LEAST
    ) -> None:
        """The laws, and their figures; see ``judged``."""
        judged(figures, row, self.installation, self.ledger, load, away=away, least=least)

    def next_end(self, load: Load, since: float) -> float:
        """When the first task ended that a worker took after ``since``."""
        accepted = load.accepted
        stories = self.ledger.stories()
        known = [stories[one] for one in accepted if one in stories]
        return min(one.finished_at for one in known if one.finished_at and (one.claimed_at or 0) > since)


@contextlib.contextmanager
def replicated(cluster: Cluster, what: str, *sets: str) -> Iterator[Replicated]:
    """Installed, whole and settled, in a namespace of its own."""
    with cluster.namespace(what) as namespace:
        installation = Installation(cluster, namespace, "default", (*SMALL, *sets))
        try:
            installation.install()
            made = Replicated(installation, Ledger(installation), installation.token())
            made.wait_whole()
            yield made
        finally:
            installation.close()
