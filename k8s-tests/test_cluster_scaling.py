"""Workers by KEDA: none while there is nothing to do, as many as a queue needs and no others, none again, no task lost.

The dev profile with KEDA and short waits, so that a test does not take as long as a quiet evening: figures of going
back to none hold for these waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sicargabox_core.tasks.scaling import LOAD_COLUMNS
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.figures import COUNTED, Figures
from tests.kubernetes.installation import Installation
from tests.kubernetes.ledger import Ledger, Story, Verdict
from tests.kubernetes.load import QUEUES, Load, no_op
from tests.kubernetes.watching import Watch, watched

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

COOLDOWN = 15
MOST = 3
WORKERS = {"elasticsearch": "indexer", "celery": "indexer", "ai_generation": "ai", "learning": "learning"}
ROW = f"scaling (asked every 5 s, {COOLDOWN} s of cooldown)"
_SETS = (
    "autoscaling.mode=keda",
    f"workerDefaults.autoscaling.cooldownSeconds={COOLDOWN}",
    f"workerDefaults.autoscaling.scaleDownStabilizationSeconds={COOLDOWN}",
    f"workers.ai.autoscaling.maxReplicas={MOST}",
)
# A pod that is new on a busy machine.
SECONDS = 240


@dataclass(frozen=True)
class Scaled:
    """An installation whose workers KEDA scales."""

    installation: Installation
    ledger: Ledger
    token: str

    def load(self, searches: float = 0) -> Load:
        """A load on its API."""
        return Load(self.installation.public, self.token, searches=searches)

    def at_rest(self, watch: Watch, since: float) -> float:
        """When no worker was wanted and none was ready any more."""
        return watch.wait(
            lambda look: not any(look.wanted.values()) and not any(look.ready.values()),
            seconds=SECONDS + 4 * 60,
            what="no worker is left",
            since=since,
        )

    def judged(self, load: Load) -> Verdict:
        """The laws, of everything that was accepted from this load."""
        verdict = self.ledger.verdict(load.accepted)
        assert verdict.lost == ()
        assert verdict.finished_twice == ()
        answers = load.answers()
        assert answers.error_rate < 0.001, answers.problems
        return verdict

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


@pytest.mark.short
def test_a_burst_on_one_queue_brings_its_workers_alone_and_they_go(scaled: Scaled, figures: Figures) -> None:
    with watched(scaled.installation) as watch:
        began = time.time()
        with scaled.load(searches=2) as load:
            load.send(*(no_op("ai_generation", seconds=3, note=str(number)) for number in range(40)))
            one = watch.wait(lambda look: look.ready["ai"] >= 1, seconds=SECONDS, what="a worker is ready", since=began)
            all_of_them = watch.wait(
                lambda look: look.ready["ai"] == MOST, seconds=SECONDS, what=f"{MOST} workers are ready", since=began
            )
        done = scaled.ledger.settle(SECONDS)
        gone = scaled.at_rest(watch, done)
    scaled.judged(load)
    stories = scaled.stories(load)
    assert len(stories) == 40
    accepted, ended = min(one.accepted_at for one in stories), [one.finished_at or 0 for one in stories]
    figures.note(ROW, "burst of 40 on one queue, from none: first worker ready", one - began)
    figures.note(ROW, "from none: first task finished", min(ended) - accepted)
    figures.note(ROW, f"from none: {MOST} workers ready", all_of_them - began)
    figures.note(ROW, f"{MOST} workers back to none after the last task", gone - done)
    assert watch.most("ai", began) == MOST
    assert watch.most("indexer", began) == watch.most("learning", began) == 0


@pytest.mark.parametrize("queue", QUEUES)
def test_one_task_brings_one_worker_of_its_queue_alone(scaled: Scaled, figures: Figures, queue: str) -> None:
    worker = WORKERS[queue]
    with watched(scaled.installation) as watch:
        began = time.time()
        with scaled.load() as load:
            load.send(no_op(queue))
        done = scaled.ledger.settle(SECONDS)
        gone = scaled.at_rest(watch, done)
    scaled.judged(load)
    (story,) = scaled.stories(load)
    assert story.finished_at is not None
    figures.note(ROW, "one task: from none until it is finished", story.finished_at - story.accepted_at)
    figures.note(ROW, "one worker back to none after its task", gone - done)
    assert {name: watch.most(name, began) for name in set(WORKERS.values())} == {
        name: int(name == worker) for name in set(WORKERS.values())
    }


def test_a_long_task_outlives_the_workers_that_are_taken_away_beside_it(scaled: Scaled, figures: Figures) -> None:
    with watched(scaled.installation) as watch:
        began = time.time()
        with scaled.load() as load:
            load.send(*(no_op("ai_generation", seconds=3, note=str(number)) for number in range(15)))
            # As many as there are pods, each of which is then there for two tasks: the one taken away has one of them.
            load.send(*(no_op("ai_generation", seconds=75, note="long") for _ in range(MOST)))
            watch.wait(lambda look: look.ready["ai"] == MOST, seconds=SECONDS, what="all workers", since=began)
            fewer = watch.wait(
                lambda look: look.wanted["ai"] < MOST,
                seconds=SECONDS,
                what="fewer workers are wanted",
                since=time.time(),
            )
            scaled.at_rest(watch, scaled.ledger.settle(SECONDS))
    verdict = scaled.judged(load)
    under_way = [
        one for one in scaled.stories(load) if one.claimed_at and one.claimed_at < fewer < (one.finished_at or 0)
    ]
    assert under_way, "nothing was under way when pods were taken away: this proves nothing"
    figures.note(ROW, "long tasks under way when their pods were taken away", len(under_way), COUNTED)
    figures.note(ROW, "of these given back and ended elsewhere", verdict.executed_again, COUNTED)


def test_workers_stay_as_they_are_while_the_database_is_away(scaled: Scaled, figures: Figures) -> None:
    installation = scaled.installation
    scale = ("scale", f"statefulset/{installation.name('postgres')}", "--namespace", installation.namespace)
    with watched(installation) as watch:
        began = time.time()
        with scaled.load() as load:
            load.send(*(no_op("ai_generation", seconds=60) for _ in range(2 * MOST)))
            watch.wait(lambda look: look.ready["ai"] == MOST, seconds=SECONDS, what="all workers", since=began)
            away = time.time()
            installation.cluster.kubectl(*scale, "--replicas=0")
            try:
                # Longer than KEDA needs to take one away, or to call its fallback.
                watch.wait(lambda look: look.at > away + 4 * COOLDOWN, seconds=SECONDS, what="some time has passed")
                assert {(look.wanted["ai"], look.wanted["learning"]) for look in watch.looks if look.at > away} == {
                    (MOST, 0)
                }
            finally:
                installation.cluster.kubectl(*scale, "--replicas=1")
            installation.wait_ready("postgres")
        again = time.time()
        done = scaled.ledger.settle(SECONDS * 2)
        scaled.at_rest(watch, done)
    verdict = scaled.judged(load)
    figures.note(ROW, f"PostgreSQL away for {again - away:.0f} s: its tasks ended after its return", done - again)
    figures.note(ROW, "PostgreSQL away: lost", len(verdict.lost), COUNTED)


def test_each_queue_has_a_worker_while_the_database_refuses_the_question(scaled: Scaled, figures: Figures) -> None:
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
    figures.note(ROW, "PostgreSQL refuses KEDA's question: one worker of each by the fallback", came - refused)
