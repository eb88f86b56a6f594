"""The queues as people see them; looking takes nothing away."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from sicargabox_core.db import Database
from sicargabox_core.errors import Unavailable
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.settings import Settings, load_settings
from sicargabox_core.tasks import presence, queues, store
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.contracts import GENERATE_KEYWORDS_CHUNK, NO_OP, GenerateKeywordsChunk, NoOp
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.queues import QueueFigures, RedisBroker, queue_figures, queue_messages
from sicargabox_core.tasks.reconcile import EMPTY
from sicargabox_core.tasks.store import TaskView
from tests.servers.valkey import ValkeyServer


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return load_settings(redis_url=redis_url)


@pytest.fixture
def publisher(settings: Settings) -> Iterator[Publisher]:
    publisher = Publisher(settings, make_celery(settings, "tests"))
    yield publisher
    publisher.stop()


def submit(database: Database, **more: object) -> TaskView:
    with database.write() as session:
        return store.submit(session, NO_OP, NoOp(), initiated_by="user:test", **more).task  # type: ignore[arg-type]  # mixed


def milliseconds(task: TaskView) -> datetime:
    """The stamp as a message carries it."""
    assert task.published_at is not None
    return datetime.fromtimestamp(round(task.published_at.timestamp() * 1000) / 1000, UTC)


def figures(database: Database, settings: Settings, queue: str) -> QueueFigures:
    with connect(settings, Db.BROKER) as broker:
        return {one.queue: one for one in queue_figures(database, broker)}[queue]


def test_a_queue_tells_what_waits_what_is_delayed_and_what_runs(database: Database, settings: Settings) -> None:
    submit(database)
    submit(database)
    submit(database, run_at=database.now() + timedelta(hours=1))
    running = submit(database)
    store.claim(database, running.id, worker="w", lease_seconds=30, known={NO_OP.name: NO_OP})
    seen = figures(database, settings, "celery")
    assert (seen.waiting, seen.delayed, seen.running) == (2, 1, 1)
    assert seen.oldest_age_seconds >= 0
    assert figures(database, settings, "learning").waiting == 0


def test_many_tasks_are_not_counted_anew_for_everyone_who_looks(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "KEPT_TIMES_ITS_COST", 1_000_000)
    submit(database)
    assert figures(database, settings, "celery").waiting == 1
    submit(database)
    assert figures(database, settings, "celery").waiting == 2  # few: counted anew
    monkeypatch.setattr(queues, "MANY", 2)
    assert figures(database, settings, "celery").waiting == 2
    submit(database)
    assert figures(database, settings, "celery").waiting == 2


def test_a_parent_that_waits_for_its_children_does_not_run(database: Database, settings: Settings) -> None:
    parent = submit(database)
    claim = store.claim(database, parent.id, worker="w", lease_seconds=30, known={NO_OP.name: NO_OP})
    assert claim is not None
    child = store.Child(spec=GENERATE_KEYWORDS_CHUNK, payload=GenerateKeywordsChunk(codes=["0101"]))
    with database.write() as session:
        store.finish_success(session, parent.id, claim.attempt, {}, [child])
    assert figures(database, settings, "celery").running == 0
    assert figures(database, settings, "ai_generation").waiting == 1


def test_a_queue_names_its_workers_until_they_fall_silent(database: Database, settings: Settings) -> None:
    with connect(settings, Db.BROKER) as broker:
        presence.tell(broker, presence.Presence("indexer@a/1", ("celery", "elasticsearch"), 4))
        presence.tell(broker, presence.Presence("learning@a/2", ("learning",), 1))
        assert figures(database, settings, "celery").workers == 1
        assert figures(database, settings, "learning").workers == 1
        presence.forget(broker, "learning@a/2")
        broker.delete("sicargabox:worker:indexer@a/1")  # as its TTL would
        assert figures(database, settings, "celery").workers == 0
        assert figures(database, settings, "learning").workers == 0


def test_sql_answers_while_redis_is_away(database: Database, private_valkey: ValkeyServer) -> None:
    private_valkey.kill()
    submit(database)
    seen = figures(database, load_settings(redis_url=private_valkey.url), "celery")
    assert (seen.waiting, seen.workers, seen.published) == (1, None, None)


def test_looking_at_messages_removes_none(database: Database, settings: Settings, publisher: Publisher) -> None:
    tasks = [submit(database, request_id=f"r{number}") for number in range(3)]
    publisher.publish(tasks)
    assert publisher.flush()
    with connect(settings, Db.BROKER) as broker:
        broker.lpush("celery", b"not a message")
        seen = queue_messages(broker, "celery", 10)
        assert [one.id for one in seen[:3]] == [task.id for task in tasks]
        assert [one.request_id for one in seen[:3]] == ["r0", "r1", "r2"]
        assert seen[0].published_at == milliseconds(tasks[0])
        assert not seen[3].readable
        assert broker.llen("celery") == 4
        assert [one.id for one in queue_messages(broker, "celery", 1)] == [tasks[0].id]
    assert figures(database, settings, "celery").published == 4


def test_messages_of_a_redis_that_is_away_are_unavailable(private_valkey: ValkeyServer) -> None:
    settings = load_settings(redis_url=private_valkey.url)
    private_valkey.kill()
    with connect(settings, Db.BROKER) as broker, pytest.raises(Unavailable):
        queue_messages(broker, "celery")


def test_the_oldest_message_tells_its_stamp(database: Database, settings: Settings, publisher: Publisher) -> None:
    view = RedisBroker(settings)
    assert view.oldest_message_published_at("celery") is EMPTY
    first, second = submit(database), submit(database)
    publisher.publish([first, second])
    assert publisher.flush()
    assert view.oldest_message_published_at("celery") == milliseconds(first)
    with connect(settings, Db.BROKER) as broker:
        broker.rpush("celery", b"garbage that will be taken next")
    assert view.oldest_message_published_at("celery") is None


def test_a_broker_that_is_away_is_unavailable(private_valkey: ValkeyServer) -> None:
    view = RedisBroker(load_settings(redis_url=private_valkey.url))
    private_valkey.kill()
    with pytest.raises(Unavailable):
        view.oldest_message_published_at("celery")
