"""Workers by KEDA: none while there is nothing to do, as many as a queue needs and no others, none again, no task lost.

The dev profile with KEDA and short waits, so that a test does not take as long as a quiet evening: figures of going
back to none hold for these waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from sicargabox_core.tasks.scaling import LOAD_COLUMNS
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.figures import COOLDOWN_SECONDS, Figures
from tests.kubernetes.installation import Installation
from tests.kubernetes.laws import judged
from tests.kubernetes.ledger import Ledger, Story
from tests.kubernetes.load import LEAST, QUEUES, Load, backlog, no_op
from tests.kubernetes.watching import Watch, watched

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

MOST = {"indexer": 2, "ai": 3, "learning": 2}
WORKERS = {"elasticsearch": "indexer", "celery": "indexer", "ai_generation": "ai", "learning": "learning"}
_SETS = (
    "autoscaling.mode=keda",
    f"workerDefaults.autoscaling.cooldownSeconds={COOLDOWN_SECONDS}",
    f"workerDefaults.autoscaling.scaleDownStabilizationSeconds={COOLDOWN_SECONDS}",
    *(f"workers.{worker}.autoscaling.maxReplicas={most}" for worker, most in MOST.items()),
)
# Of work for all of a queue's workers, so long that it is not done before they have come.
BURST_SECONDS = 0.1
# A pod that is new on a busy machine.
SECONDS = 240


@dataclass(frozen=True)
class Scaled:
    """An installation whose workers KEDA scales."""

    installation: Installation
    ledger: Ledger
    token: str

    def load(self, rate: float = 0, searches: float = 0, queues: Sequence[str] = QUEUES) -> Load:
        """A load on its API."""
        return Load(self.installation.public, self.token, rate=rate, searches=searches, queues=queues)

    def at_rest(self, watch: Watch, since: float) -> float:
        """When no worker was wanted and none was ready any more."""
        return watch.wait(
            lambda look: not any(look.wanted.values()) and not any(look.ready.values()),
            seconds=SECONDS + 4 * 60,
            what="no worker is left",
            since=since,
        )

    def judge(self, figures: Figures, row: str, load: Load) -> None:
        """The laws, and their figures."""
        judged(figures, row, self.installation, self.ledger, load)

    def stories(self, load: Load) -> list[Story]:
        """What became of it."""
        found = self.ledger.stories()
        return [found[one] for one in load.accepted]


@pytest.fixture(scope="module")
def scaled(cluster: Cluster) -> Iterator[Scaled]:
    """At rest when it is given: what the first installation had to do is done, and its workers are gone."""
    cluster.require("keda.sh/v1alpha1", "KEDA", "install it in the cluster, in the namespace keda.")
    with cluster.namespace("scaling") as namespace:
        installation = Installation(cluster, namespace, "dev", _SETS)
        installation.install()
        made = Scaled(installation, Ledger(installation), installation.token())
        with watched(installation) as watch:
            made.at_rest(watch, made.ledger.settle(SECONDS))
        yield made
        installation.close()


@pytest.mark.parametrize("queue", [pytest.param("ai_generation", marks=pytest.mark.short), "elasticsearch", "learning"])
def test_a_burst_on_one_queue_brings_its_workers_alone_and_they_go(
    scaled: Scaled, figures: Figures, queue: str
) -> None:
    worker = WORKERS[queue]
    most = MOST[worker]
    with watched(scaled.installation) as watch:
        began = time.time()
        with scaled.load(searches=2) as load:
            load.send(*backlog(LEAST, BURST_SECONDS, [queue]))
            one = watch.wait(lambda look: look.ready[worker] >= 1, seconds=SECONDS, what="a worker", since=began)
            what = f"{most} workers are ready"
            every = watch.wait(lambda look: look.ready[worker] == most, seconds=SECONDS, what=what, since=began)
        done = scaled.ledger.settle(SECONDS)
        gone = scaled.at_rest(watch, done)
    scaled.judge(figures, f"burst of {LEAST} on the queue `{queue}`, its workers from none to {most} and back", load)
    figures.note("scaling", queue, "0→1, s", one - began)
    figures.note("scaling", queue, "N", most)
    figures.note("scaling", queue, "0→N, s", every - began)
    figures.note("scaling", queue, "N→0, s", gone - done)
    assert {name: watch.most(name, began) for name in MOST} == {name: most * (name == worker) for name in MOST}


@pytest.mark.parametrize("queue", QUEUES)
def test_one_task_brings_one_worker_of_its_queue_alone(scaled: Scaled, figures: Figures, queue: str) -> None:
    """One task is all there may be, so there is no thousand of them here: the bursts are for that."""
    worker = WORKERS[queue]
    with watched(scaled.installation) as watch:
        began = time.time()
        with scaled.load() as load:
            load.send(no_op(queue))
        done = scaled.ledger.settle(SECONDS)
        gone = scaled.at_rest(watch, done)
    (story,) = scaled.stories(load)
    assert (story.finished, story.claims) == (1, 1)
    assert story.finished_at is not None
    figures.note("scaling", queue, "one task, s", story.finished_at - story.accepted_at)
    figures.note("scaling", queue, "1→0, s", gone - done)
    assert {name: watch.most(name, began) for name in MOST} == {name: int(name == worker) for name in MOST}


def test_a_long_task_outlives_the_workers_that_are_taken_away_beside_it(scaled: Scaled, figures: Figures) -> None:
    most, others = MOST["ai"], [queue for queue, worker in WORKERS.items() if worker != "ai"]
    with watched(scaled.installation) as watch:
        began = time.time()
        with scaled.load(rate=8, searches=1, queues=others) as load:
            load.send(*backlog(LEAST // 2, queues=others))
            load.send(*(no_op("ai_generation", seconds=3, note=str(number)) for number in range(15)))
            # As many as there are pods, each of which is then there for two tasks: the one taken away has one of them.
            load.send(*(no_op("ai_generation", seconds=75, note="long") for _ in range(most)))
            watch.wait(lambda look: look.ready["ai"] == most, seconds=SECONDS, what="all workers", since=began)
            what = "fewer workers are wanted"
            fewer = watch.wait(lambda look: look.wanted["ai"] < most, seconds=SECONDS, what=what, since=time.time())
            load.reach()
        scaled.at_rest(watch, scaled.ledger.settle(SECONDS))
    scaled.judge(figures, "workers with long tasks taken away by KEDA, others busy", load)
    of_ai = [one for one in scaled.stories(load) if one.queue == "ai_generation"]
    under_way = [one for one in of_ai if one.claimed_at and one.claimed_at < fewer < (one.finished_at or 0)]
    assert under_way, "nothing was under way when pods were taken away: this proves nothing"


def test_workers_stay_as_they_are_while_the_database_is_away(scaled: Scaled, figures: Figures) -> None:
    """Nothing can be accepted meanwhile, so a thousand are before; most of them wait when the database goes."""
    installation, most = scaled.installation, MOST["ai"]
    scale = ("scale", f"statefulset/{installation.name('postgres')}", "--namespace", installation.namespace)
    with watched(installation) as watch:
        began = time.time()
        with scaled.load() as load:
            load.send(*backlog(LEAST, 0.3, ["ai_generation"]))
            watch.wait(lambda look: look.ready["ai"] == most, seconds=SECONDS, what="all workers", since=began)
            load.reach()
        away = time.time()
        installation.cluster.kubectl(*scale, "--replicas=0")
        try:
            # Longer than KEDA needs to take one away, or to call its fallback.
            over = away + 4 * COOLDOWN_SECONDS
            watch.wait(lambda look: look.at > over, seconds=SECONDS, what="some time has passed")
            seen = {(look.wanted["ai"], look.wanted["learning"]) for look in watch.looks if look.at > away}
            assert seen == {(most, 0)}
        finally:
            installation.cluster.kubectl(*scale, "--replicas=1")
        installation.wait_ready("postgres")
        again = time.time()
        done = scaled.ledger.settle(SECONDS * 2)
        scaled.at_rest(watch, done)
    assert any((one.finished_at or 0) > again for one in scaled.stories(load)), "nothing waited: this proves nothing"
    row = "PostgreSQL away for more than a minute while KEDA asks it (its tasks have ended, from its return)"
    scaled.judge(figures, row, load)
    figures.note("faults", row, "over, s", done - again)


def test_each_queue_has_a_worker_while_the_database_refuses_the_question(scaled: Scaled, figures: Figures) -> None:
    """Without a task, which would bring workers by itself; nothing is taken away, so nothing could be lost."""
    installation = scaled.installation
    columns, role = ", ".join(LOAD_COLUMNS), "sicargabox_scaler"
    with watched(installation) as watch:
        refused = time.time()
        installation.psql(f"REVOKE SELECT ON tasks FROM {role}")
        try:
            came = watch.wait(
                lambda look: set(look.wanted.values()) == {1}, seconds=SECONDS, what="one of each worker", since=refused
            )
        finally:
            installation.psql(f"GRANT SELECT ({columns}) ON tasks TO {role}")
        scaled.at_rest(watch, time.time())
    row = "PostgreSQL refuses KEDA's question (one worker of each, by the fallback)"
    figures.note("faults", row, "over, s", came - refused)
