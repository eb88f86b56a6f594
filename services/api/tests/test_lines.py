from __future__ import annotations

import httpx
import pytest
from services.api.tests.running import API, Api

from sicargabox_core.accounts.models import Role
from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.db import db_now


@pytest.mark.parametrize("written", ["8518300000", "8518.30.00.00", "8518.300000", "8518-30-00-00"])
def test_a_line_is_found_by_its_code_in_any_dotted_form(visitor: httpx.Client, written: str) -> None:
    line = visitor.get(f"{API}/lines/{written}").json()
    assert line["code"] == "8518300000"
    assert [step["code"] for step in line["path"]] == ["85", "8518"]
    assert line["declarable"] is True


def test_english_falls_back_to_spanish(visitor: httpx.Client) -> None:
    english = visitor.get(f"{API}/lines/9304000000", params={"lang": "en"}).json()
    assert (english["description"], english["courier_reason"]) == ("Batons and sticks", "It is prohibited")
    assert visitor.get(f"{API}/lines/8518900000", params={"lang": "en"}).json()["description"] == "Los demás"


def test_children_come_in_the_official_order(visitor: httpx.Client) -> None:
    below = visitor.get(f"{API}/lines/85/children").json()["items"]
    assert [node["code"] for node in below] == ["8517", "8518"]
    assert visitor.get(f"{API}/lines/8518300000/children").json()["items"] == []


@pytest.mark.parametrize("code", ["8518.30", "851830", "8518.30.00"])
def test_a_subheading_without_parts_is_its_one_line(visitor: httpx.Client, code: str) -> None:
    assert visitor.get(f"{API}/lines/{code}").json()["code"] == "8518300000"
    assert visitor.get(f"{API}/lines/{code}/children").json()["items"] == []
    assert visitor.get(f"{API}/lines/{code}/keywords").json()["items"]
    assert visitor.get(f"/partida/{code}").status_code == 200


def test_a_retired_line_is_told_with_its_date(api: Api) -> None:
    with api.database.write() as session:
        line = session.get(TariffLine, "8518900000")
        assert line is not None
        line.retired_at = db_now()
    assert api.visitor().get(f"{API}/lines/8518900000").json()["retired_at"] is not None


def test_visitors_see_approved_keywords_only(api: Api) -> None:
    path = f"{API}/lines/8518300000/keywords"
    visitor = api.visitor()
    assert {word["text"] for word in visitor.get(path).json()["items"]} == {"auriculares bluetooth", "earbuds"}
    assert visitor.get(path, params={"state": "PENDING"}).status_code == 401
    without_scope = api.as_program(Role.ADMIN, ("search",))
    assert without_scope.get(path, params={"state": "PENDING"}).status_code == 403
    staff = api.as_program(Role.VIEWER, ("search", "keywords"))
    assert [word["text"] for word in staff.get(path, params={"state": "PENDING"}).json()["items"]] == ["ear plugs"]


def test_keywords_are_paged(visitor: httpx.Client) -> None:
    path = f"{API}/lines/8518300000/keywords"
    first = visitor.get(path, params={"limit": 1}).json()
    second = visitor.get(path, params={"limit": 1, "before": first["next_cursor"]}).json()
    assert second["next_cursor"] is None
    assert {first["items"][0]["text"], second["items"][0]["text"]} == {"auriculares bluetooth", "earbuds"}


@pytest.mark.parametrize("below", ["", "/children", "/keywords"])
def test_an_unknown_code_is_404_and_no_code_is_422(visitor: httpx.Client, below: str) -> None:
    unknown = visitor.get(f"{API}/lines/9999{below}")
    assert (unknown.status_code, unknown.json()["field"]) == (404, "code")
    for nonsense in ("abc", "1", "12345678901234", "85%0017"):
        wrong = visitor.get(f"{API}/lines/{nonsense}{below}")
        assert (wrong.status_code, wrong.json()["field"]) == (422, "code")
        assert wrong.json()["remedy"]
