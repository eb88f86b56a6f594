"""Who may do what on the staff pages: every page, action and call for every role, and for nobody."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from services.api.tests.staff import StaffSite, serving_staff

from sicargabox_core.accounts import users
from sicargabox_core.accounts.models import Role
from sicargabox_core.db import Database, migrate
from sicargabox_core.settings import load_settings

EVERYBODY, REVIEWERS, OPERATORS, ADMINS = Role.VIEWER, Role.REVIEWER, Role.OPERATOR, Role.ADMIN
ORDER = list(Role)

# The least role for each page and action; what is not here must not exist.
LISTS = {
    "tasks": EVERYBODY,
    "dead-letters": EVERYBODY,
    "keywords": EVERYBODY,
    "tariff": EVERYBODY,
    "searches": EVERYBODY,
    "selections": EVERYBODY,
    "users": ADMINS,
    "tokens": ADMINS,
    "audit": ADMINS,
}
CREATES = {"keywords": REVIEWERS, "users": ADMINS}
EXPORTS = {key: role for key, role in LISTS.items() if key not in ("users", "tokens")}
ACTIONS = {
    ("tasks", "repeat"): OPERATORS,
    ("tasks", "cancel"): OPERATORS,
    ("dead-letters", "repeat"): OPERATORS,
    ("keywords", "approve"): REVIEWERS,
    ("keywords", "reject"): REVIEWERS,
    ("keywords", "undo"): REVIEWERS,
    ("tokens", "make"): ADMINS,
}
ROW_ACTIONS = {
    ("tasks", "repeat_one"): OPERATORS,
    ("tasks", "cancel_one"): OPERATORS,
    ("dead-letters", "repeat_one"): OPERATORS,
    ("users", "role"): ADMINS,
    ("users", "password"): ADMINS,
    ("users", "sign_out"): ADMINS,
    ("users", "disable"): ADMINS,
    ("users", "enable"): ADMINS,
    ("tokens", "revoke"): ADMINS,
}
REFUSED = "Su rol no permite"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StaffSite]:
    # No Redis at all: who may do what does not depend on it.
    settings = load_settings(data_dir=tmp_path_factory.mktemp("staff"), redis_port=1, log_level="ERROR")
    database = Database.from_settings(settings)
    migrate(database)
    database.dispose()
    with serving_staff(settings) as running:
        yield running


@pytest.fixture(scope="module")
def people(site: StaffSite) -> dict[Role, httpx.Client]:
    return {role: site.signed_in(role) for role in Role}


def allowed(role: Role, least: Role | None) -> bool:
    return least is not None and ORDER.index(role) >= ORDER.index(least)


@pytest.mark.parametrize("role", list(Role))
def test_each_page_opens_for_its_roles_alone(site: StaffSite, people: dict[Role, httpx.Client], role: Role) -> None:
    client = people[role]
    menu = client.get("/admin/").text
    assert set(LISTS) == {view.key for view in site.admin._model_views}
    for key, least in LISTS.items():
        expected = 200 if allowed(role, least) else 403
        assert client.get(f"/admin/{key}/list").status_code == expected, key
        assert (f"/admin/{key}/list" in menu) == (expected == 200), key
        create = 200 if allowed(role, CREATES.get(key)) else 403
        assert client.get(f"/admin/{key}/create").status_code == create, key
        assert client.get(f"/admin/{key}/edit?pk=1").status_code == 403, key
        assert client.get(f"/admin/_api/{key}/inline-edit?pk=1&field=id").status_code == 403, key
        lookup = client.get(f"/admin/_api/{key}/relation-lookup")
        assert lookup.status_code == expected, key
        assert client.post(f"/admin/_api/{key}/import").status_code == 403, key


@pytest.mark.parametrize("role", list(Role))
def test_each_action_is_refused_to_those_without_its_role(
    site: StaffSite, people: dict[Role, httpx.Client], role: Role
) -> None:
    seen: set[tuple[str, str]] = set()
    for view in site.admin._model_views:
        for name in view._actions_handlers:
            least = EXPORTS.get(str(view.key)) if name == "export" else ACTIONS.get((str(view.key), name))
            seen.add((str(view.key), name))
            answer = people[role].post(
                f"/admin/_api/{view.key}/action", params={"name": name, "pks": "999999"}, data={"fields": ["id"]}
            )
            refused = REFUSED in answer.text or answer.status_code == 403
            assert refused == (not allowed(role, least)), (view.key, name, answer.text)
        for name in view._row_actions_handlers:
            least = ROW_ACTIONS.get((str(view.key), name))
            seen.add((str(view.key), name))
            if name in ("view", "edit"):
                continue
            answer = people[role].post(f"/admin/_api/{view.key}/row-action", params={"name": name, "pk": "999999"})
            assert answer.status_code == 400
            refused = REFUSED in answer.json()["msg"]
            assert refused == (not allowed(role, least)), (view.key, name, answer.text)
    assert {*ACTIONS, *ROW_ACTIONS} <= seen


@pytest.mark.parametrize("role", list(Role))
def test_only_operators_start_and_cancel_from_the_panel(people: dict[Role, httpx.Client], role: Role) -> None:
    client = people[role]
    assert client.get("/admin/panel/state").status_code == 200
    assert client.get("/admin/panel/redis").status_code == 200
    assert client.get("/admin/redis").status_code == 200
    assert ("data-start" in client.get("/admin/").text) == allowed(role, OPERATORS)
    started = client.post("/admin/panel/start/ai.generate_keywords")
    assert started.status_code == (200 if allowed(role, OPERATORS) else 403)
    cancelled = client.post("/admin/panel/cancel/00000000-0000-0000-0000-000000000000")
    assert cancelled.status_code == (404 if allowed(role, OPERATORS) else 403)
    assert client.post("/admin/elasticsearch/rebuild/").status_code == (200 if allowed(role, OPERATORS) else 403)


@pytest.mark.parametrize("role", list(Role))
def test_everybody_sees_the_index_operators_rebuild_it_and_administrators_delete_it(
    people: dict[Role, httpx.Client], role: Role
) -> None:
    client = people[role]
    page = client.get("/admin/index")
    assert page.status_code == 200
    assert ("/admin/index/start/search.rebuild_index" in page.text) == allowed(role, OPERATORS)
    for path, least in (
        ("start/search.rebuild_index", OPERATORS),
        ("start/search.audit", OPERATORS),
        ("cancel/00000000-0000-0000-0000-000000000000", OPERATORS),
        ("delete", ADMINS),
    ):
        expected = 303 if allowed(role, least) else 403
        assert client.post(f"/admin/index/{path}").status_code == expected, path


def test_the_page_of_the_index_starts_only_what_it_has_a_button_for(people: dict[Role, httpx.Client]) -> None:
    for name in ("search.delete_index", "search.update_lines", "housekeeping.no_op"):
        assert people[Role.ADMIN].post(f"/admin/index/start/{name}").status_code == 404


def test_the_panel_starts_only_what_it_has_a_button_for(people: dict[Role, httpx.Client]) -> None:
    assert people[Role.ADMIN].post("/admin/panel/start/housekeeping.no_op").status_code == 404


def test_whoever_is_not_signed_in_is_led_to_the_sign_in(site: StaffSite) -> None:
    client = site.browser()
    addresses = [
        "/admin/",
        "/admin/index",
        "/admin/quality",
        "/admin/panel/state",
        "/admin/panel/redis",
        "/admin/nothing",
        "/admin/_files/x/y",
    ]
    addresses += [f"/admin/{key}/{page}" for key in LISTS for page in ("list", "create", "detail?pk=1", "edit?pk=1")]
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 303, address
        assert "/admin/login" in answer.headers["location"], address
    for address in (
        "/admin/elasticsearch/rebuild/",
        "/admin/panel/start/ai.generate_keywords",
        "/admin/index/start/search.audit",
        "/admin/index/delete",
    ):
        assert client.post(address).status_code in (401, 403), address


def test_a_change_without_the_token_is_refused(people: dict[Role, httpx.Client]) -> None:
    client = people[Role.ADMIN]
    for token in ("", "forged"):
        headers = {"X-CSRFToken": token}
        for address in (
            "/admin/logout",
            "/admin/panel/start/ai.generate_keywords",
            "/admin/_api/keywords/action?name=approve&pks=1",
            "/admin/_api/users/row-action?name=disable&pk=1",
            "/admin/users/create",
        ):
            assert client.post(address, headers=headers).status_code == 403, address


def test_a_lost_role_is_lost_at_once(site: StaffSite) -> None:
    client = site.signed_in(Role.ADMIN, "about-to-fall")
    assert client.get("/admin/users/list").status_code == 200
    with site.database.write() as session:
        users.set_role(session, "about-to-fall", Role.VIEWER, by="test")
    assert client.get("/admin/users/list").status_code == 403
    with site.database.write() as session:
        users.disable_user(session, "about-to-fall", by="test")
    assert client.get("/admin/").status_code == 303
