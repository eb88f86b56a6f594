"""Both engines answer alike on the official tariff, and well: the engine behind the search is not for customers to
notice.

Of the half of our labelled queries that is only counted, nothing but counts is asserted on or printed here.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from sicargabox_core.catalogue.tariff_import import import_tariff
from sicargabox_core.db import Database, migrate
from sicargabox_core.search import indexing
from sicargabox_core.search.baseline import Change, compare
from sicargabox_core.search.evaluate import OWN_SET, Labelled, read_set
from sicargabox_core.search.evaluation import ask, headings_in_force
from sicargabox_core.search.quality_report import GOALS, Goal, Report, answerable, goals_of, own_baseline
from sicargabox_core.search.service import SearchService
from sicargabox_core.settings import Settings
from tests.settings import REPOSITORY, absent, machine

LABELLED = REPOSITORY / "core" / "tests" / "search" / "everyday.csv"
QUERIES = Path(__file__).parent / "search_queries.csv"
LEAST_SAME = 0.95
LEAST_CHAPTERS = 70
MOST_APART = 0.01
MOST_FROM_STORED = 0.005
PAGE = 20
ENGINES = ("tantivy", "elasticsearch")
# Elasticsearch looks while the ranker, of which one runs at a time, orders what another query has found.
ASKED_AT_ONCE = 3

# Both indices of the whole tariff are built before the first law.
pytestmark = pytest.mark.timeout(300)


class Pair(NamedTuple):
    """The same search over the same database with each engine."""

    embedded: SearchService
    server: SearchService


@pytest.fixture(scope="module")
def pair(elasticsearch_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both indices of the official tariff, each built once."""
    if not machine().tariff_csv.is_file():
        absent("the official tariff", f"set SICARGABOX_TEST_TARIFF_CSV (not {machine().tariff_csv})")
    folder = tmp_path_factory.mktemp("tariff")
    database = Database(f"sqlite:///{folder / 'sicargabox.db'}")
    migrate(database)
    english = machine().hs_english_csv
    import_tariff(database, machine().tariff_csv, english=english if english.is_file() else None, by="test")
    pair = Pair(SearchService(database, Settings(data_dir=folder)), SearchService(database, elasticsearch_settings))
    for service in pair:
        rebuilt = indexing.rebuild(
            database, service.engine, generation="agreed", on_step=lambda *_: None, publish=nullcontext
        )
        assert rebuilt.documents > 7000
    yield pair
    database.dispose()


@pytest.fixture(scope="module")
def queries() -> list[str]:
    with QUERIES.open(encoding="utf-8", newline="") as file:
        return [row["query"] for row in csv.DictReader(file)]


def headings(service: SearchService, query: str) -> list[str]:
    """The headings of the first page, each once."""
    answer = service.search(query, limit=PAGE)
    assert not answer["degraded"], query
    return list(dict.fromkeys(result["code"][:4] for result in answer["results"]))


def test_the_queries_are_many_and_none_is_in_the_labelled_set(queries: list[str]) -> None:
    assert len(set(queries)) == len(queries) >= 220
    assert not {labelled.query for labelled in read_set(LABELLED)} & set(queries)


def test_both_engines_give_the_same_first_heading_all_over_the_tariff(pair: Pair, queries: list[str]) -> None:
    embedded, server = ({query: headings(service, query) for query in queries} for service in pair)
    chapters = {found[0][:2] for found in embedded.values() if found}
    assert len(chapters) >= LEAST_CHAPTERS, sorted(chapters)
    apart = {
        query: (embedded[query][:3], server[query][:3]) for query in queries if embedded[query][:1] != server[query][:1]
    }
    same = 1 - len(apart) / len(queries)
    print(f"the same first heading: {same:.1%} of {len(queries)}; apart: {apart}")
    assert same >= LEAST_SAME, apart


@pytest.mark.parametrize("prefix", ["aud", "zapat", "cam", "blue", "nik", "cel", "8517", "piñ", "lap", "t"])
def test_both_engines_complete_what_is_typed_alike(pair: Pair, prefix: str) -> None:
    embedded, server = (service.suggest(prefix) for service in pair)
    assert not server["degraded"]
    assert [item["text"] for item in server["suggestions"]] == [item["text"] for item in embedded["suggestions"]]


def test_both_engines_keep_the_same_lines_with_the_same_hashes(pair: Pair) -> None:
    assert dict(pair.server.engine.hashes()) == dict(pair.embedded.engine.hashes())


# --- the counted half of our own labelled queries ---------------------------------------------------------------------
class Measured(NamedTuple):
    """What one engine makes of it: counts alone, since a failed test shows the values it was given."""

    report: Report
    losses: list[Change]


@pytest.fixture(scope="module")
def measured(pair: Pair) -> dict[str, Measured]:
    """Asked once for all laws."""
    with pair.embedded._database.read() as session:
        queries = answerable(read_set(OWN_SET), headings_in_force(session))
    counted = [one for one in queries if one.counted]
    return {engine: _measured(engine, service, counted) for engine, service in zip(ENGINES, pair, strict=True)}


def _measured(engine: str, service: SearchService, queries: Sequence[Labelled]) -> Measured:
    parts = [queries[at::ASKED_AT_ONCE] for at in range(ASKED_AT_ONCE)]
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        outcomes = [one for part in pool.map(partial(ask, service), parts) for one in part]
    report = Report.of(engine, outcomes).model_copy(update={"places": None})
    changes = compare(Report.read(own_baseline(engine)), outcomes)
    return Measured(report, [change for change in changes if change.loss])


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.name)
@pytest.mark.parametrize("engine", ENGINES)
def test_each_goal_is_reached_on_the_counted_half(measured: dict[str, Measured], engine: str, goal: Goal) -> None:
    (reached,) = [one for one in goals_of(measured[engine].report) if one.goal == goal]
    assert reached.met, f"{goal.name}: {reached.value:.3f} where {reached.bound:.3f} is the goal"


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_lost_against_the_stored_baseline(measured: dict[str, Measured], engine: str) -> None:
    assert not measured[engine].losses


@pytest.mark.parametrize("engine", ENGINES)
def test_the_stored_baseline_is_what_the_engine_reaches(measured: dict[str, Measured], engine: str) -> None:
    """Not to the query: which of many equal candidates an engine fetches is its own affair."""
    now, stored = (one.score(half="counted") for one in (measured[engine].report, Report.read(own_baseline(engine))))
    assert now.queries == stored.queries, "make quality"
    assert abs(now.hit1.value - stored.hit1.value) <= MOST_FROM_STORED, "make quality"
    assert abs(now.hit5.value - stored.hit5.value) <= MOST_FROM_STORED, "make quality"


def test_both_engines_find_labelled_headings_equally_often(measured: dict[str, Measured]) -> None:
    embedded, server = (measured[engine].report.score() for engine in ENGINES)
    print(f"hit@5 embedded {embedded.hit5}, elasticsearch {server.hit5}; hit@1 {embedded.hit1}, {server.hit1}")
    assert abs(embedded.hit5.value - server.hit5.value) <= MOST_APART
