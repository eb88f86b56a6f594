from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest
from services.api.tests.running import API, Api
from sqlalchemy import select

from sicargabox_core.catalogue.models import SearchLog
from tests.servers.ports import wait_until


def test_everyday_words_give_the_agreed_shape(visitor: httpx.Client) -> None:
    answer = visitor.get(f"{API}/search", params={"q": "audífonos bluetooth"})

    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"query", "total", "took_ms", "engine", "degraded", "results", "guidance"}
    assert body["degraded"] is False
    assert body["guidance"] is None
    first = body["results"][0]
    assert set(first) >= {
        "code",
        "display_code",
        "description",
        "path",
        "duties",
        "courier_category",
        "score",
        "highlights",
        "reason",
    }
    assert (first["code"], first["display_code"]) == ("8518300000", "8518.30.00.00")
    assert [step["code"] for step in first["path"]] == ["85", "8518"]
    assert first["duties"] == {"dai": "15.00", "isc": None, "ispc": None, "isv": "15.00"}


@pytest.mark.parametrize(("lang", "label"), [("es", "Cara o cuerpo"), ("en", "Face or body")])
def test_a_word_too_vague_gets_a_question_whose_choices_are_queries(
    visitor: httpx.Client, lang: str, label: str
) -> None:
    asked = visitor.get(f"{API}/search", params={"q": "Cremas", "lang": lang}).json()["guidance"]
    assert set(asked) == {"about", "question", "choices"}
    assert asked["about"] == "Cremas"
    assert {"label": label, "query": "crema facial"} in asked["choices"]


def test_a_question_stands_beside_the_results_never_instead(visitor: httpx.Client) -> None:
    body = visitor.get(f"{API}/search", params={"q": "bocinas, accesorios para celular"}).json()
    assert body["guidance"] is None
    body = visitor.get(f"{API}/search", params={"q": "aparatos"}).json()
    assert body["guidance"] is not None
    assert body["results"]


@pytest.mark.parametrize("written", ["8517130000", "8517.13", "8517", "8517.13.00.00"])
def test_a_code_or_its_beginning_is_a_query_too(visitor: httpx.Client, written: str) -> None:
    found = visitor.get(f"{API}/search", params={"q": written}).json()["results"]
    assert [line["code"] for line in found] == ["8517130000"]


def test_filters_and_paging_narrow_the_answer(visitor: httpx.Client) -> None:
    def codes(**params: str | int) -> list[str]:
        answer = visitor.get(f"{API}/search", params={"q": "85", **params})
        return [line["code"] for line in answer.json()["results"]]

    everything = codes()
    assert len(everything) == 3
    assert codes(limit=1) + codes(limit=2, offset=1) == everything
    assert codes(category="PROHIBITED") == []
    assert codes(chapter="93") == []


def test_english_gives_english_texts(visitor: httpx.Client) -> None:
    found = visitor.get(f"{API}/search", params={"q": "smartphones", "lang": "en"}).json()["results"]
    assert found[0]["description"] == "Smartphones"


def test_without_an_index_sql_answers_and_says_so(api: Api, data_dir: Path) -> None:
    shutil.rmtree(data_dir / "search")
    body = api.visitor().get(f"{API}/search", params={"q": "audífonos"}).json()
    assert body["degraded"] is True
    assert body["results"][0]["code"] == "8518300000"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "q"),
        ({"q": "   "}, "q"),
        ({"q": "a" * 201}, "q"),
        ({"q": "nul\0"}, "q"),
        ({"q": "x", "limit": 0}, "limit"),
        ({"q": "x", "limit": 101}, "limit"),
        ({"q": "x", "offset": 1001}, "offset"),
        ({"q": "x", "offset": -1}, "offset"),
        ({"q": "x", "category": "MAYBE"}, "category"),
        ({"q": "x", "chapter": "8"}, "chapter"),
        ({"q": "x", "chapter": "٨٥"}, "chapter"),
        ({"q": "x", "lang": "fr"}, "lang"),
    ],
)
def test_a_wrong_parameter_is_a_problem_that_names_it(
    visitor: httpx.Client, params: dict[str, str | int], field: str
) -> None:
    answer = visitor.get(f"{API}/search", params=params)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"] == field
    assert answer.json()["remedy"]


def test_suggestions_complete_what_is_typed(visitor: httpx.Client) -> None:
    body = visitor.get(f"{API}/suggest", params={"q": "auric"}).json()
    assert body["degraded"] is False
    assert any(one["text"].startswith("auric") for one in body["suggestions"] if one["kind"] == "word")


def test_a_search_is_logged_once_and_without_a_person(api: Api) -> None:
    visitor = api.visitor()
    visitor.get(f"{API}/search", params={"q": "Audífonos", "limit": 1})
    visitor.get(f"{API}/search", params={"q": "Audífonos", "limit": 1, "offset": 1})

    def logged() -> list[SearchLog]:
        with api.database.read() as session:
            return list(session.scalars(select(SearchLog)))

    wait_until(lambda: bool(logged()), seconds=10, what="the search is logged")
    api.services.searches.flush()
    (row,) = logged()
    assert (row.query, row.normalized, row.first_code) == ("Audífonos", "audifonos", "8518300000")
    assert "person" not in SearchLog.__table__.c


def test_a_search_is_counted_once_by_its_engine(api: Api) -> None:
    def counted(engine: str) -> float:
        lines = api.visitor().get("/metrics").text.splitlines()
        ours = [
            line for line in lines if line.startswith("sicargabox_searches_total{") and f'engine="{engine}"' in line
        ]
        return sum(float(line.rpartition(" ")[2]) for line in ours)

    before = {engine: counted(engine) for engine in ("sql", "tantivy")}
    engine = api.visitor().get(f"{API}/search", params={"q": "8517"}).json()["engine"]
    assert counted(engine) == before[engine] + 1
