"""Who may do what: every operation of the API, for every role, every scope and for nobody.

An operation that is in neither table fails the first test, so that none is added without this decision.
"""

from __future__ import annotations

from itertools import product

import httpx
import pytest
from services.api.tests.running import API, Api

from sicargabox_api.authentication import SESSION_COOKIE
from sicargabox_core.accounts import tokens
from sicargabox_core.accounts.models import ApiToken, Role, User
from sicargabox_core.accounts.principal import SCOPES
from sicargabox_core.db import db_now
from sicargabox_core.tasks.contracts import TASKS

TASK = "0192f0c1-5e7a-7cc3-9f5e-1c2d3e4f5a6b"
STARTABLE = sorted(name for name, spec in TASKS.items() if spec.startable)

# (method, path) → (least role, scope). Cancelling and repeating need the task's own role besides: test_tasks.py.
STAFF = {
    ("GET", f"{API}/tasks"): (Role.VIEWER, "tasks"),
    ("GET", f"{API}/tasks/{{task_id}}"): (Role.VIEWER, "tasks"),
    ("GET", f"{API}/tasks/{{task_id}}/events"): (Role.VIEWER, "tasks"),
    ("POST", f"{API}/tasks/{{task_id}}/cancel"): (Role.VIEWER, "tasks"),
    ("POST", f"{API}/tasks/{{task_id}}/retry"): (Role.VIEWER, "tasks"),
    ("POST", f"{API}/tasks/retry"): (Role.OPERATOR, "tasks"),
    ("GET", f"{API}/queues"): (Role.VIEWER, "queues"),
    ("GET", f"{API}/queues/{{queue}}/messages"): (Role.VIEWER, "queues"),
    ("GET", f"{API}/redis"): (Role.VIEWER, "queues"),
    ("GET", f"{API}/index"): (Role.VIEWER, "tasks"),
    ("DELETE", f"{API}/index"): (Role.ADMIN, "tasks"),
}
# Each startable task names its own role.
STARTS = {("POST", f"{API}/tasks/{name}"): (Role(TASKS[name].role), "tasks") for name in STARTABLE}
# Open to visitors; a token that is shown must have the scope.
PUBLIC = {
    ("GET", f"{API}/search"): "search",
    ("GET", f"{API}/suggest"): "search",
    ("GET", f"{API}/lines/{{code}}"): "search",
    ("GET", f"{API}/lines/{{code}}/children"): "search",
    ("GET", f"{API}/lines/{{code}}/keywords"): "search",
    ("POST", f"{API}/selections"): "search",
    ("DELETE", f"{API}/selections/{{selection_id}}"): "search",
}
WITHOUT_CALLER = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")}
SCOPE_SETS = ((), *((scope,) for scope in SCOPES), SCOPES)


def operations(api: Api) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, item in api.app.openapi()["paths"].items() for method in item}


def call(client: httpx.Client, operation: tuple[str, str]) -> int:
    method, path = operation
    place = path.format(task_id=TASK, queue="celery", code="8517", selection_id=TASK)
    return client.request(method, place, params={"q": "telefono"}).status_code


def test_every_operation_is_public_or_for_a_role(api: Api) -> None:
    start = {("POST", f"{API}/tasks/{{name}}")}
    assert operations(api) == set(STAFF) | start | set(PUBLIC) | WITHOUT_CALLER


def test_nobody_and_no_false_secret_reaches_a_staff_operation(api: Api) -> None:
    strangers = (
        api.visitor(),
        api.visitor(headers={"Authorization": "Bearer sbx_nonsense"}),
        api.visitor(headers={"Authorization": "Bearer"}),
        api.visitor(headers={"Authorization": "Basic YWRtaW46YWRtaW4="}),
        api.visitor(cookies={SESSION_COOKIE: "nonsense"}, headers={"Origin": api.url}),
    )
    answers = {call(stranger, operation) for stranger, operation in product(strangers, STAFF | STARTS)}
    assert answers == {401}


def test_every_staff_operation_lets_exactly_its_roles_and_scopes_through(api: Api) -> None:
    wrong = []
    for role, scopes in product(Role, SCOPE_SETS):
        program = api.as_program(role, scopes)
        for operation, (least, scope) in (STAFF | STARTS).items():
            allowed = list(Role).index(role) >= list(Role).index(least) and scope in scopes
            status = call(program, operation)
            if (status == 403) is allowed or status in (401, 500):
                wrong.append((role, scopes, operation, status))
    assert wrong == []


def test_people_are_limited_by_their_role_alone(api: Api) -> None:
    wrong = []
    for role in Role:
        person = api.as_person(role)
        for operation, (least, _) in (STAFF | STARTS).items():
            status = call(person, operation)
            allowed = list(Role).index(role) >= list(Role).index(least)
            if (status == 403) is allowed or status in (401, 500):
                wrong.append((role, operation, status))
    assert wrong == []


def test_public_operations_need_nobody_and_hold_tokens_to_their_scopes(api: Api) -> None:
    visitor = api.visitor()
    scoped, unscoped = api.as_program(Role.VIEWER, ("search",)), api.as_program(Role.ADMIN, ("tasks",))
    for operation in PUBLIC:
        assert call(visitor, operation) not in (401, 403, 500), operation
        assert call(scoped, operation) not in (401, 403, 500), operation
        assert call(unscoped, operation) == 403, operation


def test_a_revoked_or_expired_token_is_worthless_at_once(api: Api) -> None:
    program, other = api.as_program(), api.as_program()
    path = f"{API}/tasks"
    assert (program.get(path).status_code, other.get(path).status_code) == (200, 200)
    with api.database.write() as session:
        first, second = session.query(ApiToken).order_by(ApiToken.id)
        tokens.revoke(session, first.name, by="test")
        second.expires_at = db_now(-1.0)
    answer = program.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert other.get(path).status_code == 401


def test_a_locked_account_and_an_ended_session_are_out_at_once(api: Api) -> None:
    person = api.as_person(Role.ADMIN)
    assert person.get(f"{API}/tasks").status_code == 200
    with api.database.write() as session:
        session.query(User).update({"disabled_at": db_now()})
    assert person.get(f"{API}/tasks").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": ""},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "", "Referer": "https://evil.example/"},
    ],
)
def test_another_sites_page_cannot_use_a_session(api: Api, headers: dict[str, str]) -> None:
    person = api.as_person(Role.ADMIN)
    answer = person.post(f"{API}/tasks/housekeeping.no_op", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert person.get(f"{API}/tasks").json()["items"] == []
    assert person.post(f"{API}/tasks/housekeeping.no_op").status_code == 202, "our own pages can"
