"""The laws of durable tasks with real workers and a real Redis-protocol server, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sicargabox_core.tasks.contracts import Queue
from tests.servers.postgres import PostgresCluster
from tests.servers.valkey import ValkeyServer
from tests.task_system.laws import TaskLaws
from tests.task_system.system import TaskSystem


@pytest.fixture(scope="module")
def system(_postgres: PostgresCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskSystem]:
    """One small installation for all laws: it has to survive each of them."""
    valkey = ValkeyServer()
    valkey.start()
    url = _postgres.create()
    system = TaskSystem(url, valkey, tmp_path_factory.mktemp("tasks"))
    try:
        system.start_scheduler()
        system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
        yield system
    finally:
        system.close()
        valkey.stop()
        _postgres.drop(url)


class TestOnPostgres(TaskLaws):
    """Every law, on the server's database."""
