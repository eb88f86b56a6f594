"""What the API answers from: the whole of search over a real index and a real database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from core.tests.search.tariff import LINES, add_keyword, build
from sqlalchemy import event, update

from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import InvalidInput, InvalidSetting
from sicargabox_core.search.service import SearchAnswer, SearchService, make_engine
from sicargabox_core.search.tantivy_engine import TantivyEngine
from sicargabox_core.settings import Settings


@pytest.fixture
def service(catalogue: Database, engine: TantivyEngine, tmp_path: Path) -> SearchService:
    """A search over the small tariff with its index."""
    build(catalogue, engine)
    return SearchService(catalogue, Settings(data_dir=tmp_path), engine=engine)


@pytest.fixture
def degraded(catalogue: Database, engine: TantivyEngine, tmp_path: Path) -> SearchService:
    """The same without an index."""
    return SearchService(catalogue, Settings(data_dir=tmp_path), engine=engine)


def codes(answer: SearchAnswer) -> list[str]:
    return [result["code"] for result in answer["results"]]


def test_a_hit_shows_its_line_its_chain_its_duties_and_why(service: SearchService) -> None:
    answer = service.search("Celular nuevo")
    assert (answer["query"], answer["total"], answer["engine"], answer["degraded"]) == (
        "Celular nuevo",
        len(answer["results"]),
        "tantivy",
        False,
    )
    first = answer["results"][0]
    assert dict(first) == {
        "code": "8517130000",
        "display_code": "8517.13.00.00",
        "description": "Teléfonos inteligentes",
        "path": [
            {"code": "85", "display_code": "85", "description": "Aparatos eléctricos"},
            {"code": "8517", "display_code": "8517", "description": "Teléfonos"},
            {"code": "85171", "display_code": "8517.1", "description": "Aparatos de teléfono"},
        ],
        "duties": {"dai": "15.00", "isc": "0.00", "ispc": "7.50", "isv": "15.00"},
        "courier_category": "ALLOWED",
        "courier_reason": None,
        "score": first["score"],
        "highlights": [],
        "reason": "«Celular» coincide con «celular» (catálogo inicial).",
    }


def test_words_of_the_query_are_marked_where_they_stand(service: SearchService) -> None:
    first = service.search("telefono")["results"][0]
    marked = {mark["field"]: mark for mark in first["highlights"]}
    assert first["description"][marked["description"]["start"] : marked["description"]["end"]] == "Teléfonos"
    assert {"path.1", "path.2"} <= set(marked)


def test_the_language_asked_for_is_the_language_shown(service: SearchService) -> None:
    first = service.search("headphones", lang="en")["results"][0]
    assert (first["code"], first["description"]) == ("8518300000", "Headphones, other than medical ones")
    assert first["reason"].startswith("“headphones” is in the wording of this line")


def test_dashes_and_colons_of_the_official_layout_are_not_shown(service: SearchService) -> None:
    assert service.search("6403.40")["results"][0]["description"] == "Botas con puntera de metal"


@pytest.mark.parametrize("text", ["8517", "8517.1", "85171", "8517 13", "851713", "8517.13.00.00"])
def test_codes_and_their_beginnings_find_what_is_below(service: SearchService, text: str) -> None:
    found = codes(service.search(text))
    digits = "".join(char for char in text if char.isdigit())
    assert found == [code for code in LINES if code.startswith(digits)]


def test_another_country_s_last_digits_lead_to_the_nearest_code(service: SearchService) -> None:
    answer = service.search("8517.13.0050")
    assert codes(answer) == ["8517130000"]
    assert answer["results"][0]["reason"] == "No existe 8517.13.00.50; comienza con 8517.13.00."


def test_pending_keywords_are_not_searched(service: SearchService) -> None:
    assert codes(service.search("imaginaria")) == []


def test_nonsense_finds_nothing(service: SearchService) -> None:
    answer = service.search("xqzzk qwrtp")
    assert (answer["total"], answer["results"], answer["degraded"]) == (0, [], False)


@pytest.mark.parametrize("text", ["", "   ", "!!!", "¿?", "\x00", "de la"])
def test_a_text_without_words_finds_nothing(service: SearchService, text: str) -> None:
    assert service.search(text)["total"] == 0


def test_filters_keep_only_their_category_and_chapter(service: SearchService) -> None:
    assert codes(service.search("aparatos", category="RESTRICTED")) == ["9021400000"]
    assert {code[:2] for code in codes(service.search("aparatos", chapter="85"))} == {"85"}


def test_pages_follow_each_other_without_gap_or_repetition(service: SearchService) -> None:
    whole = service.search("aparatos electricos telefonos", limit=100)
    pages = [service.search("aparatos electricos telefonos", limit=2, offset=at) for at in range(0, whole["total"], 2)]
    assert [code for page in pages for code in codes(page)] == codes(whole)
    assert {page["total"] for page in pages} == {whole["total"]}


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"offset": -1}, "offset"),
        ({"lang": "fr"}, "lang"),
        ({"category": "allowed"}, "category"),
        ({"chapter": "8"}, "chapter"),
        ({"chapter": "٨٥"}, "chapter"),
    ],
)
def test_what_cannot_be_asked_is_named(service: SearchService, arguments: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        service.search("celular", **arguments)  # type: ignore[arg-type]  # wrong on purpose
    assert raised.value.field == field


def test_texts_and_categories_are_never_older_than_the_database(service: SearchService, catalogue: Database) -> None:
    with catalogue.write() as session:
        session.execute(update(TariffLine).where(TariffLine.code == "8517130000").values(courier_category="PROHIBITED"))
        session.execute(update(TariffLine).where(TariffLine.code == "8517140000").values(retired_at=db_now()))
    found = {result["code"]: result for result in service.search("telefonos")["results"]}
    assert found["8517130000"]["courier_category"] == "PROHIBITED"
    assert "8517140000" not in found


def test_a_page_of_results_costs_one_statement(service: SearchService, catalogue: Database) -> None:
    statements: list[str] = []
    event.listen(catalogue.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    assert service.search("aparatos")["total"] >= 3
    assert len([statement for statement in statements if statement.startswith("SELECT")]) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("celular", "8517130000"),
        ("audifonos bluetooth", "8518300000"),
        ("TELÉFONOS", "8517130000"),
        ("8518.30", "8518300000"),
        ("tenis", "6404190000"),
        ("earbuds", "8518300000"),
    ],
)
def test_without_an_index_sql_answers_and_says_so(degraded: SearchService, text: str, code: str) -> None:
    answer = degraded.search(text)
    assert (answer["degraded"], answer["engine"]) == (True, "sql")
    assert answer["results"][0]["code"] == code
    assert answer["results"][0]["reason"]


def test_without_an_index_filters_hold_and_nonsense_finds_nothing(degraded: SearchService) -> None:
    assert codes(degraded.search("aparatos", category="RESTRICTED")) == ["9021400000"]
    assert {code[:2] for code in codes(degraded.search("aparatos", chapter="85"))} == {"85"}
    assert degraded.search("xqzzk qwrtp")["total"] == 0
    assert degraded.search("100%_")["total"] == 0


def test_an_index_that_goes_away_and_comes_back_is_noticed(
    service: SearchService, engine: TantivyEngine, tmp_path: Path
) -> None:
    assert service.search("celular")["degraded"] is False
    shutil.move(engine._folder, tmp_path / "away")
    assert service.search("celular")["degraded"] is True
    shutil.move(tmp_path / "away", engine._folder)
    assert service.search("celular")["degraded"] is False


def test_a_damaged_index_is_answered_from_sql(service: SearchService, engine: TantivyEngine, tmp_path: Path) -> None:
    for file in (engine._folder / "generations" / "first").glob("*.term"):
        file.write_bytes(b"\0" * 100)
    fresh = SearchService(service._database, Settings(data_dir=tmp_path), engine=TantivyEngine(engine._folder))
    assert fresh.search("celular")["degraded"] is True


def test_suggestions_complete_what_is_typed_with_words_and_lines(service: SearchService) -> None:
    answer = service.suggest("audif")
    assert [(item["kind"], item["text"]) for item in answer["suggestions"][:2]] == [
        ("word", "audífonos"),
        ("word", "audífonos bluetooth"),
    ]
    assert [item["code"] for item in answer["suggestions"] if item["kind"] == "line"] == ["8518300000"]


def test_the_beginning_of_a_code_suggests_lines(service: SearchService) -> None:
    assert [item["display_code"] for item in service.suggest("8517.1")["suggestions"]] == [
        "8517.13.00.00",
        "8517.14.00.00",
    ]


@pytest.mark.parametrize("text", ["", "zzzz", "¿"])
def test_nothing_is_suggested_for_nothing(service: SearchService, text: str) -> None:
    assert service.suggest(text)["suggestions"] == []


def test_without_an_index_suggestions_are_empty_and_say_so(degraded: SearchService) -> None:
    answer = degraded.suggest("audif")
    assert (answer["degraded"], answer["suggestions"]) == (True, [])


def test_a_keyword_that_was_removed_is_no_longer_suggested(
    service: SearchService, catalogue: Database, engine: TantivyEngine
) -> None:
    from sicargabox_core.search import indexing

    add_keyword(catalogue, "8517130000", "telefonito")
    indexing.update(catalogue, engine, ["8517130000"])
    assert service.suggest("telefonit")["suggestions"]
    engine.replace(["8517130000"], [])
    assert service.suggest("telefonit")["suggestions"] == []


def test_the_settings_choose_the_engine_and_nothing_is_asked_for_it(tmp_path: Path) -> None:
    assert make_engine(Settings(data_dir=tmp_path)).name == "tantivy"
    assert make_engine(Settings(search_url="http://127.0.0.1:9")).name == "elasticsearch"


@pytest.mark.parametrize(
    "url",
    ["localhost:9200", "ftp://h:9200", "https://", "http://h:port", "https://a:9200;http://b:9200", "http://h/?q=1"],
)
def test_an_address_that_cannot_be_of_a_search_server_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidSetting, match="SICARGABOX_SEARCH_URL"):
        make_engine(Settings(search_url=url))


def test_a_password_in_the_address_of_a_search_server_is_refused_and_not_told() -> None:
    with pytest.raises(InvalidSetting, match="SICARGABOX_SEARCH_URL") as caught:
        make_engine(Settings(search_url="https://elastic:hunter22@h:9200"))
    assert "hunter22" not in str(caught.value)
