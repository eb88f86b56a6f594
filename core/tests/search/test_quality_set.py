"""The laws of the search's quality set that need no tariff: its columns, its kinds, its sizes and its two halves."""

import csv
import hashlib
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from sicargabox_core.search.evaluate import OWN_SET, Outcome, read_set
from sicargabox_core.search.quality_report import Report, own_baseline
from tests.search_document import between, figures, figures_marks

QUERIES = Path(__file__).resolve().parents[3] / "core/src/sicargabox_core/search/quality/queries.csv"
COLUMNS = ["query", "headings", "lang", "kind"]
LANGUAGES = {"es", "en", "mixed"}
# Below these sizes the interval around a kind's score in one half is wider than the differences it has to show.
FEWEST_BY_KIND = {
    "plain": 520,
    "english": 330,
    "typo": 230,
    "brand": 220,
    "generic": 100,
    "mixed": 130,
    "title": 170,
}
MOST_HEADINGS = 4
MOST_HEADINGS_OF_A_GENERIC_QUERY = 8


def folded(query: str) -> str:
    """The query in lower case, without accents and with single spaces: what decides its half and its sameness."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", query.lower()) if not unicodedata.combining(c))
    return " ".join(bare.split())


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with QUERIES.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == COLUMNS
        return list(reader)


def test_every_row_has_a_query_without_loose_spaces(rows: list[dict[str, str]]) -> None:
    assert [row for row in rows if not row["query"] or row["query"] != " ".join(row["query"].split())] == []


def test_every_language_and_kind_is_a_known_one(rows: list[dict[str, str]]) -> None:
    assert {row["lang"] for row in rows} == LANGUAGES
    assert {row["kind"] for row in rows} == set(FEWEST_BY_KIND)


def test_every_kind_is_large_enough_to_be_scored(rows: list[dict[str, str]]) -> None:
    counts = Counter(row["kind"] for row in rows)
    assert {kind: counts[kind] for kind, fewest in FEWEST_BY_KIND.items() if counts[kind] < fewest} == {}
    assert len(rows) >= 1_600


def test_every_label_is_a_few_different_headings_of_four_digits(rows: list[dict[str, str]]) -> None:
    wrong = []
    for row in rows:
        headings = row["headings"].split("|")
        most = MOST_HEADINGS_OF_A_GENERIC_QUERY if row["kind"] == "generic" else MOST_HEADINGS
        well_formed = all(re.fullmatch(r"\d{4}", heading, re.ASCII) for heading in headings)
        if not well_formed or len(set(headings)) != len(headings) or len(headings) > most:
            wrong.append(row)
    assert wrong == []


def test_the_labels_reach_most_of_the_tariff(rows: list[dict[str, str]]) -> None:
    headings = {heading for row in rows for heading in row["headings"].split("|")}
    assert len(headings) >= 550
    assert len({heading[:2] for heading in headings}) >= 85


def test_no_query_stands_twice_once_folded(rows: list[dict[str, str]]) -> None:
    counts = Counter(folded(row["query"]) for row in rows)
    assert [query for query, count in counts.items() if count > 1] == []


def test_the_open_and_the_counted_half_are_of_like_size(rows: list[dict[str, str]]) -> None:
    counted = sum(hashlib.sha256(folded(row["query"]).encode()).digest()[0] % 2 for row in rows)
    assert 0.45 <= counted / len(rows) <= 0.55


@pytest.mark.parametrize("engine", ["tantivy", "elasticsearch"])
def test_the_stored_baseline_is_of_this_set_and_tells_nothing_of_a_query(engine: str) -> None:
    stored, own = Report.read(own_baseline(engine)), read_set(OWN_SET)
    assert stored.places is None
    assert stored.engine == engine
    assert stored.tally().queries + stored.left_out == len(own), "make quality"
    if not stored.left_out:
        unasked = [Outcome(one, None, 0, None) for one in own]
        assert stored.queries_sha256 == Report.of("", unasked).queries_sha256, "make quality"


@pytest.mark.parametrize("engine", ["tantivy", "elasticsearch"])
def test_the_figures_of_the_document_are_those_of_the_stored_baseline(engine: str) -> None:
    assert between(*figures_marks(engine)) == figures(Report.read(own_baseline(engine))), "make quality"
