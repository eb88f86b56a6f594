from __future__ import annotations

import httpx
import pytest
from services.api.tests.running import API, serving

from sicargabox_core.settings import Settings
from sicargabox_core.tasks.contracts import Queue
from tests.servers.ports import free_port, wait_until


def test_queues_tell_what_waits_by_sql_and_what_lies_in_redis(operator: httpx.Client) -> None:
    operator.post(f"{API}/tasks/search.rebuild_index")

    def indexing() -> dict[str, object]:
        body = operator.get(f"{API}/queues").json()
        assert body["redis_error"] is None
        assert [one["queue"] for one in body["items"]] == [queue.value for queue in Queue]
        return dict(body["items"][0])

    wait_until(lambda: indexing()["published"] == 1, seconds=10, what="the message is in Redis")
    assert indexing()["waiting"] == 1
    assert indexing()["running"] == 0
    assert indexing()["workers"] == 0


def test_looking_at_messages_takes_none_away(operator: httpx.Client) -> None:
    task = operator.post(f"{API}/tasks/search.rebuild_index").json()
    path = f"{API}/queues/elasticsearch/messages"
    wait_until(lambda: len(operator.get(path).json()["items"]) == 1, seconds=10, what="the message is in Redis")
    (message,) = operator.get(path).json()["items"]
    assert (message["id"], message["name"], message["readable"]) == (task["id"], task["name"], True)
    assert message["request_id"] == task["request_id"]


@pytest.mark.parametrize(("path", "field"), [("nothing/messages", "queue"), ("celery/messages?limit=0", "limit")])
def test_a_queue_that_is_none_is_named(onlooker: httpx.Client, path: str, field: str) -> None:
    answer = onlooker.get(f"{API}/queues/{path}")
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_redis_is_shown_against_its_budgets(onlooker: httpx.Client) -> None:
    body = onlooker.get(f"{API}/redis").json()
    assert body["redis_error"] is None
    report = body["report"]
    assert report["policy"] == "volatile-lru"
    assert [(one["db"], one["budget"]) for one in report["databases"][:2]] == [(0, 50 * 2**20), (1, 100 * 2**20)]


def test_without_redis_each_part_says_so_and_sql_is_still_told(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}"})
    with serving(away) as api:
        program = api.as_program()
        program.post(f"{API}/tasks/search.rebuild_index")
        queues = program.get(f"{API}/queues")
        messages = program.get(f"{API}/queues/celery/messages")
        redis = program.get(f"{API}/redis")

    assert [answer.status_code for answer in (queues, messages, redis)] == [200, 200, 200]
    fault = {"code": "unavailable", "detail": "Redis does not answer"}
    assert [answer.json()["redis_error"] for answer in (queues, messages, redis)] == [fault] * 3
    indexing = queues.json()["items"][0]
    assert (indexing["waiting"], indexing["published"], indexing["workers"]) == (1, None, None)
    assert redis.json()["report"] is None
