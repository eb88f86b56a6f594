"""What our ranker costs and what it is worth: the whole of a search beside the engine's bare answer, and both orders.

In this process. The bare call asks the engine for the same candidates by the same stems and phrases; nothing is
understood, ranked, shown or read from SQL. The other comparison is of two whole searches, of which one leaves the lines
in the order in which the engine gave them. Processor time is that of the searching thread: neither the engine's own
threads or server are in it, nor what else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from unittest import mock

from benchmarks.report import spread, within
from benchmarks.search.engines import build
from benchmarks.search.measured import Measured, quantile
from benchmarks.search.stage import Stage
from sicargabox_core.search import service as search_service
from sicargabox_core.search.engine import MOST_CANDIDATES, Candidate, Filters, Lookup, SearchEngine
from sicargabox_core.search.evaluate import Outcome, score
from sicargabox_core.search.evaluate import measure as place
from sicargabox_core.search.query import Query
from sicargabox_core.search.ranking import Hit
from sicargabox_core.search.service import SearchService
from sicargabox_core.settings import Settings

SECTION = "ranker"
GOAL_RATIO = 2.0
GOAL_WORK_MS = {"tantivy": 4.0, "elasticsearch": 5.0}


def measure(stage: Stage) -> list[Measured]:
    """Times, their ratio, and hits of both orders for each engine."""
    return [figure for name in stage.options.engines for figure in _of(stage, name)]


def _of(stage: Stage, name: str) -> list[Measured]:
    with stage.database() as database, stage.engine(name) as engine:
        build(database, engine, "bench-ranker")
        service = SearchService(database, Settings(data_dir=stage.folder), engine=engine)
        lookups = {one.query: _lookups(service, engine, one.query) for one in stage.everyday}
        asked = [query for query, found in lookups.items() if found]
        whole = _Times()
        for number in range(stage.options.rounds + 1):
            one = _Times()
            for query in asked:
                worked, began = time.thread_time(), time.perf_counter()
                answer = service.search(query)
                ranked = time.perf_counter()
                one.worked.append(time.thread_time() - worked)
                for lookup in lookups[query]:
                    engine.candidates(lookup, MOST_CANDIDATES, Filters())
                fetched = time.perf_counter()
                with mock.patch.object(search_service, "rank", _as_given):
                    patched = time.perf_counter()
                    service.search(query)
                    unranked = time.perf_counter()
                assert not answer["degraded"], f"{name} did not answer {query!r}"
                one.ours.append(ranked - began)
                one.bare.append(fetched - ranked)
                one.unranked.append(unranked - patched)
            if number:  # The first one fills what both keep.
                whole.add(one)
        ours = place(stage.everyday, lambda query: [result["code"] for result in service.search(query)["results"]])
        engines = place(stage.everyday, lambda query: _own_order(engine, lookups[query]))

    work_ms = fmean(whole.worked) * 1000
    goal = GOAL_WORK_MS[name]
    met = within(work_ms, most=goal)

    def ratio(what: str, ratios: list[float]) -> Measured:
        met = within(median(ratios), most=GOAL_RATIO)
        return Measured(SECTION, name, what, spread(ratios, " ×", digits=2), f"≤ {GOAL_RATIO:g} ×", met)

    return [
        Measured(SECTION, name, "search, in the process", _times(whole.ours)),
        Measured(
            SECTION,
            name,
            "processor time a search",
            f"mean {work_ms:.1f}, {_times(whole.worked)}",
            f"mean ≤ {goal:g} ms",
            met,
        ),
        Measured(SECTION, name, "the engine's bare call for the same candidates", _times(whole.bare)),
        Measured(SECTION, name, "search that leaves the engine's order", _times(whole.unranked)),
        ratio("search ÷ bare call, all queries together", whole.over_bare),
        ratio("search ÷ search that leaves the engine's order", whole.over_unranked),
        *_hits(name, "our order", ours),
        *_hits(name, "the engine's own order", engines),
    ]


@dataclass
class _Times:
    """Seconds of each query, and a ratio of the sums of each round."""

    ours: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    unranked: list[float] = field(default_factory=list)
    over_bare: list[float] = field(default_factory=list)
    over_unranked: list[float] = field(default_factory=list)

    def add(self, one: _Times) -> None:
        """Takes in a round."""
        self.ours += one.ours
        self.worked += one.worked
        self.bare += one.bare
        self.unranked += one.unranked
        self.over_bare.append(sum(one.ours) / sum(one.bare))
        self.over_unranked.append(sum(one.ours) / sum(one.unranked))


def _as_given(_query: Query, candidates: Sequence[Candidate]) -> list[Hit]:
    return [Hit(candidate.code, 1.0) for candidate in candidates]


def _lookups(service: SearchService, engine: SearchEngine, query: str) -> list[Lookup]:
    """What the service asks the engine for."""
    with mock.patch.object(engine, "candidates", wraps=engine.candidates) as spy:
        answer = service.search(query)
    assert not answer["degraded"], f"{engine.name} did not answer {query!r}"
    return [call.args[0] for call in spy.call_args_list]


def _own_order(engine: SearchEngine, lookups: list[Lookup]) -> list[str]:
    found: list[Candidate] = []
    for lookup in lookups:
        found = found or engine.candidates(lookup, MOST_CANDIDATES, Filters())
    return [candidate.code for candidate in found]


def _times(times: list[float]) -> str:
    return f"p50 {quantile(times, 0.5):.1f}, p95 {quantile(times, 0.95):.1f} ms"


def _hits(name: str, order: str, outcomes: list[Outcome]) -> list[Measured]:
    counted = [outcome for outcome in outcomes if outcome.labelled.counted]
    return [
        _row(name, f"{order}: right heading first, among five", outcomes),
        _row(name, f"{order}: the same, the half that is only counted", counted),
    ]


def _row(name: str, what: str, outcomes: list[Outcome]) -> Measured:
    found = score(outcomes)
    return Measured(
        SECTION, name, f"{what} ({found.queries})", f"{_share(found.hit1.value)}, {_share(found.hit5.value)}"
    )


def _share(value: float) -> str:
    return f"{value:.1%}"
