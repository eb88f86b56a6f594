"""What the wrapper around a task's function does when the database fails between a message and a committed end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Ignore
from core.tests.task_laws.world import KNOWN, ONCE, PLAIN, Counted, Work, World
from sqlalchemy.exc import OperationalError

from sicargabox_core.db import Database
from sicargabox_core.settings import load_settings
from sicargabox_core.tasks import store, worker
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import State
from sicargabox_core.tasks.worker import WorkerRuntime


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    database = Database(sqlite_url)
    yield World(database)
    database.dispose()


@pytest.fixture
def celery(sqlite_url: str, redis_url: str) -> Iterator[Celery]:
    celery = make_celery(load_settings(database_url=sqlite_url, redis_url=redis_url), "tests")
    yield celery
    celery.close()


@pytest.fixture
def runtime(sqlite_url: str, redis_url: str, tmp_path: Path, celery: Celery) -> Iterator[WorkerRuntime]:
    settings = load_settings(database_url=sqlite_url, redis_url=redis_url, data_dir=tmp_path)
    runtime = WorkerRuntime(settings, celery, "tests")
    runtime.specs |= KNOWN
    yield runtime
    runtime.publisher.stop()
    runtime.database.dispose()


def run(runtime: WorkerRuntime, task_id: str) -> Any:
    def count(payload: Work, _ctx: TaskContext) -> Counted:
        return Counted(lines=payload.size)

    runtime.handlers[PLAIN.name] = count
    return worker._run(runtime, PLAIN, task_id)


def away() -> OperationalError:
    return OperationalError("UPDATE tasks", {}, Exception("database is locked"))


def test_a_message_is_kept_while_the_database_is_busy(
    runtime: WorkerRuntime, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, answers = store.claim, [away(), away()]

    def claim(*arguments: Any, **more: Any) -> store.Claim | None:
        if answers:
            raise answers.pop()
        return real(*arguments, **more)

    monkeypatch.setattr(store, "claim", claim)
    monkeypatch.setattr(worker, "CLAIM_PAUSE_SECONDS", 0.0)
    task = world.submitted(payload=Work(size=3))
    assert run(runtime, task) == {"lines": 3, "word": ""}
    assert world.view(task).state is State.SUCCESS


def test_a_message_is_let_go_when_the_database_stays_away(
    runtime: WorkerRuntime, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claim(*_: Any, **__: Any) -> None:
        raise away()

    monkeypatch.setattr(store, "claim", claim)
    monkeypatch.setattr(worker, "CLAIM_RETRY_SECONDS", 0.0)
    with pytest.raises(OperationalError):
        run(runtime, world.submitted())


@pytest.mark.parametrize("kind", ["alone", "child"])
def test_a_commit_whose_answer_got_lost_is_told_all_the_same(
    runtime: WorkerRuntime, world: World, celery: Celery, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    real, lost = worker._commit, [True]

    def commit(*arguments: Any) -> store.Transition:
        transition = real(*arguments)
        if lost.pop() if lost else False:
            raise away()
        return transition

    monkeypatch.setattr(worker, "_commit", commit)
    if kind == "alone":
        task = told = world.submitted()
    else:
        told, (task,) = world.parent(1)
    with pytest.raises(Ignore):
        run(runtime, task)
    assert world.view(task).state is State.SUCCESS
    assert celery.AsyncResult(told).state == "SUCCESS"


def test_a_message_under_another_name_runs_what_the_row_says(runtime: WorkerRuntime, world: World) -> None:
    task_id = world.submit(PLAIN, payload=Work(size=3)).task.id

    def never(_payload: Work, _ctx: TaskContext) -> Counted:
        raise AssertionError("the payload of one task reached the function of another")

    runtime.handlers[PLAIN.name] = lambda payload, _ctx: Counted(lines=payload.size)
    runtime.handlers[ONCE.name] = never
    assert worker._run(runtime, ONCE, task_id) == {"lines": 3, "word": ""}
