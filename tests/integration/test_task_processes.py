"""The laws of durable tasks with real workers and a real Redis-protocol server, on PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg2
import pytest

from sicargabox_core.tasks.contracts import Queue, State
from tests.servers.postgres import PostgresCluster
from tests.servers.valkey import ValkeyServer
from tests.task_system.laws import TaskLaws
from tests.task_system.probe_specs import ACT
from tests.task_system.system import TaskSystem


@pytest.fixture(scope="module")
def system(_postgres: PostgresCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskSystem]:
    """One small installation for all laws: it has to survive each of them."""
    valkey = ValkeyServer()
    valkey.start()
    url = _postgres.create()
    try:
        with TaskSystem.running(url, valkey, tmp_path_factory.mktemp("tasks")) as system:
            system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
            yield system
    finally:
        valkey.stop()
        _postgres.drop(url)


class TestOnPostgres(TaskLaws):
    """Every law, on the server's database."""

    def test_lost_database_connections_cost_no_attempt(self, system: TaskSystem) -> None:
        task_id = system.submit(ACT, how="sleep", seconds=1.5, note="disconnected")
        system.wait_begun(task_id)
        connection = psycopg2.connect(system.settings.database_url)
        connection.autocommit = True
        try:
            # Over the time in which the task ends: heartbeats, claims and the end itself meet dead connections.
            with connection.cursor() as cursor:
                for _ in range(10):
                    cursor.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = 'sicargabox' AND datname = current_database()"
                    )
                    time.sleep(0.2)
        finally:
            connection.close()
        task = system.wait_final(task_id)
        assert (task.state, task.attempt, task.failures) == (State.SUCCESS, 1, 0)
        assert system.effects("disconnected") == 1
