"""How much fits: measured as it is really written, with nothing left behind."""

from __future__ import annotations

import pytest

from sicargabox_core.db import Database
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.settings import load_settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.capacity import (
    RECORDED_MESSAGE_BYTES,
    RECORDED_RESULT_BYTES,
    capacity,
    typical_entry,
    typical_message,
)
from sicargabox_core.tasks.contracts import TASKS, UPDATE_LINES, UpdateLines
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.results import KEY_PREFIX, ResultEntries
from tests.servers.ports import free_port
from tests.servers.valkey import ValkeyServer


def test_measuring_leaves_nothing_behind_and_is_near_what_is_recorded(private_valkey: ValkeyServer) -> None:
    found = capacity(load_settings(redis_url=private_valkey.url))
    assert found.measured
    assert found.message_bytes == pytest.approx(RECORDED_MESSAGE_BYTES, rel=0.2)
    assert found.result_bytes == pytest.approx(RECORDED_RESULT_BYTES, rel=0.2)
    assert found.waiting_in_budget == int(50 * 2**20 / found.message_bytes)
    assert found.results_per_second == pytest.approx(100 * 2**20 / found.result_bytes / 604_800, rel=1e-3)
    for db in (0, 1):
        with private_valkey.client(db) as client:
            assert client.dbsize() == 0


def test_a_full_redis_and_one_that_is_away_are_told_by_recorded_figures(private_valkey: ValkeyServer) -> None:
    with private_valkey.client() as client:
        client.config_set("maxmemory", "1mb")
    for url in (private_valkey.url, f"redis://127.0.0.1:{free_port()}"):
        found = capacity(load_settings(redis_url=url))
        assert (found.measured, found.message_bytes) == (False, RECORDED_MESSAGE_BYTES)
    with private_valkey.client() as client:
        assert client.dbsize() == 0


@pytest.fixture
def written(private_valkey: ValkeyServer, sqlite_url: str) -> tuple[ValkeyServer, bytes, bytes]:
    """What the product itself writes for one such task: its message and its entry."""
    settings = load_settings(redis_url=private_valkey.url, database_url=sqlite_url)
    database = Database.from_settings(settings)
    publisher = Publisher(settings, make_celery(settings, "api"))
    with database.write() as session:
        task = store.submit(
            session, UPDATE_LINES, UpdateLines(codes=["8518300000"]), initiated_by="user:ana", request_id="f" * 32
        ).task
    publisher.publish([task])
    assert publisher.flush()
    claim = store.claim(database, task.id, worker="w", lease_seconds=30, known=TASKS)
    assert claim is not None
    with database.write() as session:
        store.finish_success(session, task.id, claim.attempt, {"updated": 12, "deleted": 0})
    with database.read() as session:
        assert ResultEntries(settings).write(store.get(session, task.id))
    publisher.stop()
    database.dispose()
    with connect(settings, Db.BROKER) as broker, connect(settings, Db.RESULTS) as results:
        message: bytes = broker.lindex(UPDATE_LINES.queue.value, 0)
        entry: bytes = results.get(KEY_PREFIX + task.id)
    return private_valkey, message, entry


def test_what_is_measured_is_as_long_as_what_is_written(written: tuple[ValkeyServer, bytes, bytes]) -> None:
    server, message, entry = written
    measured = typical_message(load_settings(redis_url=server.url))
    # The name of host and process differ by some letters.
    assert len(measured) == pytest.approx(len(message), abs=30)
    assert len(typical_entry("0" * 36)) == pytest.approx(len(entry), abs=12)
