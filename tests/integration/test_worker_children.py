"""Children that are renewed and tasks that kill theirs: nothing is lost, nobody else waits, no worker exits."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sicargabox_core import observability
from sicargabox_core.tasks.contracts import Queue, State
from tests.servers.ports import free_port, wait_until
from tests.servers.valkey import ValkeyServer
from tests.task_system.probe_specs import ACT
from tests.task_system.system import DEADLINE, TaskSystem, Worker


@pytest.fixture(params=["sqlite", "postgres"])
def system(request: pytest.FixtureRequest, private_valkey: ValkeyServer, tmp_path: Path) -> Iterator[TaskSystem]:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    url = request.getfixturevalue(f"{request.param}_url")
    with TaskSystem.running(url, private_valkey, tmp_path) as system:
        system.environment[observability.MULTIPROCESS_DIR] = str(metrics)
        yield system


def _worker(system: TaskSystem, children: int = 1, **settings: object) -> Worker:
    system.environment |= {f"SICARGABOX_{name.upper()}": str(value) for name, value in settings.items()}
    return system.start_worker(Queue.ELASTICSEARCH, concurrency=children)


# --- renewing --------------------------------------------------------------------------------------------------------
def test_a_child_that_has_grown_is_renewed_between_two_tasks(system: TaskSystem) -> None:
    worker = _worker(system, worker_max_memory_per_child_kb=250_000)
    name = system.present()
    ids = [
        system.submit(ACT, how=how, seconds=300, note=f"{how}-{number}")
        for number in range(3)
        for how in ("grow", "return")
    ]
    ended = [system.wait_final(task_id, 60) for task_id in ids]
    assert {(task.state, task.attempt, task.failures) for task in ended} == {(State.SUCCESS, 1, 0)}
    pids = {one["pid"] for one in system.runs()}
    assert len(pids) >= 3, "no child was renewed"
    assert {task.worker for task in ended} == name == system.present()
    assert worker.process.poll() is None


def test_renewing_children_leaves_no_connection_and_no_file_behind_and_forgets_no_count(system: TaskSystem) -> None:
    port = free_port()
    worker = _worker(system, children=2, worker_max_tasks_per_child=1, worker_port=port)
    ids = [system.submit(ACT, note=f"one-{number}") for number in range(20)]
    ended = [system.wait_final(task_id, 60) for task_id in ids]
    assert {(task.state, task.attempt, task.failures) for task in ended} == {(State.SUCCESS, 1, 0)}
    assert len({one["pid"] for one in system.runs()}) == 20
    assert worker.process.poll() is None
    wait_until(lambda: _counted(port) == 20, seconds=DEADLINE, what="every attempt is counted")
    folder = Path(system.environment[observability.MULTIPROCESS_DIR])

    def forgotten() -> bool:
        counted = _counted(port)
        return counted == 20 and len(list(folder.glob("counter_*.db"))) <= 4

    wait_until(forgotten, seconds=DEADLINE, what="the files of those that ended are one")
    if not system.database.is_sqlite:
        # The parent's, two children's with a heartbeat each, the scheduler's and this test's.
        wait_until(lambda: _connections(system) <= 8, seconds=DEADLINE, what="no child's connection is left")


def _counted(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "sicargabox_task_attempts_total"
    )


def _connections(system: TaskSystem) -> int:
    with psycopg2.connect(system.settings.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        row = cursor.fetchone()
    return int(row[0]) if row else 0


# --- poison ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("how", "children"), [("die", 1), ("leave", 2), ("freeze", 1)])
@pytest.mark.parametrize("system", ["sqlite"], indirect=True)
def test_a_task_that_always_ends_its_process_fails_and_stops_nobody(
    system: TaskSystem, how: str, children: int
) -> None:
    worker = _worker(system, children)
    poison = system.submit(ACT, how=how, note="poison")
    system.wait_begun(poison)
    others = [system.submit(ACT, note=f"other-{number}") for number in range(5)]
    for task_id in others:
        assert system.wait_final(task_id, 60).state is State.SUCCESS
    task = system.wait_final(poison, 120)
    assert (task.state, task.error_code, task.failures) == (State.FAILURE, "lease_expired", task.max_attempts)
    assert task.error_message is not None
    assert "ended or froze its process" in task.error_message
    assert len(system.runs(poison)) == task.max_attempts
    assert worker.process.poll() is None, worker.log[-3000:]
    assert system.wait_final(system.submit(ACT)).state is State.SUCCESS
