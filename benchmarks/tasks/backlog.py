"""Whether a long queue slows the work: the same two workers with next to nothing, 3,000 and 100,000 tasks waiting.

The queue is kept at its depth while it is measured, in all three cases alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from sqlalchemy import text

from benchmarks.installation import Installation
from benchmarks.report import Figure, spread, within
from benchmarks.tasks.options import Options
from benchmarks.tasks.servers import Servers, servers
from benchmarks.tasks.throughput import WORKERS, in_turn
from benchmarks.tasks.waiting import Waiting

# Of the shallow queue: enough that no worker waits for the next task.
SHALLOW = 40
DEPTHS = (SHALLOW, 3_000, 100_000)
WARM_SECONDS, SECONDS = 2.0, 6.0
# Two medians of three of one and the same thing differ by as much.
GOAL = 0.9


def measure(options: Options) -> list[Figure]:
    """Tasks a second at each depth, as a ratio to the shallow queue of the same round."""
    contestants: dict[str, Callable[[Servers], float]] = {
        str(depth): lambda all_, depth=depth: _at(all_, depth)  # type: ignore[misc]  # bound early
        for depth in DEPTHS
    }
    with servers() as running:
        rates = in_turn(running, contestants, options.rounds)
    shallow = rates[str(SHALLOW)]
    figures = [Figure(f"no-op tasks, two worker processes, at most {SHALLOW} waiting", spread(shallow, "/s"))]
    for depth in DEPTHS[1:]:
        ratios = [deep / least for deep, least in zip(rates[str(depth)], shallow, strict=True)]
        figures.append(
            Figure(
                f"the same with {depth:,} waiting",
                f"{spread(rates[str(depth)], '/s')}: ratio {spread(ratios, digits=2)}",
                f"no lower (ratio ≥ {GOAL:g}, which is noise)",
                within(median(ratios), least=GOAL),
            )
        )
    return figures


def _at(running: Servers, depth: int) -> float:
    with running.installation() as site, Waiting(site, running.redis, depth):
        site.start_scheduler()
        for number in range(WORKERS):
            site.start_worker("indexer-worker", running.redis, name=f"indexer-{number}")
        time.sleep(WARM_SECONDS)
        before, began = _done(site), time.monotonic()
        time.sleep(SECONDS)
        return (_done(site) - before) / (time.monotonic() - began)


def _done(site: Installation) -> int:
    with site.database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM tasks WHERE state = 'SUCCESS'")).scalar_one())
