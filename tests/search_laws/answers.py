"""What the API answers from: the whole of search over a real index and a real database, for every engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from core.tests.search.tariff import LINES, add_keyword, build
from sqlalchemy import event, update

from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import InvalidInput
from sicargabox_core.search import indexing
from sicargabox_core.search.engine import SearchEngine
from sicargabox_core.search.service import SearchAnswer, SearchService
from sicargabox_core.settings import Settings
from tests.search_laws.place import Place


def codes(answer: SearchAnswer) -> list[str]:
    return [result["code"] for result in answer["results"]]


class AnswerLaws:
    """Searching and suggesting, with an index and without."""

    @pytest.fixture
    def service(self, catalogue: Database, engine: SearchEngine, tmp_path: Path) -> SearchService:
        """A search over the small tariff with its index."""
        build(catalogue, engine)
        return SearchService(catalogue, Settings(data_dir=tmp_path), engine=engine)

    @pytest.fixture
    def degraded(self, catalogue: Database, engine: SearchEngine, tmp_path: Path) -> SearchService:
        """The same without an index."""
        return SearchService(catalogue, Settings(data_dir=tmp_path), engine=engine)

    def test_a_hit_shows_its_line_its_chain_its_duties_and_why(self, service: SearchService) -> None:
        answer = service.search("Celular nuevo")
        assert (answer["query"], answer["total"], answer["engine"], answer["degraded"]) == (
            "Celular nuevo",
            len(answer["results"]),
            service.engine.name,
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

    def test_words_of_the_query_are_marked_where_they_stand(self, service: SearchService) -> None:
        first = service.search("telefono")["results"][0]
        marked = {mark["field"]: mark for mark in first["highlights"]}
        assert first["description"][marked["description"]["start"] : marked["description"]["end"]] == "Teléfonos"
        assert {"path.1", "path.2"} <= set(marked)

    def test_the_language_asked_for_is_the_language_shown(self, service: SearchService) -> None:
        first = service.search("headphones", lang="en")["results"][0]
        assert (first["code"], first["description"]) == ("8518300000", "Headphones, other than medical ones")
        assert first["reason"].startswith("“headphones” is in the wording of this line")

    def test_dashes_and_colons_of_the_official_layout_are_not_shown(self, service: SearchService) -> None:
        assert service.search("6403.40")["results"][0]["description"] == "Botas con puntera de metal"

    @pytest.mark.parametrize("text", ["8517", "8517.1", "85171", "8517 13", "851713", "8517.13.00.00"])
    def test_codes_and_their_beginnings_find_what_is_below(self, service: SearchService, text: str) -> None:
        found = codes(service.search(text))
        digits = "".join(char for char in text if char.isdigit())
        assert found == [code for code in LINES if code.startswith(digits)]

    def test_another_country_s_last_digits_lead_to_the_nearest_code(self, service: SearchService) -> None:
        answer = service.search("8517.13.0050")
        assert codes(answer) == ["8517130000"]
        assert answer["results"][0]["reason"] == "No existe 8517.13.00.50; comienza con 8517.13.00."

    def test_pending_keywords_are_not_searched(self, service: SearchService) -> None:
        assert codes(service.search("imaginaria")) == []

    def test_nonsense_finds_nothing(self, service: SearchService) -> None:
        answer = service.search("xqzzk qwrtp")
        assert (answer["total"], answer["results"], answer["degraded"]) == (0, [], False)

    @pytest.mark.parametrize("text", ["", "   ", "!!!", "¿?", "\x00", "de la"])
    def test_a_text_without_words_finds_nothing(self, service: SearchService, text: str) -> None:
        assert service.search(text)["total"] == 0

    def test_filters_keep_only_their_category_and_chapter(self, service: SearchService) -> None:
        assert codes(service.search("aparatos", category="RESTRICTED")) == ["9021400000"]
        assert {code[:2] for code in codes(service.search("aparatos", chapter="85"))} == {"85"}

    def test_pages_follow_each_other_without_gap_or_repetition(self, service: SearchService) -> None:
        whole = service.search("aparatos electricos telefonos", limit=100)
        pages = [
            service.search("aparatos electricos telefonos", limit=2, offset=at) for at in range(0, whole["total"], 2)
        ]
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
    def test_what_cannot_be_asked_is_named(
        self, service: SearchService, arguments: dict[str, object], field: str
    ) -> None:
        with pytest.raises(InvalidInput) as raised:
            service.search("celular", **arguments)  # type: ignore[arg-type]  # wrong on purpose
        assert raised.value.field == field

    def test_texts_and_categories_are_never_older_than_the_database(
        self, service: SearchService, catalogue: Database
    ) -> None:
        with catalogue.write() as session:
            session.execute(
                update(TariffLine).where(TariffLine.code == "8517130000").values(courier_category="PROHIBITED")
            )
            session.execute(update(TariffLine).where(TariffLine.code == "8517140000").values(retired_at=db_now()))
        found = {result["code"]: result for result in service.search("telefonos")["results"]}
        assert found["8517130000"]["courier_category"] == "PROHIBITED"
        assert "8517140000" not in found

    def test_a_page_of_results_costs_one_statement(self, service: SearchService, catalogue: Database) -> None:
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
    def test_without_an_index_sql_answers_and_says_so(self, degraded: SearchService, text: str, code: str) -> None:
        answer = degraded.search(text)
        assert (answer["degraded"], answer["engine"]) == (True, "sql")
        assert answer["results"][0]["code"] == code
        assert answer["results"][0]["reason"]

    def test_without_an_index_filters_hold_and_nonsense_finds_nothing(self, degraded: SearchService) -> None:
        assert codes(degraded.search("aparatos", category="RESTRICTED")) == ["9021400000"]
        assert {code[:2] for code in codes(degraded.search("aparatos", chapter="85"))} == {"85"}
        assert degraded.search("xqzzk qwrtp")["total"] == 0
        assert degraded.search("100%_")["total"] == 0

    def test_an_index_that_goes_away_and_comes_back_is_noticed(
        self, service: SearchService, engine: SearchEngine, place: Place, tmp_path: Path
    ) -> None:
        assert service.search("celular")["degraded"] is False
        with place.away():
            assert service.search("celular")["degraded"] is True
        assert service.search("celular")["degraded"] is False

    def test_suggestions_complete_what_is_typed_with_words_and_lines(self, service: SearchService) -> None:
        answer = service.suggest("audif")
        assert [(item["kind"], item["text"]) for item in answer["suggestions"][:2]] == [
            ("word", "audífonos"),
            ("word", "audífonos bluetooth"),
        ]
        assert [item["code"] for item in answer["suggestions"] if item["kind"] == "line"] == ["8518300000"]

    def test_the_beginning_of_a_code_suggests_lines(self, service: SearchService) -> None:
        assert [item["display_code"] for item in service.suggest("8517.1")["suggestions"]] == [
            "8517.13.00.00",
            "8517.14.00.00",
        ]

    @pytest.mark.parametrize("text", ["", "zzzz", "¿"])
    def test_nothing_is_suggested_for_nothing(self, service: SearchService, text: str) -> None:
        assert service.suggest(text)["suggestions"] == []

    def test_without_an_index_suggestions_are_empty_and_say_so(self, degraded: SearchService) -> None:
        answer = degraded.suggest("audif")
        assert (answer["degraded"], answer["suggestions"]) == (True, [])

    def test_a_keyword_that_was_removed_is_no_longer_suggested(
        self, service: SearchService, catalogue: Database, engine: SearchEngine
    ) -> None:
        add_keyword(catalogue, "8517130000", "telefonito")
        indexing.update(catalogue, engine, ["8517130000"])
        assert service.suggest("telefonit")["suggestions"]
        engine.replace(["8517130000"], [])
        assert service.suggest("telefonit")["suggestions"] == []
