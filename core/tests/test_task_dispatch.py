"""Publishing: in the background, bounded, behind a breaker, and never in anybody's way."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest

from sicargabox_core.settings import load_settings
from sicargabox_core.tasks.breaker import Breaker
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.dispatch import Publisher
from tests.servers.ports import wait_until
from tests.servers.valkey import ValkeyServer

STAMP = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """What a message is made of."""

    id: str
    name: str = "housekeeping.no_op"
    queue: str = "celery"
    published_at: datetime | None = STAMP
    request_id: str | None = "request-1"


@pytest.fixture
def publisher(private_valkey: ValkeyServer) -> Iterator[Publisher]:
    settings = load_settings(redis_url=private_valkey.url)
    publisher = Publisher(settings, make_celery(settings, "tests"), breaker_pause=0.2)
    yield publisher
    publisher.stop()


def messages(server: ValkeyServer) -> list[dict[str, object]]:
    with server.client() as client:
        return [json.loads(raw) for raw in client.lrange("celery", 0, -1)]


def test_a_message_names_the_row_and_carries_no_arguments(publisher: Publisher, private_valkey: ValkeyServer) -> None:
    publisher.publish([Row("a")])
    assert publisher.flush()
    (message,) = messages(private_valkey)
    headers = message["headers"]
    assert isinstance(headers, dict)
    assert (headers["id"], headers["task"]) == ("a", "housekeeping.no_op")
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("()", "{}")
    assert headers["published_at"] == round(STAMP.timestamp() * 1000)
    assert headers["request_id"] == "request-1"


@pytest.mark.parametrize("published_at", [STAMP, None])
@pytest.mark.parametrize("request_id", ["request-1", 'a"b', None])
@pytest.mark.parametrize("row_id", ["0192f0c1-5e7a-7cc3-9f5e-1c2d3e4f5a6b", 'a"b'])
def test_a_message_is_field_by_field_what_celery_sends(
    publisher: Publisher,
    private_valkey: ValkeyServer,
    published_at: datetime | None,
    request_id: str | None,
    row_id: str,
) -> None:
    row = Row(row_id, published_at=published_at, request_id=request_id)
    # Filled in twice, so that nothing of the first can be left in the second.
    publisher.publish([Row("another", published_at=published_at, request_id=request_id and "another"), row])
    assert publisher.flush()
    ours = messages(private_valkey)[0]
    with private_valkey.client() as client:
        client.delete("celery")
    headers: dict[str, object] = {"published_at": round(STAMP.timestamp() * 1000)} if published_at else {}
    headers |= {"request_id": request_id} if request_id else {}
    celery = make_celery(load_settings(redis_url=private_valkey.url), "another process")
    try:
        celery.send_task(
            row.name, task_id=row.id, queue=row.queue, headers=headers, ignore_result=True, add_to_parent=False
        )
    finally:
        celery.close()
    (theirs,) = messages(private_valkey)
    for message in (ours, theirs):
        properties = message["properties"]
        assert isinstance(properties, dict)
        # Random in each message, and the address of each sender for answers that nobody sends.
        for name in ("delivery_tag", "reply_to"):
            assert UUID(properties.pop(name)).version
    assert ours == theirs


def test_no_two_messages_have_one_delivery_tag(publisher: Publisher, private_valkey: ValkeyServer) -> None:
    # Two with one tag would be one to the worker that holds both unacknowledged.
    publisher.publish(Row(str(number)) for number in range(50))
    assert publisher.flush()
    assert len({message["properties"]["delivery_tag"] for message in messages(private_valkey)}) == 50  # type: ignore[index]


def test_messages_of_several_queues_reach_their_own(publisher: Publisher, private_valkey: ValkeyServer) -> None:
    publisher.publish(Row(str(number), queue="learning" if number % 2 else "celery") for number in range(1000))
    assert publisher.flush()
    with private_valkey.client() as client:
        for queue, rest in (("celery", 0), ("learning", 1)):
            ids = [json.loads(raw)["headers"]["id"] for raw in client.lrange(queue, 0, -1)]
            assert ids == [str(number) for number in reversed(range(1000)) if number % 2 == rest]


def test_messages_keep_their_order(publisher: Publisher, private_valkey: ValkeyServer) -> None:
    publisher.publish(Row(str(number)) for number in range(50))
    assert publisher.flush()
    with private_valkey.client() as client:
        taken = [json.loads(client.rpop("celery"))["headers"]["id"] for _ in range(50)]
    assert taken == [str(number) for number in range(50)]


def test_a_frozen_redis_holds_no_caller_up(publisher: Publisher, private_valkey: ValkeyServer) -> None:
    publisher.publish([Row("first")])
    assert publisher.flush()
    os.kill(private_valkey.pid, signal.SIGSTOP)
    try:
        # A thousand waits of a second each would run into the test's time limit.
        for number in range(1000):
            publisher.publish([Row(str(number))])
    finally:
        os.kill(private_valkey.pid, signal.SIGCONT)


def test_what_does_not_fit_into_the_queue_is_dropped(private_valkey: ValkeyServer) -> None:
    settings = load_settings(redis_url=private_valkey.url)
    publisher = Publisher(settings, make_celery(settings, "tests"), capacity=10)
    os.kill(private_valkey.pid, signal.SIGSTOP)
    try:
        publisher.publish(Row(str(number)) for number in range(1000))
    finally:
        os.kill(private_valkey.pid, signal.SIGCONT)
    publisher.stop()
    # Ten in the thread's hands and ten behind it.
    assert len(messages(private_valkey)) <= 20


def test_it_sends_again_after_redis_was_restarted(publisher: Publisher, private_valkey: ValkeyServer) -> None:
    publisher.publish([Row("before")])
    assert publisher.flush()
    private_valkey.kill()
    publisher.publish([Row("while away")])
    assert publisher.flush()
    private_valkey.start()

    def arrived() -> bool:
        publisher.publish([Row("after")])
        return publisher.flush() and len(messages(private_valkey)) > 0

    wait_until(arrived, seconds=20, what="a message arrives")


def test_a_full_redis_is_told_from_one_that_takes_messages(publisher: Publisher, private_valkey: ValkeyServer) -> None:
    publisher.publish([Row("before")])
    assert publisher.flush()
    before = publisher.refusing
    assert not before
    with private_valkey.client() as client:
        client.config_set("maxmemory", 1)
        publisher.publish([Row("too much")])
        assert publisher.flush()
        assert publisher.refusing
        assert client.llen("celery") == 1  # what waits is never evicted
        client.config_set("maxmemory", 0)

    def taken() -> bool:
        publisher.publish([Row("after")])
        return publisher.flush() and not publisher.refusing

    wait_until(taken, seconds=20, what="messages are taken again")


def test_the_first_message_after_a_restart_is_not_lost_to_the_old_connection(
    publisher: Publisher, private_valkey: ValkeyServer
) -> None:
    publisher.publish([Row("before")])
    assert publisher.flush()
    private_valkey.kill()
    private_valkey.start()
    publisher.publish([Row("after")])
    assert publisher.flush()
    assert "after" in {message["properties"]["correlation_id"] for message in messages(private_valkey)}  # type: ignore[index]


def test_a_forked_child_publishes_through_a_connection_of_its_own(
    publisher: Publisher, private_valkey: ValkeyServer
) -> None:
    publisher.publish([Row("parent")])
    assert publisher.flush()
    child = os.fork()
    if child == 0:
        publisher.publish([Row("child")])
        os._exit(0 if publisher.flush() else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    publisher.publish([Row("parent again")])
    assert publisher.flush()
    assert len(messages(private_valkey)) == 3


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_lets_one_try_after_its_pause_and_closes_when_that_succeeds() -> None:
    clock = Clock()
    breaker = Breaker("test", 1.0, clock=clock)
    assert breaker.allows()
    breaker.failed()
    assert breaker.is_open
    assert not breaker.allows()
    clock.now += 1.0
    assert breaker.allows()
    assert not breaker.allows(), "only one may try while it is half open"
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.allows()
    assert not breaker.is_open


def test_a_breaker_whose_try_fails_opens_again() -> None:
    clock = Clock()
    breaker = Breaker("test", 1.0, clock=clock)
    breaker.failed()
    clock.now += 1.0
    assert breaker.allows()
    breaker.failed()
    clock.now += 0.9
    assert not breaker.allows()


def test_a_breaker_does_not_wait_for_ever_for_a_try_that_never_reports() -> None:
    clock = Clock()
    breaker = Breaker("test", 1.0, clock=clock)
    breaker.failed()
    clock.now += 1.0
    assert breaker.allows()
    clock.now += 1.0
    assert breaker.allows()
