"""What the staff's actions do, each with its trail."""

from __future__ import annotations

import csv
import html
import inspect
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from services.api.tests.staff import StaffSite, serving_staff
from sqlalchemy import func, select, update

from sicargabox_api.admin.redis_page import FAULT_WORDS
from sicargabox_core import redis_report
from sicargabox_core.accounts import tokens, users
from sicargabox_core.accounts.models import ApiToken, AuditEntry, Role, User, UserSession
from sicargabox_core.accounts.passwords import verify_password
from sicargabox_core.catalogue.models import Keyword
from sicargabox_core.db import db_now
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.contracts import NO_OP, REBUILD_INDEX, NoOp, RebuildIndex, State
from sicargabox_core.tasks.models import TaskRow

_tasks: Any = TaskRow.__table__


@pytest.fixture
def site(settings: Settings) -> Iterator[StaffSite]:
    with serving_staff(settings) as running:
        yield running


@pytest.fixture
def chief(site: StaffSite) -> httpx.Client:
    return site.signed_in(Role.ADMIN, "jefa")


def trail(site: StaffSite, action: str) -> list[AuditEntry]:
    with site.database.read() as session:
        return list(session.scalars(select(AuditEntry).where(AuditEntry.action == action)))


def flashes(client: httpx.Client, page: str) -> str:
    text = client.get(f"/admin/{page}").text
    return " ".join(re.findall(r'class="alert-description">([^<]*)', text.split('id="alertContainer"')[1]))


def _pending(site: StaffSite, *words: str) -> list[int]:
    with site.database.write() as session:
        rows = [
            Keyword(
                line_code="8518300000",
                language="es",
                text=word,
                normalized=word,
                source="generated",
                state="PENDING",
                created_by="ai",
            )
            for word in words
        ]
        session.add_all(rows)
        session.flush()
        return [row.id for row in rows]


# --- keywords ---------------------------------------------------------------------------------------------------------
def test_approving_leaves_a_trail_tells_the_index_and_names_who_was_first(site: StaffSite, chief: httpx.Client) -> None:
    first, second, third = _pending(site, "uno", "dos", "tres")
    luis = site.signed_in(Role.REVIEWER, "luis")
    done = luis.post("/admin/_api/keywords/action", params={"name": "approve", "pks": [first, second]})
    assert done.status_code == 200
    assert "Palabras aprobadas: 2" in flashes(luis, "keywords/list")
    assert {entry.object_id for entry in trail(site, "keyword.approve")} == {str(first), str(second)}
    page = site.services.tasks.list(names=["search.update_lines"])
    assert [task.payload["codes"] for task in page.items] == [["8518300000"]]

    both = chief.post("/admin/_api/keywords/action", params={"name": "reject", "pks": [first, third]})
    assert both.status_code == 200
    said = flashes(chief, "keywords/list")
    assert "Palabras rechazadas: 1" in said
    assert "«uno»: luis ya la aprobó" in said
    only = chief.post("/admin/_api/keywords/action", params={"name": "approve", "pks": [first, third, 999999]})
    assert only.status_code == 400
    assert "jefa ya la rechazó" in only.json()["msg"]

    assert chief.post("/admin/_api/keywords/action", params={"name": "undo", "pks": third}).status_code == 200
    with site.database.read() as session:
        assert session.get_one(Keyword, third).state == "PENDING"


def test_all_that_match_a_filter_are_decided_together(site: StaffSite, chief: httpx.Client) -> None:
    _pending(site, "uno", "dos", "tres")
    answer = chief.post(
        "/admin/_api/keywords/action",
        params={"name": "reject", "all": "1", "_list_query": "?filter=source__eq=generated"},
    )
    assert answer.status_code == 200, answer.text
    with site.database.read() as session:
        states = session.execute(select(Keyword.source, Keyword.state)).all()
    assert {state for source, state in states if source == "generated"} == {"REJECTED"}
    assert {state for source, state in states if source == "starter"} == {"APPROVED", "PENDING"}


def test_a_keyword_of_ones_own_is_added_once(site: StaffSite, chief: httpx.Client) -> None:
    form = {"text": "Cascos", "line_code": "8518.30.00.00", "language": "es"}
    assert chief.post("/admin/keywords/create", data=form).status_code == 303
    assert trail(site, "keyword.add")[0].actor == "user:jefa"
    again = chief.post("/admin/keywords/create", data=form)
    assert again.status_code == 422
    assert "ya tiene esa palabra" in again.text
    assert 'value="Cascos"' in again.text
    nowhere = chief.post("/admin/keywords/create", data={**form, "line_code": "0101"})
    assert nowhere.status_code == 422
    assert "No existe esa partida" in nowhere.text


# --- tasks ------------------------------------------------------------------------------------------------------------
def test_a_task_is_cancelled_and_repeated_and_says_what_became_of_it(site: StaffSite, chief: httpx.Client) -> None:
    task = site.services.tasks.submit(REBUILD_INDEX, RebuildIndex(), initiated_by="user:jefa").task
    assert "Reconstruir índice" in chief.get("/admin/tasks/list").text
    detail = chief.get(f"/admin/tasks/detail?pk={task.id}").text
    assert "Espera a que haya un worker libre" in detail
    cancelled = chief.post("/admin/_api/tasks/row-action", params={"name": "cancel_one", "pk": task.id})
    assert cancelled.status_code == 200
    assert "Cancelada" in flashes(chief, "tasks/list")
    assert site.services.tasks.get(task.id).state is State.REVOKED
    twice = chief.post("/admin/_api/tasks/row-action", params={"name": "cancel_one", "pk": task.id})
    assert twice.status_code == 400

    repeated = chief.post("/admin/_api/tasks/action", params={"name": "repeat", "pks": [task.id, "no-such-task"]})
    assert repeated.status_code == 200
    said = flashes(chief, "tasks/list")
    assert "1 × Iniciada de nuevo" in said
    assert "1 no se tocaron" in said
    newest = site.services.tasks.list(limit=1).items[0]
    assert (newest.retried_from, newest.initiated_by) == (task.id, "user:jefa")


def test_a_trace_is_for_operators(site: StaffSite) -> None:
    task = site.services.tasks.submit(REBUILD_INDEX, RebuildIndex(), initiated_by="user:jefa").task
    with site.database.write() as session:
        session.execute(
            update(TaskRow)
            .where(TaskRow.id == task.id)
            .values(state="FAILURE", error_code="task_failed", error_message="se rompió", traceback="Traceback: aquí")
        )
    address = f"/admin/tasks/detail?pk={task.id}"
    assert "Traceback: aquí" in site.signed_in(Role.OPERATOR).get(address).text
    viewer = site.signed_in(Role.VIEWER).get(address).text
    assert "se rompió" in viewer
    assert "Traceback: aquí" not in viewer


def test_parts_of_a_task_are_on_its_own_page_and_found_by_searching(site: StaffSite, chief: httpx.Client) -> None:
    parent = site.services.tasks.submit(REBUILD_INDEX, RebuildIndex(), initiated_by="user:jefa").task
    with site.database.write() as session:
        values = {column.name: getattr(session.get_one(TaskRow, parent.id), column.name) for column in _tasks.c}
        part_id = "0a046871-aa02-592c-9328-352ceb18cc2c"
        values |= {"id": part_id, "parent_id": parent.id, "state": "SUCCESS", "exclusive_key": None}
        session.execute(_tasks.insert().values(**values))
    assert part_id not in chief.get("/admin/tasks/list").text
    assert part_id in chief.get("/admin/tasks/list", params={"q": part_id[:8]}).text
    assert chief.get(f"/admin/tasks/detail?pk={part_id}").status_code == 200


def _fail(site: StaffSite, task_id: str, **values: Any) -> None:
    ended = {"state": "FAILURE", "error_code": "unavailable", "error_message": "no respondió", "exclusive_key": None}
    with site.database.write() as session:
        session.execute(update(TaskRow).where(TaskRow.id == task_id).values(finished_at=db_now(), **ended | values))


def test_failed_tasks_are_listed_until_somebody_repeats_them_and_then_only_once(
    site: StaffSite, chief: httpx.Client
) -> None:
    tasks = [site.services.tasks.submit(NO_OP, NoOp(), initiated_by="user:jefa").task.id for _ in range(3)]
    for task_id in tasks:
        _fail(site, task_id)
    page = chief.get("/admin/dead-letters/list").text
    assert page.count("no respondió") == 3
    assert chief.get("/admin/panel/state").json()["summary"]["dead"] == "3"

    again = chief.post("/admin/_api/dead-letters/action", params={"name": "repeat", "pks": tasks[:2]})
    assert again.status_code == 200
    assert "2 iniciadas de nuevo" in flashes(chief, "dead-letters/list")
    newest = site.services.tasks.list(limit=2).items
    assert {task.retried_from for task in newest} == set(tasks[:2])
    assert all(task.request_id for task in newest)
    assert chief.get("/admin/dead-letters/list").text.count("no respondió") == 1

    # Somebody else's page still shows them.
    with site.database.read() as session:
        before = session.scalar(select(func.count()).select_from(TaskRow))
    late = chief.post("/admin/_api/tasks/action", params={"name": "repeat", "pks": [tasks[2]]})
    assert late.status_code == 200
    refused = chief.post("/admin/_api/dead-letters/action", params={"name": "repeat", "pks": tasks})
    assert refused.status_code == 400
    with site.database.read() as session:
        assert session.scalar(select(func.count()).select_from(TaskRow)) == (before or 0) + 1


def test_all_failed_tasks_of_one_error_are_repeated_together(site: StaffSite, chief: httpx.Client) -> None:
    tasks = [site.services.tasks.submit(NO_OP, NoOp(), initiated_by="user:jefa").task.id for _ in range(3)]
    _fail(site, tasks[0], error_code="task_failed")
    for task_id in tasks[1:]:
        _fail(site, task_id)
    query = "?filter=error_code__eq=unavailable"
    answer = chief.post("/admin/_api/dead-letters/action", params={"name": "repeat", "all": "1", "_list_query": query})
    assert answer.status_code == 200, answer.text
    assert {task.retried_from for task in site.services.tasks.list(limit=2).items} == set(tasks[1:])
    left = site.services.tasks.list(dead=True).items
    assert [task.id for task in left] == [tasks[0]]


def test_the_page_of_a_task_leads_to_all_its_parts(site: StaffSite, chief: httpx.Client) -> None:
    parent = site.services.tasks.submit(REBUILD_INDEX, RebuildIndex(), initiated_by="user:jefa").task
    with site.database.write() as session:
        values = {column.name: getattr(session.get_one(TaskRow, parent.id), column.name) for column in _tasks.c}
        values |= {"parent_id": parent.id, "state": "SUCCESS", "exclusive_key": None}
        rows = [values | {"id": f"0a046871-aa02-592c-9328-{number:012d}"} for number in range(120)]
        session.execute(_tasks.insert(), rows)
        session.execute(
            update(TaskRow)
            .where(TaskRow.id == parent.id)
            .values(state="STARTED", children_total=120, children_open=0, children_failed=0)
        )
    address: str | None = f"/admin/tasks/detail?pk={parent.id}"
    seen: list[str] = []
    while address:
        page = chief.get(address).text
        seen += re.findall(r">Parte (\d+) ·", page)
        found = re.search(r'<a class="btn" href="([^"]+)">Más partes</a>', page)
        address = html.unescape(found.group(1)) if found else None
    assert seen == [str(number) for number in range(1, 121)]
    assert chief.get(f"/admin/tasks/detail?pk={parent.id}&parts=nonsense").status_code == 404


def test_the_page_about_redis_says_what_is_wrong_and_what_to_do(site: StaffSite, chief: httpx.Client) -> None:
    page = chief.get("/admin/redis").text
    assert "Funciona y no hay nada que corregir." in page
    assert "DB 0 · mensajes" in page
    assert "Una tarea en espera ocupa" in page
    with connect(site.services.settings, 0) as client:
        before = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", "1mb")
        try:
            full = chief.get("/admin/redis").text
            panel = chief.get("/admin/panel/redis").json()
        finally:
            client.config_set("maxmemory", before)
    assert "La memoria está llena" in full
    assert "No se pierde ninguna tarea" in full
    assert "La memoria está llena" in panel["faults"][0]["detail"]


def test_every_fault_of_redis_has_its_spanish_sentence() -> None:
    source = inspect.getsource(redis_report)
    codes = set(re.findall(r'^\s*"([a-z]+(?:_[a-z]+)+)",$', source, re.MULTILINE)) & set(FAULT_WORDS)
    assert {f"refuses_{reason}" for reason in redis_report.REFUSALS if reason != "memory"} <= set(FAULT_WORDS)
    assert {f"over_budget_{db.name.lower()}" for db in Db} <= set(FAULT_WORDS)
    assert {"memory_full", "memory_high", "save_failed", "no_replica", "sentinels_silent"} <= codes


# --- accounts ---------------------------------------------------------------------------------------------------------
def test_users_are_made_changed_and_locked_and_the_last_administrator_stays(
    site: StaffSite, chief: httpx.Client
) -> None:
    form = {"username": "Ana", "password": "una-clave-larga", "role": "viewer"}
    assert chief.post("/admin/users/create", data=form).status_code == 303
    assert "ya existe" in chief.post("/admin/users/create", data=form).text
    short = chief.post("/admin/users/create", data={**form, "username": "eva", "password": "corta"})
    assert short.status_code == 422
    assert "de 10 a 200 caracteres" in short.text
    assert "corta" not in re.sub(r"<input[^>]*name=.password.[^>]*>", "", short.text)

    def row_action(name: str, user_id: int, **form: str) -> httpx.Response:
        return chief.post("/admin/_api/users/row-action", params={"name": name, "pk": user_id}, data=form)

    with site.database.read() as session:
        ana = users.find_user(session, "ana")
        jefa = users.find_user(session, "jefa")
    assert row_action("role", ana.id, role="reviewer").status_code == 200
    assert row_action("password", ana.id, password="otra-clave-larga").status_code == 200
    assert row_action("password", ana.id, password="corta").status_code == 400
    assert row_action("role", ana.id, role="king").status_code == 400
    assert row_action("sign_out", ana.id).status_code == 200
    assert row_action("disable", ana.id).status_code == 200
    assert row_action("disable", ana.id).status_code == 400
    for name, more in (("disable", {}), ("role", {"role": "viewer"})):
        answer = row_action(name, jefa.id, **more)
        assert answer.status_code == 400
        assert "último administrador" in answer.json()["msg"]
    with site.database.read() as session:
        changed = session.get_one(User, ana.id)
        assert (changed.role, changed.disabled_at is not None) == ("reviewer", True)
        assert verify_password(changed.password_hash, "otra-clave-larga")
    assert row_action("enable", ana.id).status_code == 200
    assert row_action("enable", ana.id).status_code == 400
    with site.database.read() as session:
        assert session.get_one(User, ana.id).disabled_at is None
    for action in ("user.create", "user.role", "user.password", "user.sign_out", "user.disable", "user.enable"):
        assert trail(site, action)[-1].actor == "user:jefa", action
    for page in ("users/list", f"users/detail?pk={ana.id}", "audit/list"):
        text = chief.get(f"/admin/{page}").text
        assert "argon2" not in text, page
        assert "otra-clave-larga" not in text, page


def test_signing_out_everywhere_ends_each_session(site: StaffSite, chief: httpx.Client) -> None:
    eva = site.signed_in(Role.VIEWER, "eva")
    with site.database.read() as session:
        user_id = users.find_user(session, "eva").id
    assert eva.get("/admin/").status_code == 200
    chief.post("/admin/_api/users/row-action", params={"name": "sign_out", "pk": user_id})
    assert eva.get("/admin/").status_code == 303
    with site.database.read() as session:
        assert not session.scalars(select(UserSession).where(UserSession.user_id == user_id)).all()


def test_a_tokens_secret_is_shown_once_and_kept_as_a_hash(site: StaffSite, chief: httpx.Client) -> None:
    form = {"name": "scanner", "role": "operator", "scopes": ["tasks", "search"], "days": "30"}
    made = chief.post("/admin/_api/tokens/action", params={"name": "make"}, data=form)
    assert made.status_code == 200
    secret = re.search(r'value="(sbx_[^"]+)"', made.text)
    assert secret is not None
    assert made.headers["cache-control"] == "no-store"
    principal = tokens.authenticate(site.database, secret.group(1))
    assert principal is not None
    assert principal.scopes == frozenset({"tasks", "search"})
    for page in ("tokens/list", "tokens/detail?pk=1", "audit/list"):
        assert secret.group(1) not in chief.get(f"/admin/{page}").text
    with site.database.read() as session:
        row = session.scalars(select(ApiToken)).one()
    assert secret.group(1) not in row.token_hash
    mistakes: tuple[dict[str, Any], ...] = ({"name": "x y"}, {"scopes": []}, {"days": "0"}, {"role": "king"})
    for wrong in mistakes:
        refused = chief.post("/admin/_api/tokens/action", params={"name": "make"}, data={**form, **wrong})
        assert refused.status_code == 303, wrong
        assert flashes(chief, "tokens/list"), wrong
    assert "ya existe" in _refusal(chief, form)
    assert chief.post("/admin/_api/tokens/row-action", params={"name": "revoke", "pk": row.id}).status_code == 200
    assert tokens.authenticate(site.database, secret.group(1)) is None


def _refusal(chief: httpx.Client, form: dict[str, Any]) -> str:
    chief.post("/admin/_api/tokens/action", params={"name": "make"}, data=form)
    return flashes(chief, "tokens/list")


def test_an_export_holds_no_formula(site: StaffSite, chief: httpx.Client) -> None:
    _pending(site, "=1+1", "normal")
    answer = chief.post(
        "/admin/_api/keywords/action",
        params={"name": "export", "all": "1", "_list_query": "?filter=source__eq=generated"},
        data={"format": "csv", "fields": ["text"], "scope": "all"},
    )
    assert answer.status_code == 200, answer.text
    cells = [cell for row in csv.reader(io.StringIO(answer.text)) for cell in row]
    assert "'=1+1" in cells
    assert not [cell for cell in cells if cell.startswith("=")]


# --- the calls that scripts know --------------------------------------------------------------------------------------
def test_the_scripts_calls_keep_their_shape(site: StaffSite, chief: httpx.Client) -> None:
    started = chief.post("/admin/elasticsearch/rebuild/")
    assert started.status_code == 200
    assert started.json().keys() == {"status", "task_id"}
    assert started.json()["status"] == "started"
    again = chief.post("/admin/elasticsearch/rebuild/").json()
    assert again == {"status": "already_running", "task_id": started.json()["task_id"]}
    address = f"/admin/elasticsearch/task-status/{started.json()['task_id']}/"
    assert chief.get(address).json() == {
        "status": "PENDING",
        "progress": 0,
        "current": 0,
        "total": 0,
        "message": "",
        "result": None,
    }
    task_id = started.json()["task_id"]

    def row(**values: object) -> dict[str, object]:
        with site.database.write() as session:
            session.execute(update(TaskRow).where(TaskRow.id == task_id).values(**values))
        told: dict[str, object] = chief.get(address).json()
        return told

    running = row(state="STARTED", progress_current=7495, progress_total=7495, progress_message="7495/7495 documents")
    assert (running["status"], running["progress"], running["message"]) == ("PROGRESS", 99, "7495/7495 documents")
    ended = row(state="SUCCESS", result={"documents": 7495, "time": "2s", "seconds": 1.9})
    assert (ended["status"], ended["progress"]) == ("SUCCESS", 100)
    assert ended["result"] == {"documents": 7495, "time": "2s", "seconds": 1.9}
    failed = row(state="FAILURE", result=None, error_message="the engine is away")
    assert (failed["status"], failed["message"]) == ("FAILURE", "the engine is away")
    assert failed["progress"] != 100
    assert chief.get("/admin/elasticsearch/task-status/none/").status_code == 404


def test_a_script_shows_a_token_or_a_cookie_with_the_csrf_token(site: StaffSite, chief: httpx.Client) -> None:
    def program(role: Role, *scopes: str) -> httpx.Client:
        with site.database.write() as session:
            _, secret = tokens.create_token(session, f"p-{role}-{len(scopes)}", role, scopes, by="test")
        client = site.browser()
        client.headers["Authorization"] = f"Bearer {secret}"
        return client

    rebuild = "/admin/elasticsearch/rebuild/"
    assert program(Role.OPERATOR, "tasks").post(rebuild).status_code == 200
    assert program(Role.OPERATOR).post(rebuild).status_code == 403
    assert program(Role.VIEWER, "tasks").post(rebuild).status_code == 403
    assert site.browser().post(rebuild).status_code == 401
    assert site.browser().post(rebuild, headers={"Authorization": "Bearer sbx_no"}).status_code == 401
    token = chief.headers.pop("X-CSRFToken")
    assert chief.post(rebuild).status_code == 403
    assert chief.post(rebuild, headers={"X-CSRFToken": "forged"}).status_code == 403
    assert chief.post(rebuild, headers={"Origin": "https://evil.example"}).status_code == 403
    assert chief.post(rebuild, headers={"Origin": site.url}).status_code == 200
    assert chief.post(rebuild, headers={"X-CSRFToken": token}).status_code == 200


# --- the Panel --------------------------------------------------------------------------------------------------------
def test_the_panel_tells_what_runs_and_never_a_false_hundred_percent(site: StaffSite, chief: httpx.Client) -> None:
    task_id = chief.post("/admin/elasticsearch/rebuild/").json()["task_id"]
    state = chief.get("/admin/panel/state").json()
    assert [task["id"] for task in state["tasks"]] == [task_id]
    assert [queue["queue"] for queue in state["queues"]] == ["elasticsearch", "ai_generation", "learning", "celery"]
    assert state["queues"][0]["waiting"] == 1
    with site.database.write() as session:
        session.execute(
            update(TaskRow)
            .where(TaskRow.id == task_id)
            .values(state="STARTED", attempt=1, progress_current=10, progress_total=10)
        )
    shown = chief.get("/admin/panel/state").json()["tasks"][0]
    assert (shown["word"], shown["percent"]) == ("En curso", 99)
    with site.database.write() as session:
        session.execute(update(TaskRow).where(TaskRow.id == task_id).values(state="SUCCESS", result={"documents": 10}))
    assert chief.get("/admin/panel/state").json()["tasks"] == []
    watched = chief.get("/admin/panel/state", params={"watch": f"{task_id},nonsense"}).json()["tasks"]
    assert [(task["word"], task["percent"]) for task in watched] == [("Terminada", 100)]
    assert len(json.dumps(state)) < 2000
    memory = chief.get("/admin/panel/redis").json()
    assert [one["budget"] for one in memory["databases"]] == [50 * 2**20, 100 * 2**20, 50 * 2**20]
