from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from services.api.tests.running import API, Api, serving

from sicargabox_core.accounts.models import Role
from sicargabox_core.settings import load_settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import TASKS
from tests.servers.ports import wait_until
from tests.servers.valkey import ValkeyServer

REBUILD = f"{API}/tasks/search.rebuild_index"
NO_OP = f"{API}/tasks/housekeeping.no_op"
KEYWORDS = f"{API}/tasks/ai.generate_keywords"


def claim(api: Api, task_id: str) -> int:
    """Takes a task as a worker does; returns the attempt."""
    claimed = store.claim(api.database, task_id, worker="test@worker", lease_seconds=60, known=TASKS)
    assert claimed is not None
    return claimed.attempt


def finish(api: Api, task_id: str, result: dict[str, Any] | None = None) -> None:
    attempt = claim(api, task_id)
    with api.database.write() as session:
        assert store.finish_success(session, task_id, attempt, result or {})


def fail(api: Api, task_id: str) -> None:
    attempt = claim(api, task_id)
    with api.database.write() as session:
        assert store.fail(session, task_id, attempt, code="task_failed", message="it broke", traceback="Trace: secret")


def test_starting_a_task_answers_202_with_its_place_and_its_starter(api: Api) -> None:
    answer = api.as_person(Role.OPERATOR, name="ana").post(REBUILD, headers={"X-Request-ID": "req-1"})

    assert answer.status_code == 202
    task = answer.json()
    assert (task["name"], task["state"], task["initiated_by"]) == ("search.rebuild_index", "PENDING", "user:ana")
    assert task["already_running"] is False
    assert task["request_id"] == answer.headers["x-request-id"] == "req-1"
    with api.database.read() as session:
        assert store.get(session, task["id"]).initiated_by == "user:ana"
    found = api.as_program().get(answer.headers["location"])
    assert found.json()["id"] == task["id"]


def test_a_second_start_of_an_exclusive_task_answers_the_running_one(operator: httpx.Client) -> None:
    first = operator.post(REBUILD).json()
    again = operator.post(REBUILD, json={})
    assert again.status_code == 200
    assert again.json()["already_running"] is True
    assert again.json()["id"] == first["id"]


def test_another_payload_of_an_exclusive_task_is_a_conflict_that_names_it(operator: httpx.Client) -> None:
    first = operator.post(KEYWORDS, json={"chapter": "85"}).json()
    other = operator.post(KEYWORDS, json={"chapter": "84"})
    assert other.status_code == 409
    assert other.headers["content-type"] == "application/problem+json"
    assert (other.json()["code"], other.json()["task_id"]) == ("already_running", first["id"])


def test_the_same_key_and_body_give_the_same_task(operator: httpx.Client) -> None:
    key = {"Idempotency-Key": "order-17"}
    first = operator.post(NO_OP, json={"note": "a"}, headers=key)
    again = operator.post(NO_OP, json={"note": "a"}, headers=key)
    other = operator.post(NO_OP, json={"note": "b"}, headers=key)

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_a_key_belongs_to_its_caller(api: Api) -> None:
    key = {"Idempotency-Key": "order-17"}
    first = api.as_program().post(NO_OP, json={}, headers=key).json()
    assert api.as_program().post(NO_OP, json={}, headers=key).json()["id"] != first["id"]


@pytest.mark.parametrize("name", ["no.such_task", "ai.generate_keywords_chunk", "%00"])
def test_a_task_that_cannot_be_started_is_404_with_those_that_can(onlooker: httpx.Client, name: str) -> None:
    answer = onlooker.post(f"{API}/tasks/{name}")
    assert answer.status_code == 404
    assert "search.rebuild_index" in answer.json()["remedy"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (KEYWORDS, b'{"chaptre": "85"}', "chaptre"),
        (KEYWORDS, b'{"chapter": "8"}', "chapter"),
        (KEYWORDS, b'{"languages": ["fr"]}', "languages.0"),
        (f"{API}/tasks/search.update_lines", b"{}", "codes"),
        (f"{API}/tasks/search.update_lines", b'{"codes": []}', "codes"),
        (REBUILD, b'{"fast": true}', "fast"),
        (REBUILD, b"[1]", "body"),
        (REBUILD, b"{", "body"),
        (NO_OP, b'{"note": "\\u0000"}', None),
    ],
)
def test_a_wrong_payload_names_its_field_and_starts_nothing(
    onlooker: httpx.Client, path: str, body: bytes, field: str | None
) -> None:
    answer = onlooker.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert field is None or answer.json()["field"] == field
    assert answer.json()["remedy"]
    assert onlooker.get(f"{API}/tasks").json()["items"] == []


def test_an_empty_or_overlong_key_is_refused(onlooker: httpx.Client) -> None:
    for key in ("", "k" * 201):
        answer = onlooker.post(NO_OP, json={}, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["field"]) == (422, "idempotency-key")


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_task_is_accepted_at_once_while_redis_is_away(data_dir: Path, private_valkey: ValkeyServer, how: str) -> None:
    settings = load_settings(data_dir=data_dir, redis_url=private_valkey.url, log_level="ERROR")
    with serving(settings) as api:
        program = api.as_program()
        assert program.post(NO_OP).status_code == 202
        if how == "killed":
            private_valkey.kill()
        else:
            os.kill(private_valkey.pid, signal.SIGSTOP)
        # Ten in a row within the client's patience each: one that waited for Redis (5 s) would break it.
        ids = [program.post(NO_OP).raise_for_status().json()["id"] for _ in range(10)]
        listed = program.get(f"{API}/tasks").json()["items"]
        assert {task["id"] for task in listed} >= set(ids)
        assert {task["state"] for task in listed} == {"PENDING"}


def test_a_task_published_in_the_background_is_in_its_queue(api: Api, operator: httpx.Client) -> None:
    task = operator.post(NO_OP).json()

    def waiting() -> list[str]:
        messages = operator.get(f"{API}/queues/celery/messages").json()["items"]
        return [message["id"] for message in messages]

    wait_until(lambda: waiting() == [task["id"]], seconds=10, what="the message is in Redis")


def test_a_finished_task_shows_its_result_and_a_failed_one_its_error_without_trace(
    api: Api, operator: httpx.Client
) -> None:
    good, bad = (operator.post(NO_OP).json()["id"] for _ in range(2))
    finish(api, good, {"documents": 3})
    fail(api, bad)

    done = operator.get(f"{API}/tasks/{good}").json()
    assert (done["state"], done["final"], done["result"]) == ("SUCCESS", True, {"documents": 3})
    broken = operator.get(f"{API}/tasks/{bad}")
    assert broken.json()["error"] == {"code": "task_failed", "message": "it broke"}
    assert "secret" not in broken.text


def test_a_started_task_with_progress_is_shown_as_progress(api: Api, operator: httpx.Client) -> None:
    task_id = operator.post(REBUILD).json()["id"]
    attempt = claim(api, task_id)
    store.heartbeat(api.database, task_id, attempt, 60, store.Progress(500, 7495, "500/7495 documents indexed"))
    task = operator.get(f"{API}/tasks/{task_id}").json()
    assert task["state"] == "PROGRESS"
    assert task["progress"] == {
        "current": 500,
        "total": 7495,
        "percent": 6,
        "message": "500/7495 documents indexed",
    }
    assert [one["id"] for one in operator.get(f"{API}/tasks", params={"state": "PROGRESS"}).json()["items"]] == [
        task_id
    ]


def test_filters_choose_tasks(api: Api) -> None:
    one, two = api.as_person(Role.ADMIN, name="ana"), api.as_person(Role.ADMIN, name="bea")
    rebuild = one.post(REBUILD).json()
    noop = two.post(NO_OP).json()
    finish(api, noop["id"])

    def ids(**params: Any) -> list[str]:
        return [task["id"] for task in one.get(f"{API}/tasks", params=params).json()["items"]]

    assert ids() == [noop["id"], rebuild["id"]]
    assert ids(state="SUCCESS") == [noop["id"]]
    assert ids(state=["SUCCESS", "PENDING"]) == [noop["id"], rebuild["id"]]
    assert ids(name="search.rebuild_index") == [rebuild["id"]]
    assert ids(queue="celery") == [noop["id"]]
    assert ids(initiated_by="user:ana") == [rebuild["id"]]
    assert ids(parent=rebuild["id"]) == []
    assert ids(since=noop["created_at"]) == [noop["id"]]
    assert ids(until=noop["created_at"]) == [rebuild["id"]]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"state": "DONE"}, "state"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-01T00:00:00"}, "since"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since"),
        ({"until": "9999-12-31T23:59:59-14:00"}, "until"),
        ({"before": "nonsense"}, "before"),
        ({"before": "OTk5OS0xMi0zMVQyMzo1OTo1OS0xNDowMCAwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDA="}, "before"),
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"name": "a\0b"}, "name.0"),
    ],
)
def test_a_wrong_filter_is_a_problem_that_names_it(
    onlooker: httpx.Client, params: dict[str, str | int], field: str
) -> None:
    answer = onlooker.get(f"{API}/tasks", params=params)
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert answer.json()["remedy"]


def test_pages_linked_by_link_headers_show_every_task_once_while_new_ones_arrive(
    api: Api, operator: httpx.Client
) -> None:
    made = [operator.post(NO_OP, json={"note": str(n)}).json()["id"] for n in range(7)]
    seen: list[str] = []
    path: str | None = f"{API}/tasks?limit=3&name=housekeeping.no_op"
    while path:
        answer = operator.get(path)
        seen += [task["id"] for task in answer.json()["items"]]
        assert ("next" in answer.links) == (answer.json()["next_cursor"] is not None)
        path = answer.links.get("next", {}).get("url")
        operator.post(NO_OP, json={"note": "later"})
    assert seen == made[::-1]


@pytest.mark.parametrize("below", ["", "/events"])
def test_an_unknown_task_is_404_and_no_id_is_422(onlooker: httpx.Client, below: str) -> None:
    unknown = onlooker.get(f"{API}/tasks/0192f0c1-5e7a-7cc3-9f5e-1c2d3e4f5a6b{below}")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert "SICARGABOX_TASK_RETENTION_DAYS" in unknown.json()["remedy"]
    assert onlooker.get(f"{API}/tasks/nonsense{below}").status_code == 422


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_an_unknown_task_cannot_be_changed(onlooker: httpx.Client, action: str) -> None:
    assert onlooker.post(f"{API}/tasks/0192f0c1-5e7a-7cc3-9f5e-1c2d3e4f5a6b/{action}").status_code == 404


def test_a_cancel_says_honestly_what_became_of_it(api: Api, operator: httpx.Client) -> None:
    waiting, running, ended = (operator.post(NO_OP).json()["id"] for _ in range(3))
    claim(api, running)
    finish(api, ended)

    def cancel(task_id: str) -> tuple[str, str, bool]:
        answer = operator.post(f"{API}/tasks/{task_id}/cancel").raise_for_status().json()
        task = answer["task"]
        return answer["outcome"], task["state"], task["cancel_requested_at"] is not None

    assert cancel(waiting)[:2] == ("revoked", "REVOKED")
    assert cancel(running) == ("requested", "STARTED", True)
    assert cancel(ended)[:2] == ("already_ended", "SUCCESS")
    assert cancel(waiting)[:2] == ("already_ended", "REVOKED")


def test_a_repeat_is_a_new_task_that_names_the_old_one(api: Api, operator: httpx.Client) -> None:
    old = operator.post(NO_OP, json={"note": "again"}).json()["id"]
    assert operator.post(f"{API}/tasks/{old}/retry").status_code == 409
    fail(api, old)

    answer = operator.post(f"{API}/tasks/{old}/retry")
    assert answer.status_code == 202
    new = answer.json()
    assert (new["retried_from"], new["payload"]) == (old, {"note": "again", "seconds": 0.0})
    assert new["id"] != old
    assert answer.headers["location"].endswith(new["id"])
    twice = operator.post(f"{API}/tasks/{old}/retry")
    assert (twice.status_code, twice.json()["id"]) == (200, new["id"])
    assert operator.get(f"{API}/tasks/{old}").json()["state"] == "FAILURE"


def test_only_who_may_start_a_task_may_cancel_or_repeat_it(api: Api, operator: httpx.Client) -> None:
    task = operator.post(NO_OP).json()["id"]
    for role in (Role.VIEWER, Role.REVIEWER, Role.OPERATOR):
        for action in ("cancel", "retry"):
            assert api.as_program(role).post(f"{API}/tasks/{task}/{action}").status_code == 403
    assert operator.get(f"{API}/tasks/{task}").json()["state"] == "PENDING"


# --- dead letters -----------------------------------------------------------------------------------------------------
def dead_letter(api: Api, client: httpx.Client, **body: Any) -> str:
    task_id = str(client.post(NO_OP, json=body).json()["id"])
    fail(api, task_id)
    return task_id


def test_dead_letters_are_listed_by_their_error_and_repeated_in_bulk_once(api: Api, operator: httpx.Client) -> None:
    ids = [dead_letter(api, operator, note=str(number)) for number in range(3)]
    listed = operator.get(f"{API}/tasks", params={"dead": True, "error": "task_failed"}).json()["items"]
    assert {task["id"] for task in listed} == set(ids)
    assert operator.get(f"{API}/tasks", params={"dead": True, "error": "other"}).json()["items"] == []

    wanted = {"filter": {"name": ["housekeeping.no_op"]}, "limit": 2}
    first = operator.post(f"{API}/tasks/retry", json=wanted, headers={"X-Request-ID": "bulk-1"})
    assert first.status_code == 200
    assert [one["id"] for one in first.json()["repeated"]] == [ids[2], ids[1]]
    assert {one["task"]["request_id"] for one in first.json()["repeated"]} == {"bulk-1"}
    assert {one["task"]["retried_from"] for one in first.json()["repeated"]} == {ids[1], ids[2]}
    wanted["filter"]["before"] = first.json()["next_cursor"]  # type: ignore[index]  # a literal of the test
    second = operator.post(f"{API}/tasks/retry", json=wanted).json()
    assert ([one["id"] for one in second["repeated"]], second["next_cursor"]) == ([ids[0]], None)

    again = operator.post(f"{API}/tasks/retry", json={"ids": ids}).json()
    assert again["repeated"] == []
    assert {(one["id"], one["code"]) for one in again["skipped"]} == {(one, "already_repeated") for one in ids}
    assert operator.get(f"{API}/tasks", params={"dead": True}).json()["items"] == []


@pytest.mark.parametrize(
    "body", [{}, {"ids": [], "filter": None}, {"filter": {"nmae": ["x"]}}, {"filter": {}, "limit": 201}, {"ids": ["x"]}]
)
def test_a_bulk_repeat_that_is_not_clear_repeats_nothing(
    api: Api, operator: httpx.Client, body: dict[str, Any]
) -> None:
    one = dead_letter(api, operator)
    assert operator.post(f"{API}/tasks/retry", json=body).status_code == 422
    assert [task["id"] for task in operator.get(f"{API}/tasks", params={"dead": True}).json()["items"]] == [one]


def test_only_operators_repeat_in_bulk(api: Api) -> None:
    assert api.as_person(Role.REVIEWER).post(f"{API}/tasks/retry", json={"filter": {}}).status_code == 403


def test_a_repeat_keeps_the_request_that_asked_for_it(api: Api, operator: httpx.Client) -> None:
    one = dead_letter(api, operator)
    answer = operator.post(f"{API}/tasks/{one}/retry", headers={"X-Request-ID": "again-1"})
    assert answer.json()["request_id"] == "again-1"
