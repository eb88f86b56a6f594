"""SIGTERM at the worst moments: a worker ends within its grace, and what it held is run by others at no cost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sicargabox_core.tasks.contracts import Queue, State
from tests.servers.ports import wait_until
from tests.servers.postgres import PostgresCluster, required_programs
from tests.servers.valkey import ValkeyServer
from tests.task_system.probe_specs import ACT
from tests.task_system.system import SHORT, TaskSystem, Worker

# What the cold path of Celery takes after the deadline on a busy machine. A worker that hangs takes for ever.
AFTER_THE_DEADLINE = 15.0


@pytest.fixture
def system(sqlite_url: str, private_valkey: ValkeyServer, tmp_path: Path) -> Iterator[TaskSystem]:
    with TaskSystem.running(sqlite_url, private_valkey, tmp_path) as system:
        yield system


def _ends(worker: Worker, *, again: int = 0) -> None:
    """Asks the worker to stop, ``again`` several times; one that does not stop fails the test."""
    worker.signal(signal.SIGTERM)
    for _ in range(again):
        time.sleep(0.05)
        worker.signal(signal.SIGTERM)
    worker.wait(SHORT["drain_seconds"] + AFTER_THE_DEADLINE)


def _all_succeed_at_no_cost(system: TaskSystem, ids: list[str]) -> None:
    for task_id in ids:
        task = system.wait_final(task_id, 60)
        assert (task.state, task.failures) == (State.SUCCESS, 0), (task.attempt, task.error_message)


def test_a_worker_told_to_stop_while_redis_is_away_stops_and_gives_back(system: TaskSystem) -> None:
    worker = system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
    ids = [system.submit(ACT, how="sleep", seconds=60, once=True, note=f"held-{number}") for number in range(2)]
    for task_id in ids:
        system.wait_begun(task_id)
    system.valkey.kill()
    wait_until(lambda: "Connection to broker lost" in worker.log, seconds=30, what="the worker notices")
    _ends(worker)
    assert {system.task(task_id).state for task_id in ids} == {State.PENDING}
    system.valkey.start()
    system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
    _all_succeed_at_no_cost(system, ids)


def test_a_worker_told_to_stop_several_times_stops_once_and_gives_back(system: TaskSystem) -> None:
    worker = system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
    ids = [system.submit(ACT, how="sleep", seconds=60, once=True, note=f"held-{number}") for number in range(2)]
    for task_id in ids:
        system.wait_begun(task_id)
    ids += [system.submit(ACT, note=f"waiting-{number}") for number in range(4)]
    _ends(worker, again=4)
    system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
    _all_succeed_at_no_cost(system, ids)


def test_a_worker_told_to_stop_while_it_starts_stops(system: TaskSystem) -> None:
    ids: list[str] = []
    for moment in ("children are renewed by size", "Connected to", "received"):
        # Anew for each: the one before may have done all that waited, and a worker without work receives nothing.
        ids += [system.submit(ACT, note=f"waiting-{number}") for number in range(5)]
        worker = system.start_worker(Queue.ELASTICSEARCH, concurrency=2, ready=False)
        _reaches(worker, moment)
        _ends(worker)
    system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
    _all_succeed_at_no_cost(system, ids)


def test_workers_told_to_stop_again_and_again_under_load_end_in_time_and_lose_nothing(system: TaskSystem) -> None:
    ids: list[str] = []
    for number in range(5):
        worker = system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
        ids += [system.submit(ACT, how="sleep", seconds=0.1, note=f"load-{number}-{one}") for one in range(30)]
        system.wait_begun(ids[-30])
        _ends(worker)
    system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
    _all_succeed_at_no_cost(system, ids)
    assert {len(system.runs(task_id, "end")) for task_id in ids} == {1}


def _reaches(worker: Worker, moment: str) -> None:
    wait_until(lambda: moment in worker.log, seconds=60, what=f"the worker says: {moment}", interval=0.005)


@pytest.fixture
def own_postgres() -> Iterator[PostgresCluster]:
    cluster = PostgresCluster(required_programs())
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def test_a_worker_told_to_stop_while_the_database_is_away_stops(
    own_postgres: PostgresCluster, private_valkey: ValkeyServer, tmp_path: Path
) -> None:
    system = TaskSystem(own_postgres.create(), private_valkey, tmp_path)
    try:
        system.start_scheduler()
        worker = system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
        task_id = system.submit(ACT, how="sleep", seconds=60, once=True, note="held")
        system.wait_begun(task_id)
        own_postgres.stop()
        _ends(worker)
        print(worker.log[-3000:])
    finally:
        system.close()
