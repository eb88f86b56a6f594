"""Made-up tariffs of any length: seconds per line, what the rebuilding process holds, and searches on the result.

Each is built once, in a process of its own (``filling``), from documents made on the way; the shortest once before it
counts, since a server that has just started compiles its code first. Searches are whole but for the texts of the
results, since the lines are in no database.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.report import within
from benchmarks.search.engines import engine_of
from benchmarks.search.invented import queries
from benchmarks.search.measured import Measured, quantile
from benchmarks.search.stage import Stage
from sicargabox_core.db import Database, migrate
from sicargabox_core.search.engine import SearchEngine
from sicargabox_core.search.service import SearchService
from sicargabox_core.settings import Settings
from tests.settings import REPOSITORY

SECTION = "made-up"
LENGTHS = (10_000, 100_000)
MILLION = 1_000_000
GOAL_RATIO = 1.25
FILLS_BUFFERS = 100_000
QUERIES, WARM_UP = 400, 200


class _Built(NamedTuple):
    lines: int
    seconds: float
    making: float
    before_mb: float
    most_mb: float
    peak_mb: float
    size_mb: float
    p50: float
    p95: float
    found: int


def measure(stage: Stage) -> list[Measured]:
    """A row of figures for each length, and how they grow with it."""
    lengths = (*LENGTHS, MILLION) if stage.options.million else LENGTHS
    figures: list[Measured] = []
    for name in stage.options.engines:
        _build(stage, name, lengths[0])
        figures += _told(name, [_build(stage, name, lines) for lines in lengths])
    return figures


def _told(name: str, built: list[_Built]) -> Iterator[Measured]:
    for at, one in enumerate(built):
        length = f"{one.lines:,} lines"

        def figure(what: str, value: str, goal: str = "", met: bool | None = None, length: str = length) -> Measured:
            return Measured(SECTION, name, f"{length}: {what}", value, goal, met)

        each = one.seconds / one.lines * 1e6
        yield figure(
            "rebuild",
            f"{one.seconds:.1f} s, {each:.0f} µs a line, of which {one.making / one.lines * 1e6:.0f} are making it up",
        )
        held = f"{one.before_mb:.0f} MB before, at most {one.most_mb:.0f}; with mapped files {one.peak_mb:.0f}"
        yield figure("memory of the rebuilding process", held)
        if at:
            shorter = built[at - 1]
            longer = each / (shorter.seconds / shorter.lines * 1e6)
            yield figure(
                f"time a line ÷ that of {shorter.lines:,}",
                f"{longer:.2f} ×",
                f"≤ {GOAL_RATIO:g} ×",
                within(longer, most=GOAL_RATIO),
            )
            grown = (one.most_mb - one.before_mb) / (shorter.most_mb - shorter.before_mb)
            # The shortest does not fill the buffers that the longer ones fill: nothing to be flat against.
            judged = shorter.lines >= FILLS_BUFFERS
            yield figure(
                f"memory taken by the rebuild ÷ that of {shorter.lines:,}",
                f"{grown:.2f} ×",
                f"≤ {GOAL_RATIO:g} ×" if judged else "",
                within(grown, most=GOAL_RATIO) if judged else None,
            )
        yield figure("index", f"{one.size_mb:.0f} MiB")
        yield figure(
            f"search in the process, {QUERIES} queries, results without texts",
            f"p50 {one.p50:.1f}, p95 {one.p95:.1f} ms; {one.found} found something",
        )


def _build(stage: Stage, name: str, lines: int) -> _Built:
    with stage.engine_settings(name) as variables:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.search.filling", str(lines), json.dumps(variables)],
            cwd=REPOSITORY,
            check=True,
            stdout=subprocess.PIPE,
            # Several times what it may take: for a run that hangs.
            timeout=300 + lines / 200,
        )
        engine = engine_of(variables)
        status = engine.status()
        assert status.documents == lines, f"{status.documents} of {lines} documents are held"
        times, found = _searches(stage, engine)
    return _Built(
        lines=lines,
        size_mb=status.size / 2**20,
        p50=quantile(times, 0.5),
        p95=quantile(times, 0.95),
        found=found,
        **json.loads(done.stdout),
    )


def _searches(stage: Stage, engine: SearchEngine) -> tuple[list[float], int]:
    """Seconds of each, and how many found something."""
    database = Database(f"sqlite:///{stage.new_folder('empty') / 'sicargabox.db'}")
    migrate(database)
    service = SearchService(database, Settings(data_dir=stage.folder), engine=engine)
    times: list[float] = []
    found = 0
    for number, query in enumerate(queries(WARM_UP + QUERIES)):
        began = time.perf_counter()
        answer = service.search(query)
        if number >= WARM_UP:
            times.append(time.perf_counter() - began)
            found += answer["total"] > 0
        assert not answer["degraded"], f"{engine.name} did not answer {query!r}"
    database.dispose()
    return times, found
