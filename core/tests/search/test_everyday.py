"""Everyday queries on the official tariff: what people type must lead to the right heading."""

from __future__ import annotations

from pathlib import Path

import pytest

from sicargabox_core.lexicon.guidance import packaged_guidance
from sicargabox_core.search.evaluate import Labelled, measure, read_set, score
from sicargabox_core.search.evaluation import headings_in_force
from sicargabox_core.search.guidance_check import AMONG, check_guidance
from sicargabox_core.search.service import SearchService
from tests.search_document import EXAMPLES_BEGIN, EXAMPLES_END, between, examples

EVERYDAY = Path(__file__).parent / "everyday.csv"


@pytest.fixture(autouse=True)
def lexicon() -> None:
    """These laws are about the real vocabulary, not the few words of the other tests."""


@pytest.fixture
def service(official: SearchService) -> SearchService:
    """A search over the official tariff."""
    return official


@pytest.fixture(scope="module")
def everyday() -> list[Labelled]:
    return read_set(EVERYDAY)


def test_the_set_is_large_and_both_halves_are(everyday: list[Labelled]) -> None:
    counted = sum(labelled.counted for labelled in everyday)
    assert len(everyday) >= 200
    assert 0.4 < counted / len(everyday) < 0.6
    assert len({labelled.query for labelled in everyday}) == len(everyday)


def test_bluetooth_headphones_are_headphones(service: SearchService) -> None:
    for text in ("audífonos bluetooth", "AUDIFONOS BLUETOOTH jbl", "bluetooth headphones"):
        assert service.search(text)["results"][0]["display_code"] == "8518.30.00.00"


def test_three_of_four_everyday_queries_find_their_heading_among_five(
    service: SearchService, everyday: list[Labelled]
) -> None:
    """On the half that is only counted; far below today's figure, so that it fails on a break and not on a word."""
    outcomes = measure(
        [labelled for labelled in everyday if labelled.counted],
        lambda query: [result["code"] for result in service.search(query)["results"]],
    )
    assert score(outcomes).hit5.value >= 0.75


def test_no_page_shows_a_heading_twice_before_all_its_headings_once(
    service: SearchService, everyday: list[Labelled]
) -> None:
    for labelled in everyday:
        headings = [result["code"][:4] for result in service.search(labelled.query)["results"]]
        different = len(set(headings))
        assert len(set(headings[:different])) == different, labelled.query


def test_every_hit_says_why(service: SearchService, everyday: list[Labelled]) -> None:
    for labelled in everyday[::5]:
        for lang in ("es", "en"):
            for result in service.search(labelled.query, lang=lang)["results"]:
                assert result["reason"].endswith("."), labelled.query


@pytest.mark.parametrize("text", ["xqzzk qwrtp", "zzzzz", "qqqq wwww", "jkhgfd mnbvcx", "asdfghjkl", "lkjhgf"])
def test_random_letters_find_nothing(service: SearchService, text: str) -> None:
    assert service.search(text)["total"] == 0


@pytest.mark.parametrize(
    ("text", "first"), [("8517", "8517.11.00.00"), ("8517.13", "8517.13.00.00"), ("851713", "8517.13.00.00")]
)
def test_codes_and_prefixes_find_their_lines(service: SearchService, text: str, first: str) -> None:
    answer = service.search(text, limit=100)
    digits = text.replace(".", "")
    assert answer["results"][0]["display_code"] == first
    assert all(result["code"].startswith(digits) for result in answer["results"])


def test_others_are_shown_with_their_chain(service: SearchService) -> None:
    (line,) = service.search("8518.29.00.00")["results"]
    assert line["description"] == "Los demás"
    assert [step["code"] for step in line["path"]] == ["85", "8518", "85182"]


def test_every_choice_of_every_question_has_its_headings_among_the_first_five(service: SearchService) -> None:
    with service._database.read() as session:
        headings = headings_in_force(session)

    def codes(query: str) -> list[str]:
        return [result["code"] for result in service.search(query, limit=AMONG)["results"]]

    assert list(check_guidance(packaged_guidance(), headings, codes)) == []


def test_the_worked_examples_of_the_document_are_what_the_search_answers(service: SearchService) -> None:
    assert between(EXAMPLES_BEGIN, EXAMPLES_END) == examples(service), "make quality"
