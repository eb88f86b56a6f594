"""A rebuild of the real tariff, from the first row read to the swap, beside a bare filling with the same documents.

In this process, without a task around it. Both are done once before anything counts, since a server that has just
started compiles its code first; what that first rebuild took is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.report import spread, within
from benchmarks.search.bare import BareElasticsearch, BareTantivy, Peer
from benchmarks.search.engines import build
from benchmarks.search.measured import Measured
from benchmarks.search.stage import Stage
from sicargabox_core.search.document import TariffDocument
from sicargabox_core.search.documents import iter_documents

SECTION = "rebuild"
GOAL_SECONDS, GOAL_RATIO = 5.0, 1.3


def measure(stage: Stage) -> list[Measured]:
    """Seconds, ratio and size for each engine."""
    return [figure for name in stage.options.engines for figure in _of(stage, name)]


def _of(stage: Stage, name: str) -> list[Measured]:
    ours: list[float] = []
    bare: list[float] = []
    making: list[float] = []
    with stage.database() as database, stage.engine(name) as engine:

        def documents() -> Iterator[TariffDocument]:
            with database.read() as session:
                yield from iter_documents(session)

        peer: Peer = (
            BareTantivy(stage.new_folder("bare"), documents)
            if name == "tantivy"
            else BareElasticsearch(stage.server.url, documents)
        )
        peer.fill()
        first = build(database, engine, "bench-first")
        for number in range(stage.options.rounds):
            # Each goes first in turn, so that neither always meets what the other has left to be merged.
            if number % 2:
                bare.append(peer.fill())
            ours.append(build(database, engine, f"bench-{number}").seconds)
            if not number % 2:
                bare.append(peer.fill())
            making.append(peer.make())
        size = engine.status().size / 2**20
    ratios = [mine / other for mine, other in zip(ours, bare, strict=True)]
    rate = first.documents / median(ours)

    def figure(what: str, value: str, goal: str = "", met: bool | None = None) -> Measured:
        return Measured(SECTION, name, what, value, goal, met)

    return [
        figure(
            f"rebuild, {first.documents:,} lines",
            f"{spread(ours, ' s', digits=2)}, {rate:,.0f}/s",
            f"≤ {GOAL_SECONDS:g} s",
            within(median(ours), most=GOAL_SECONDS),
        ),
        figure("bare filling with the same documents, made beforehand", spread(bare, " s", digits=2)),
        figure("reading and making these documents alone", spread(making, " s", digits=2)),
        figure(
            "rebuild ÷ bare filling",
            spread(ratios, " ×", digits=2),
            f"≤ {GOAL_RATIO:g} ×",
            within(median(ratios), most=GOAL_RATIO),
        ),
        figure("the first rebuild of the process and of the server", f"{first.seconds:.2f} s"),
        figure("index", f"{size:.1f} MiB"),
    ]
