"""The embedded search on the official tariff: rebuild, search and suggest times, and how often it finds the heading.

Run it from the repository's root: ``python -m benchmarks.search``. The tariff is not part of the repository; see
``SICARGABOX_TEST_TARIFF_CSV`` in tests/settings.py. Queries: core/tests/search/everyday.csv.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from benchmarks.report import Figure, show
from sicargabox_core.catalogue.tariff_import import import_tariff
from sicargabox_core.db import Database, migrate
from sicargabox_core.search import indexing
from sicargabox_core.search.evaluate import Labelled, Outcome, Score, measure, read_set, score
from sicargabox_core.search.service import SearchService
from sicargabox_core.settings import Settings
from tests.settings import REPOSITORY, machine

REBUILDS = 3
GOAL_REBUILD, GOAL_SEARCH, GOAL_SUGGEST = "≤ 2 s", "p95 ≤ 20 ms (whole HTTP call)", "p95 ≤ 15 ms"


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory(prefix="sicargabox-bench-") as name:
        folder = Path(name)
        database = Database(f"sqlite:///{folder / 'sicargabox.db'}")
        migrate(database)
        english = machine().hs_english_csv
        import_tariff(database, machine().tariff_csv, english=english if english.is_file() else None, by="benchmark")
        service = SearchService(database, Settings(data_dir=folder))
        figures, documents = _rebuilds(database, service)
        everyday = read_set(REPOSITORY / "core" / "tests" / "search" / "everyday.csv")
        service.search("celular")
        times: list[float] = []
        outcomes = measure(everyday, _timed_codes(service, times))
        figures.append(_percentiles("search, in the process", times, GOAL_SEARCH))
        times = []
        for labelled in everyday:
            for length in range(2, min(len(labelled.query), 8)):
                began = time.perf_counter()
                service.suggest(labelled.query[:length])
                times.append(time.perf_counter() - began)
        figures.append(_percentiles("suggest, each letter typed", times, GOAL_SUGGEST))
        figures += _quality(outcomes)
        database.dispose()
    counted = _score_of(outcomes, lambda labelled: labelled.counted)
    show(
        f"Search on {documents:,} lines",
        figures,
        ratio=f"{counted.hit5.value:.0%} of the counted half find their heading among five (goal of this step: 75 %)",
    )


def _rebuilds(database: Database, service: SearchService) -> tuple[list[Figure], int]:
    seconds, processor, documents = [], [], 0
    for number in range(REBUILDS):
        cpu = time.process_time()
        rebuilt = indexing.rebuild(
            database,
            service.engine,
            generation=f"bench-{number}",
            on_step=lambda *_: None,
            publish=nullcontext,
        )
        seconds.append(rebuilt.seconds)
        processor.append(time.process_time() - cpu)
        documents = rebuilt.documents
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = service.engine.status().size / 2**20
    return [
        Figure(
            f"rebuild, best of {REBUILDS}", f"{min(seconds):.2f} s ({documents / min(seconds):,.0f}/s)", GOAL_REBUILD
        ),
        Figure("rebuild, processor time", f"{min(processor):.2f} s"),
        Figure("index on disk", f"{size:.1f} MiB"),
        Figure("most memory of this process", f"{peak:.0f} MiB"),
    ], documents


def _timed_codes(service: SearchService, times: list[float]) -> Callable[[str], list[str]]:
    def search(query: str) -> list[str]:
        began = time.perf_counter()
        answer = service.search(query)
        times.append(time.perf_counter() - began)
        return [result["code"] for result in answer["results"]]

    return search


def _percentiles(what: str, times: Sequence[float], goal: str) -> Figure:
    ordered = sorted(times)
    p50, p95, p99 = (ordered[int(len(ordered) * share)] * 1000 for share in (0.5, 0.95, 0.99))
    return Figure(f"{what} ({len(ordered)})", f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} ms", goal)


def _score_of(outcomes: Sequence[Outcome], chosen: Callable[[Labelled], bool]) -> Score:
    return score(outcome for outcome in outcomes if chosen(outcome.labelled))


def _quality(outcomes: Sequence[Outcome]) -> list[Figure]:
    figures = [
        _row("all queries", score(outcomes)),
        _row("half that was looked at", _score_of(outcomes, lambda labelled: not labelled.counted)),
        _row("half that is only counted", _score_of(outcomes, lambda labelled: labelled.counted)),
    ]
    kinds: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        kinds[outcome.labelled.kind].append(outcome)
    return figures + [_row(kind, score(found)) for kind, found in sorted(kinds.items())]


def _row(what: str, found: Score) -> Figure:
    return Figure(
        f"{what} ({found.queries})",
        f"first {found.hit1}, among 5 {found.hit5}, MRR {found.mrr:.2f}, none {found.none.value:.1%}",
    )


if __name__ == "__main__":
    main()
