from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from services.api.tests.running import API, Api

from sicargabox_core.accounts.models import Role
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import TASKS

INDEX = f"{API}/index"
SERVING = "test"


def finish(api: Api, task_id: str, result: dict[str, Any]) -> None:
    claimed = store.claim(api.database, task_id, worker="test@worker", lease_seconds=60, known=TASKS)
    assert claimed is not None
    with api.database.write() as session:
        assert store.finish_success(session, task_id, claimed.attempt, result)


def test_the_index_is_told_with_its_generations_and_what_its_tasks_found(api: Api, operator: httpx.Client) -> None:
    shown = operator.get(INDEX).json()
    assert (shown["engine"], shown["health"], shown["ready"]) == ("tantivy", "green", True)
    assert (shown["generation"], shown["documents"], shown["problem"]) == (SERVING, 4, None)
    (generation,) = shown["generations"]
    assert (generation["name"], generation["role"], generation["documents"]) == (SERVING, "serving", 4)
    assert generation["size"] == shown["size"] > 0
    assert (shown["running"], shown["last_rebuild"], shown["last_audit"]) == ([], None, None)

    audit = operator.post(f"{API}/tasks/search.audit").json()
    assert [task["id"] for task in operator.get(INDEX).json()["running"]] == [audit["id"]]
    finish(api, audit["id"], {"ok": False, "stale": 1, "stale_codes": ["8517130000"]})
    after = operator.get(INDEX).json()
    assert (after["running"], after["audit_outdated"]) == ([], False)
    assert (after["last_audit"]["id"], after["last_audit"]["result"]["stale"]) == (audit["id"], 1)


def test_an_index_that_cannot_be_read_is_a_finding_and_no_error(operator: httpx.Client, data_dir: Path) -> None:
    shutil.rmtree(data_dir / "search")
    answer = operator.get(INDEX)
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["ready"], shown["health"], shown["generation"], shown["generations"]) == (False, "red", None, [])
    assert "Rebuild the index" in shown["problem"]


def test_deleting_is_accepted_as_a_task_of_the_named_generation(api: Api, operator: httpx.Client) -> None:
    answer = api.as_person(Role.ADMIN, name="ana").delete(INDEX, params={"generation": SERVING})
    assert answer.status_code == 202
    task = answer.json()
    assert (task["name"], task["payload"], task["initiated_by"]) == (
        "search.delete_index",
        {"generation": SERVING},
        "user:ana",
    )
    assert operator.get(answer.headers["location"]).json()["id"] == task["id"]
    again = operator.delete(INDEX, params={"generation": SERVING})
    assert (again.status_code, again.json()["already_running"], again.json()["id"]) == (200, True, task["id"])


@pytest.mark.parametrize(("params", "status"), [({}, 422), ({"generation": ""}, 422), ({"generation": "x" * 201}, 422)])
def test_a_delete_that_names_nothing_says_what_is_missing(
    onlooker: httpx.Client, params: dict[str, str], status: int
) -> None:
    answer = onlooker.delete(INDEX, params=params)
    assert (answer.status_code, answer.json()["field"]) == (status, "generation")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_generation_that_does_not_serve_is_a_conflict_and_nothing_is_accepted(
    operator: httpx.Client, data_dir: Path
) -> None:
    other = operator.delete(INDEX, params={"generation": "another"})
    assert (other.status_code, other.json()["code"], other.json()["field"]) == (409, "conflict", "generation")
    assert "Look at the index again" in other.json()["remedy"]
    shutil.rmtree(data_dir / "search")
    gone = operator.delete(INDEX, params={"generation": SERVING})
    assert (gone.status_code, gone.json()["field"]) == (409, "generation")
    assert operator.get(f"{API}/tasks").json()["items"] == []


def test_a_delete_sent_again_with_its_key_is_answered_by_its_task_though_the_index_is_gone(
    api: Api, operator: httpx.Client, data_dir: Path
) -> None:
    key = {"Idempotency-Key": "delete-1"}
    first = operator.delete(INDEX, params={"generation": SERVING}, headers=key).json()
    finish(api, first["id"], {"documents": 4})
    shutil.rmtree(data_dir / "search")
    again = operator.delete(INDEX, params={"generation": SERVING}, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first["id"])
    assert again.headers["idempotency-replayed"] == "true"
    other = operator.delete(INDEX, params={"generation": "another"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_a_delete_and_a_rebuild_never_run_beside_each_other(api: Api, operator: httpx.Client) -> None:
    rebuild = operator.post(f"{API}/tasks/search.rebuild_index").json()
    refused = operator.delete(INDEX, params={"generation": SERVING})
    assert (refused.status_code, refused.json()["code"], refused.json()["task_id"]) == (
        409,
        "already_running",
        rebuild["id"],
    )
    finish(api, rebuild["id"], {"documents": 4, "time": "1s", "seconds": 0.1})
    deletion = operator.delete(INDEX, params={"generation": SERVING}).json()
    waiting = operator.post(f"{API}/tasks/search.rebuild_index")
    assert (waiting.status_code, waiting.json()["follow_up"], waiting.json()["waits_for"]) == (
        202,
        True,
        deletion["id"],
    )
