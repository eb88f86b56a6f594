"""The no-op of each queue, in the worker of the product that serves it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sicargabox_core.tasks.contracts import (
    AI_NO_OP,
    LEARNING_NO_OP,
    NO_OP,
    SEARCH_NO_OP,
    NoOp,
    Nothing,
    Queue,
    State,
    TaskSpec,
)
from sicargabox_core.tasks.store import TaskView
from tests.servers.ports import wait_until
from tests.servers.valkey import ValkeyServer
from tests.task_system.system import DEADLINE, TaskSystem

WORKERS: dict[str, tuple[TaskSpec[NoOp, Nothing], ...]] = {
    "sicargabox_indexer.app": (SEARCH_NO_OP, NO_OP),
    "sicargabox_ai.app": (AI_NO_OP,),
    "sicargabox_learning.app": (LEARNING_NO_OP,),
}


@pytest.fixture
def system(sqlite_url: str, private_valkey: ValkeyServer, tmp_path: Path) -> Iterator[TaskSystem]:
    with TaskSystem.running(sqlite_url, private_valkey, tmp_path) as system:
        yield system


def _start(system: TaskSystem, spec: TaskSpec[NoOp, Nothing], seconds: float = 0) -> str:
    return system.service.submit(spec, NoOp(seconds=seconds), initiated_by="user:test").task.id


def _works(system: TaskSystem, task_id: str) -> TaskView:
    """The row once the task has told of its first seconds."""
    return wait_until(
        lambda: task if (task := system.task(task_id)).progress_current else None,
        seconds=DEADLINE,
        what="the no-op works",
    )


@pytest.mark.parametrize("app", WORKERS)
def test_a_no_op_succeeds_on_each_queue(system: TaskSystem, app: str) -> None:
    specs = WORKERS[app]
    system.start_worker(*(spec.queue for spec in specs), app=app)
    for task_id in [_start(system, spec) for spec in specs]:
        task = system.wait_final(task_id)
        assert (task.state, task.result, task.attempt, task.failures) == (State.SUCCESS, {}, 1, 0)


def test_a_lasting_no_op_shows_its_seconds_and_can_be_cancelled(system: TaskSystem) -> None:
    worker = system.start_worker(Queue.AI_GENERATION, app="sicargabox_ai.app")
    task_id = _start(system, AI_NO_OP, seconds=600)
    task = _works(system, task_id)
    assert (task.shown_state, task.progress_total) == ("PROGRESS", 600)
    assert system.service.cancel(task_id, by="user:test").requested
    assert system.wait_final(task_id).state is State.REVOKED
    # The child heard it and was not ended for it: it does the next task.
    assert system.wait_final(_start(system, AI_NO_OP)).state is State.SUCCESS
    assert "did not stop" not in worker.log


def test_a_lasting_no_op_is_given_back_by_a_drain_at_no_attempts_cost(system: TaskSystem) -> None:
    worker = system.start_worker(Queue.LEARNING, app="sicargabox_learning.app")
    task_id = _start(system, LEARNING_NO_OP, seconds=600)
    _works(system, task_id)
    worker.signal(signal.SIGTERM)
    worker.wait()
    task = system.task(task_id)
    assert (task.state, task.failures) == (State.PENDING, 0)
    system.start_worker(Queue.LEARNING, app="sicargabox_learning.app")
    wait_until(lambda: system.task(task_id).attempt == 2, seconds=DEADLINE, what="another worker takes it")
    system.service.cancel(task_id, by="user:test")
    assert system.wait_final(task_id).failures == 0
