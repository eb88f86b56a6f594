"""Celery's result entries: what AsyncResult says is what the row says, and never goes backwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from sicargabox_core.db import Database
from sicargabox_core.errors import TaskFailed
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.settings import Settings, load_settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.contracts import NO_OP, NoOp
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.results import LiveProgress, ResultEntries
from sicargabox_core.tasks.service import TaskService
from tests.servers.valkey import ValkeyServer

KNOWN = {NO_OP.name: NO_OP}


class Bench:
    """A task whose row is moved by hand, and everything that reads it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database.from_settings(settings)
        self.celery: Celery = make_celery(settings, "tests")
        self.results = ResultEntries(settings)
        self.service = TaskService(self.database, Publisher(settings, self.celery), self.results)
        with self.database.write() as session:
            self.id = store.submit(session, NO_OP, NoOp(), initiated_by="user:test").task.id

    def claim(self) -> int:
        claim = store.claim(self.database, self.id, worker="w", lease_seconds=30, known=KNOWN)
        assert claim is not None
        return claim.attempt

    def write(self) -> None:
        with self.database.read() as session:
            task = store.get(session, self.id)
        assert self.results.write(task)

    @property
    def seen(self) -> Any:
        return self.celery.AsyncResult(self.id)


@pytest.fixture
def bench(redis_url: str, sqlite_url: str) -> Iterator[Bench]:
    bench = Bench(load_settings(redis_url=redis_url, database_url=sqlite_url))
    yield bench
    bench.database.dispose()
    bench.celery.close()


def test_pending_before_anything_is_written(bench: Bench) -> None:
    assert bench.seen.state == "PENDING"
    bench.write()
    assert bench.seen.state == "PENDING"


def test_started_names_the_worker(bench: Bench) -> None:
    bench.claim()
    bench.write()
    assert bench.seen.state == "STARTED"
    assert bench.seen.info == {"hostname": "w", "attempt": 1}


def test_progress_carries_its_numbers(bench: Bench) -> None:
    attempt = bench.claim()
    store.heartbeat(bench.database, bench.id, attempt, 30, store.Progress(500, 7495, "documents indexed"))
    bench.write()
    assert bench.seen.state == "PROGRESS"
    assert bench.seen.info == {"current": 500, "total": 7495, "message": "documents indexed", "attempt": 1}


def test_success_carries_the_result_and_when_it_ended(bench: Bench) -> None:
    attempt = bench.claim()
    with bench.database.write() as session:
        store.finish_success(session, bench.id, attempt, {"documents": 3})
    bench.write()
    assert bench.seen.state == "SUCCESS"
    assert bench.seen.result == {"documents": 3}
    assert bench.seen.date_done == bench.service.get(bench.id).finished_at


def test_failure_is_an_exception_without_a_traceback(bench: Bench) -> None:
    attempt = bench.claim()
    with bench.database.write() as session:
        store.fail(session, bench.id, attempt, code="broken", message="no good", traceback="secret frames")
    bench.write()
    assert bench.seen.state == "FAILURE"
    assert isinstance(bench.seen.result, TaskFailed)
    assert str(bench.seen.result) == "broken: no good"
    assert bench.seen.traceback is None
    with connect(bench.settings, Db.RESULTS) as client:
        assert b"secret" not in bytes(client.get(f"celery-task-meta-{bench.id}"))


def test_retry_tells_the_error_that_made_it_wait(bench: Bench) -> None:
    attempt = bench.claim()
    with bench.database.write() as session:
        store.retry_later(session, bench.id, attempt, code="unavailable", message="away")
    bench.write()
    assert bench.seen.state == "RETRY"
    assert str(bench.seen.info) == "unavailable: away"


def test_revoked_is_celerys_own_exception(bench: Bench) -> None:
    bench.service.cancel(bench.id, by="user:test")
    bench.write()
    assert bench.seen.state == "REVOKED"
    assert type(bench.seen.result).__name__ == "TaskRevokedError"


def test_entries_expire(bench: Bench) -> None:
    bench.write()
    with connect(bench.settings, Db.RESULTS) as client:
        assert 0 < int(client.ttl(f"celery-task-meta-{bench.id}")) <= bench.settings.result_ttl_seconds


def test_an_earlier_word_never_replaces_a_later_one(bench: Bench) -> None:
    attempt = bench.claim()
    with bench.database.write() as session:
        store.finish_success(session, bench.id, attempt, {})
    bench.write()
    bench.results.started(bench.id, worker="thawed", attempt=1)
    bench.results.progress(bench.id, LiveProgress(1, 5, 10, ""))
    assert bench.seen.state == "SUCCESS"


def test_a_new_attempt_replaces_the_end_of_the_one_before(bench: Bench) -> None:
    attempt = bench.claim()
    with bench.database.write() as session:
        store.retry_later(session, bench.id, attempt, code="unavailable", message="away", delay=0)
    bench.write()
    bench.results.started(bench.id, worker="w", attempt=2)
    assert bench.seen.state == "STARTED"


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's own call
def test_what_celery_says_of_an_unknown_message_is_put_right(bench: Bench) -> None:
    bench.celery.backend.mark_as_failure(bench.id, ValueError("NotRegistered"))
    assert bench.seen.state == "FAILURE"
    bench.write()
    assert bench.seen.state == "PENDING"


def test_the_service_shows_fresher_progress_of_the_same_attempt_only(bench: Bench) -> None:
    attempt = bench.claim()
    store.heartbeat(bench.database, bench.id, attempt, 30, store.Progress(10, 100, "row"))
    bench.results.progress(bench.id, LiveProgress(attempt, 20, None, "live"))
    task = bench.service.get(bench.id)
    assert (task.progress_current, task.progress_total, task.progress_message) == (20, 100, "live")
    assert task.shown_state == "PROGRESS"
    bench.results.progress(bench.id, LiveProgress(attempt + 1, 99, 100, "another attempt"))
    assert bench.service.get(bench.id).progress_current == 10


@pytest.mark.parametrize(
    "entry",
    [b"not json", b"[]", b"{}", b'{"status": "PROGRESS"}', b'{"status": "PROGRESS", "result": {"attempt": []}}'],
)
def test_what_somebody_else_wrote_is_no_progress(bench: Bench, entry: bytes) -> None:
    bench.claim()
    with connect(bench.settings, Db.RESULTS) as client:
        client.set(f"celery-task-meta-{bench.id}", entry)
    assert bench.service.get(bench.id).progress_current is None


def test_without_redis_the_row_answers_and_nothing_is_raised(private_valkey: ValkeyServer, sqlite_url: str) -> None:
    bench = Bench(load_settings(redis_url=private_valkey.url, database_url=sqlite_url))
    private_valkey.kill()
    bench.claim()
    assert not bench.results.started(bench.id, worker="w", attempt=1)
    assert bench.results.read_progress(bench.id) is None
    assert bench.service.get(bench.id).shown_state == "STARTED"
    bench.database.dispose()
