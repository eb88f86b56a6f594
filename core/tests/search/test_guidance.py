"""What is asked about vague words, and when. The questions are made up, but for the laws of the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from core.tests.search.tariff import build

from sicargabox_core.db import Database
from sicargabox_core.errors import DataFault
from sicargabox_core.lexicon.guidance import (
    ALONE,
    EMPTY,
    HEAD,
    GuidanceChoice,
    GuidanceQuestion,
    VagueTerm,
    packaged_guidance,
    read_guidance,
)
from sicargabox_core.search import guidance, service
from sicargabox_core.search.guidance import Book, Guidance, guidance_for, narrowed
from sicargabox_core.search.guidance_check import check_guidance
from sicargabox_core.search.query import parse
from sicargabox_core.search.ranking import Hit
from sicargabox_core.search.service import SearchService
from sicargabox_core.search.tantivy_engine import TantivyEngine
from sicargabox_core.settings import Settings


def choice(es: str, en: str, *codes: str) -> GuidanceChoice:
    return GuidanceChoice(f"Es {es}", f"Is {en}", es, en, codes)


GIFT = GuidanceQuestion(
    "gift",
    "¿Qué es?",
    "What is it?",
    (choice("perfume", "perfume", "3303"), choice("juguete", "toy", "9503"), choice("reloj", "watch", "9102")),
)
CARE = GuidanceQuestion(
    "care",
    "¿Para qué?",
    "What for?",
    (choice("crema facial", "face cream", "3304"), choice("betún", "shoe polish", "3405"), choice("a", "b", "3004")),
)
CLOTH = GuidanceQuestion(
    "cloth",
    "¿De punto?",
    "Knitted?",
    (
        choice("{} de punto", "knit {}", "61"),
        choice("{} de tejido plano", "woven {}", "62"),
        choice("{} de cuero", "leather {}", "4203"),
    ),
)
TERMS = (
    VagueTerm("regalo", "es", EMPTY, GIFT),
    VagueTerm("gift", "en", EMPTY, GIFT),
    VagueTerm("crema", "es", ALONE, CARE),
    VagueTerm("crema de regalo", "es", ALONE, GIFT),
    VagueTerm("camisa", "es", HEAD, CLOTH),
    VagueTerm("shirt", "en", HEAD, CLOTH),
)
SPLIT = (Hit("6205300000", 0.9), Hit("6105100000", 0.8), Hit("8409000000", 0.3))


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guidance, "_packaged", lambda: Book(TERMS))


def asked(text: str, hits: Sequence[Hit] = (), language: str = "es") -> Guidance | None:
    return guidance_for(parse(text), hits, language)


def queries(text: str, hits: Sequence[Hit] = ()) -> list[str]:
    found = asked(text, hits)
    return [one["query"] for one in found["choices"]] if found else []


@pytest.mark.usefixtures("book")
class TestWhenItIsAsked:
    """With a few made-up questions."""

    @pytest.mark.parametrize(
        "text", ["regalo", "Regalos", "un REGALO para mi mamá", "2 regalos nuevos", "gifts for her"]
    )
    def test_a_vague_word_is_asked_about_when_nothing_else_tells_anything(self, text: str) -> None:
        found = asked(text)
        assert found is not None
        assert found["question"] == "¿Qué es?"

    @pytest.mark.parametrize("text", ["regalo de porcelana", "papel de regalo", "crema para zapatos", "crema y papel"])
    def test_another_word_that_tells_something_ends_the_question(self, text: str) -> None:
        assert asked(text) is None

    @pytest.mark.parametrize("text", ["", "   ", "qwrtzz", "8517.13", "6205", "8517.13 regalo", "de la para", "¿?"])
    def test_what_is_unknown_empty_or_a_code_is_not_asked_about(self, text: str) -> None:
        assert asked(text, SPLIT) is None

    def test_a_word_that_adds_nothing_leaves_the_question_to_the_other(self) -> None:
        assert queries("regalos y crema")[0] == "crema facial"
        assert queries("crema nueva y regalos")[0] == "crema facial nueva"

    def test_a_whole_phrase_is_asked_about_before_its_words(self) -> None:
        assert queries("crema de regalo")[0] == "perfume"

    def test_a_choice_keeps_what_else_was_said(self) -> None:
        assert queries("un regalo para mi mamá")[0] == "perfume para mi mamá"
        assert queries("camisa azul talla M", SPLIT)[0] == "camisa de punto azul talla M"
        assert queries("mens blue shirts size M", SPLIT)[1] == "mens blue woven shirts size M"

    def test_the_question_is_in_the_reader_s_language_and_the_query_in_the_words_own(self) -> None:
        found = asked("regalo", language="en")
        assert found == {
            "about": "regalo",
            "question": "What is it?",
            "choices": [
                {"label": "Is perfume", "query": "perfume"},
                {"label": "Is toy", "query": "juguete"},
                {"label": "Is watch", "query": "reloj"},
            ],
        }

    def test_a_query_stays_short_enough_to_be_searched(self) -> None:
        assert all(len(query) <= 200 for query in queries("camisa azul " + "x1 " * 62, SPLIT))

    def test_the_name_of_goods_is_asked_about_when_the_best_hits_lie_under_several_answers(self) -> None:
        assert asked("camisa", SPLIT) is not None
        assert asked("camisa", SPLIT[:1]) is None
        assert asked("camisa", ()) is None
        far_behind = (SPLIT[0], SPLIT[1]._replace(score=0.5))
        assert asked("camisa", far_behind) is None

    @pytest.mark.parametrize(
        "text", ["percha para camisa", "shirt hanger", "t-shirt", "T shirt", "hanger for shirts", "molde de camisa"]
    )
    def test_what_goods_are_for_or_part_of_is_not_asked_about(self, text: str) -> None:
        assert asked(text, SPLIT) is None

    @pytest.mark.parametrize("text", ["shirt for men", "blue shirt with pockets", "camisa nueva", "nueva camisa roja"])
    def test_the_name_of_goods_comes_first_in_spanish_and_last_in_english(self, text: str) -> None:
        assert asked(text, SPLIT) is not None

    @pytest.mark.parametrize(
        "text", ["camisa de punto", "camisa de cuero", "woven shirt", "knit shirt", "regalo perfume"]
    )
    def test_who_has_answered_is_not_asked(self, text: str) -> None:
        assert asked(text, SPLIT) is None


def test_no_hit_is_changed_by_a_question(
    sqlite_catalogue: Database, engine: TantivyEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(sqlite_catalogue, engine)
    searching = SearchService(sqlite_catalogue, Settings(data_dir=tmp_path), engine=engine)
    for text in ("zapatos", "celular", "regalo", "partes"):
        found = searching.search(text)
        with monkeypatch.context() as without:
            without.setattr(service, "guidance_for", lambda *_: None)
            bare = searching.search(text)
        assert bare["guidance"] is None
        for name in ("results", "total", "degraded"):
            assert found[name] == bare[name]
    both = searching.search("partes")
    assert both["guidance"] is not None
    assert both["results"]


class TestThePackage:
    """The questions that people are asked."""

    def test_it_knows_many_words_in_both_languages_and_asks_each_with_few_choices(self) -> None:
        terms = packaged_guidance()
        questions = {term.question for term in terms}
        assert sum(term.language == "es" for term in terms) >= 120
        assert sum(term.language == "en" for term in terms) >= 80
        assert len(questions) >= 40
        assert all(3 <= len(question.choices) <= 7 for question in questions)

    def test_every_word_gets_its_question(self) -> None:
        hits = [
            Hit(code.ljust(10, "0"), 1.0) for code in ("6100", "6200", "6403", "6404", "7113", "7117", "4011", "4012")
        ]
        for term in packaged_guidance():
            found = guidance_for(parse(term.text), hits, term.language)
            assert found is not None, term.text
            assert found["question"] == term.question.text(term.language), term.text

    def test_no_choice_leads_back_to_its_own_question(self) -> None:
        for term in packaged_guidance():
            for query, _ in narrowed(term):
                found = guidance_for(parse(query), (), term.language)
                assert found is None or found["question"] != term.question.text(term.language), query

    @pytest.mark.parametrize(
        "text", ["regalo", "accesorios", "repuesto", "cosas varias", "things", "spare parts", "gift"]
    )
    def test_the_vaguest_words_are_known(self, text: str) -> None:
        assert asked(text) is not None


class TestTheCheck:
    """Of the data."""

    HEADINGS = ("3303", "9503", "9102", "3304", "3405", "3004", "6105", "6205", "4203")

    def faults(self, *terms: VagueTerm, found: Sequence[str] = HEADINGS) -> list[str]:
        return list(check_guidance(terms, self.HEADINGS, lambda _: [f"{code}000000" for code in found]))

    def test_a_choice_that_leads_nowhere_or_elsewhere_is_a_fault(self) -> None:
        regalo = TERMS[0]
        assert self.faults(regalo, found=("3303", "9503", "9102")) == []
        (fault,) = self.faults(regalo, found=("3303", "9503"))
        assert fault == "gift, regalo (es): reloj: 9102 is not among 3303, 9503"
        assert len(self.faults(regalo, found=())) == 3
        assert len(self.faults(regalo, found=("1", "2", "3", "4", "5", "3303"))) == 3

    def test_a_heading_that_the_catalogue_lacks_is_a_fault(self) -> None:
        lacking = replace(GIFT, choices=(*GIFT.choices[:2], choice("x", "y", "9999")))
        assert self.faults(VagueTerm("regalo", "es", ALONE, lacking)) == [
            "gift, regalo (es): x: the catalogue has no 9999"
        ]

    def test_a_word_written_twice_is_a_fault_also_in_the_other_number(self) -> None:
        twice = (TERMS[0], VagueTerm("regalo", "es", ALONE, GIFT))
        elsewhere = (TERMS[0], VagueTerm("regalos", "es", ALONE, CARE))
        assert "regalo (es) is in gift and in gift" in self.faults(*twice)
        assert "regalos (es) is in gift and in care" in self.faults(*elsewhere)

    def test_a_question_with_too_few_choices_or_two_alike_is_a_fault(self) -> None:
        few = replace(GIFT, choices=(GIFT.choices[0], GIFT.choices[0]))
        faults = self.faults(VagueTerm("regalo", "es", ALONE, few))
        assert "gift has 2 choices, not 3 to 7" in faults
        assert "gift (es): two choices are perfume" in faults


class TestTheFiles:
    """Their form."""

    FILES = {  # noqa: RUF012  # read only
        "questions": "question,es,en\nq,¿Qué?,What?\n",
        "choices": "question,label_es,label_en,words_es,words_en,codes\nq,A,B,a,b,61|3926\n",
        "terms": "term,lang,use,question\ncosa,es,alone,q\n",
    }

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name, text in self.FILES.items():
            (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
        return tmp_path

    def test_a_word_is_read_with_its_question_and_choices(self, folder: Path) -> None:
        (term,) = read_guidance(folder)
        assert (term.text, term.language, term.use, term.question.es) == ("cosa", "es", "alone", "¿Qué?")
        assert term.question.choices[0].codes == ("61", "3926")

    @pytest.mark.parametrize(
        ("name", "row"),
        [
            ("questions", "q,¿Qué?,What?"),
            ("questions", "other,¿Qué?,What?"),
            ("questions", "q,,What?"),
            ("choices", "q,A,B,a,b,611"),
            ("choices", "q,A,B,a,b,"),
            ("choices", "q,A,,a,b,61"),
            ("choices", "unknown,A,B,a,b,61"),
            ("terms", "cosa,fr,alone,q"),
            ("terms", "Cosa,es,alone,q"),
            ("terms", "cosa,es,sometimes,q"),
            ("terms", "cosa,es,alone,unknown"),
            ("terms", "cosa,es,alone"),
        ],
    )
    def test_a_row_of_another_form_is_named(self, folder: Path, name: str, row: str) -> None:
        with (folder / f"{name}.csv").open("a", encoding="utf-8") as file:
            file.write(row + "\n")
        with pytest.raises(DataFault, match=rf"{name}\.csv|questions\.csv"):
            read_guidance(folder)
