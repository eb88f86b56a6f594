from __future__ import annotations

from uuid import uuid4

import httpx
import pytest
from services.api.tests.running import API, Api, serving
from sqlalchemy import select

from sicargabox_api.visitors import VISITOR_COOKIE
from sicargabox_core.accounts.models import Role
from sicargabox_core.catalogue.models import Selection
from sicargabox_core.settings import Settings

CHOICE = {"code": "8518.30.00.00", "query": "audífonos", "rank": 1}


def kept(api: Api) -> list[Selection]:
    with api.database.read() as session:
        return list(session.scalars(select(Selection).order_by(Selection.id)))


def test_a_visitor_chooses_without_an_account_and_takes_it_back(api: Api) -> None:
    visitor = api.visitor(headers={"Origin": api.url})
    made = visitor.post(f"{API}/selections", json=CHOICE)

    assert made.status_code == 201
    assert made.json()["code"] == "8518300000"
    cookie = made.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert visitor.delete(made.headers["location"]).status_code == 204
    assert visitor.delete(made.headers["location"]).status_code == 204, "twice is as good as once"
    assert kept(api)[0].undone_at is not None


def test_only_a_keyed_hash_of_the_visitor_is_stored(api: Api) -> None:
    visitor = api.visitor(headers={"Origin": api.url})
    visitor.post(f"{API}/selections", json=CHOICE)
    visitor.post(f"{API}/selections", json=CHOICE | {"code": "8517130000"})
    api.visitor().post(f"{API}/selections", json=CHOICE)

    first, second, other = kept(api)
    assert first.person == second.person != other.person
    assert visitor.cookies[VISITOR_COOKIE] not in first.person
    assert first.staff is False


def test_another_person_cannot_take_a_choice_back(api: Api) -> None:
    place = api.visitor().post(f"{API}/selections", json=CHOICE).headers["location"]
    stranger = api.visitor(headers={"Origin": api.url})
    stranger.post(f"{API}/selections", json=CHOICE)

    assert stranger.delete(place).status_code == 404
    assert api.visitor().delete(place).status_code == 404
    assert api.visitor().delete(place, headers={"X-Undo-Token": "0" * 64}).status_code == 404
    assert all(choice.undone_at is None for choice in kept(api))


def test_the_undo_token_serves_where_there_are_no_cookies(api: Api) -> None:
    made = api.visitor().post(f"{API}/selections", json=CHOICE).json()
    other = api.visitor().post(f"{API}/selections", json=CHOICE).json()
    token = {"X-Undo-Token": made["undo_token"]}

    assert api.visitor().delete(f"{API}/selections/{other['id']}", headers=token).status_code == 404
    assert api.visitor().delete(f"{API}/selections/{made['id']}", headers=token).status_code == 204


def test_staff_choose_under_their_own_name_and_are_marked(api: Api) -> None:
    person = api.as_person(Role.VIEWER)
    made = person.post(f"{API}/selections", json=CHOICE)
    assert "set-cookie" not in made.headers
    assert kept(api)[0].staff is True
    assert person.delete(made.headers["location"]).status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Referer": "https://evil.example/page"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_another_sites_page_cannot_choose(api: Api, headers: dict[str, str]) -> None:
    answer = api.visitor(headers=headers).post(f"{API}/selections", json=CHOICE)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert kept(api) == []


def test_a_cookie_without_an_origin_is_not_believed(api: Api) -> None:
    visitor = api.visitor(cookies={VISITOR_COOKIE: "x" * 43})
    assert visitor.post(f"{API}/selections", json=CHOICE).status_code == 403


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"code": "85x"}, 422, "code"),
        ({"code": "9999999999"}, 404, "code"),
        ({"code": "8518"}, 404, "code"),
        ({"query": ""}, 422, "query"),
        ({"query": "!!!"}, 422, "query"),
        ({"query": "a\0"}, 422, "query"),
        ({"query": "a" * 201}, 422, "query"),
        ({"rank": 0}, 422, "rank"),
        ({"rank": "first"}, 422, "rank"),
        ({"ranks": 1}, 422, "ranks"),
    ],
)
def test_a_wrong_choice_names_its_field(
    visitor: httpx.Client, change: dict[str, object], status: int, field: str
) -> None:
    answer = visitor.post(f"{API}/selections", json=CHOICE | change)
    assert (answer.status_code, answer.json()["field"]) == (status, field)


def test_an_unknown_choice_is_not_found(visitor: httpx.Client) -> None:
    assert visitor.delete(f"{API}/selections/{uuid4()}").status_code == 404
    assert visitor.delete(f"{API}/selections/nonsense").status_code == 422


def test_the_cookie_is_for_https_only_where_that_is_set(settings: Settings) -> None:
    with serving(settings.model_copy(update={"secure_cookies": True})) as api:
        answer = api.visitor().post(f"{API}/selections", json=CHOICE)
    assert "secure" in answer.headers["set-cookie"].lower()
