"""The no-op: ends at once or lasts as long as asked, and listens meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import ValidationError

from sicargabox_core.db import Database
from sicargabox_core.settings import load_settings
from sicargabox_core.tasks import store, trial
from sicargabox_core.tasks.context import AttemptLost, TaskCancelled, TaskContext
from sicargabox_core.tasks.contracts import TASKS, NoOp, Nothing, Queue


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Told(TaskContext):
    """A context that keeps what it was told."""

    def __init__(self, database: Database) -> None:
        super().__init__(settings=load_settings(), database=database, task_id="t", name="n", attempt=1, request_id=None)
        self.told: list[store.Progress] = []

    def progress(self, current: int, total: int | None, message: str = "") -> None:
        self.told.append(store.Progress(current, total, message))
        super().progress(current, total, message)


@pytest.fixture
def context(sqlite_url: str) -> Told:
    return Told(Database(sqlite_url))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(trial, "time", clock)
    return clock


def test_a_no_op_is_known_on_every_queue_and_outlasts_its_own_longest() -> None:
    known = [spec for spec in TASKS.values() if spec.payload is NoOp]
    assert sorted(spec.queue for spec in known) == sorted(Queue)
    assert {(spec.role, spec.startable) for spec in known} == {("admin", True)}
    assert all(spec.time_limit > 600 for spec in known)


@pytest.mark.parametrize("seconds", [-1, 601, float("nan"), float("inf")])
def test_a_no_op_that_would_outlast_its_limit_is_refused(seconds: float) -> None:
    with pytest.raises(ValidationError):
        NoOp(seconds=seconds)


def test_a_no_op_without_seconds_waits_for_nothing_and_tells_nothing(context: Told, clock: Clock) -> None:
    assert trial.no_op(NoOp(note="hello"), context) == Nothing()
    assert (clock.now, context.told) == (1000.0, [])


def test_a_lasting_no_op_lasts_as_long_as_asked_and_tells_of_each_second(context: Told, clock: Clock) -> None:
    assert trial.no_op(NoOp(seconds=3.5), context) == Nothing()
    assert clock.now == pytest.approx(1003.5)
    assert [(one.current, one.total, one.message) for one in context.told] == [
        (1, 4, "1/4 seconds"),
        (2, 4, "2/4 seconds"),
        (3, 4, "3/4 seconds"),
    ]


@pytest.mark.parametrize(("news", "raised"), [("cancel", TaskCancelled), ("lose", AttemptLost)])
def test_a_lasting_no_op_stops_when_it_is_cancelled_or_another_has_its_row(
    context: Told, news: str, raised: type[BaseException]
) -> None:
    ended: list[Any] = []

    def run() -> None:
        with pytest.raises(raised):
            trial.no_op(NoOp(seconds=600), context)
        ended.append(True)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    getattr(context, news)()
    thread.join(30)
    assert ended == [True]
