"""The laws of durable tasks with real workers and a real Redis-protocol server, on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sicargabox_core.db import Database, migrate
from sicargabox_core.tasks.contracts import Queue
from tests.servers.valkey import ValkeyServer
from tests.task_system.laws import TaskLaws
from tests.task_system.system import TaskSystem


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskSystem]:
    """One small installation for all laws: it has to survive each of them."""
    folder: Path = tmp_path_factory.mktemp("tasks")
    url = f"sqlite:///{folder / 'sicargabox.db'}"
    database = Database(url)
    migrate(database)
    database.dispose()
    valkey = ValkeyServer()
    valkey.start()
    try:
        with TaskSystem.running(url, valkey, folder) as system:
            system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
            yield system
    finally:
        valkey.stop()


class TestOnSqlite(TaskLaws):
    """Every law, on the embedded database."""
