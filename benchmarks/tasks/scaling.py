"""Whether more workers do more: one, two and four processes, ours and bare Celery's on the same servers."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.report import Figure
from benchmarks.tasks.options import Options
from benchmarks.tasks.servers import Servers, servers
from benchmarks.tasks.throughput import CELERY, compared, in_turn, ours, run_peer

WORKERS = (1, 2, 4)


def measure(options: Options) -> list[Figure]:
    """Tasks a second by number of workers; no goal of its own, since cores are the limit."""
    contestants: dict[str, Callable[[Servers], float]] = {}
    for number in WORKERS:
        contestants[f"ours {number}"] = lambda all_, number=number: ours(all_, number)  # type: ignore[misc]  # bound early
        contestants[f"Celery {number}"] = lambda all_, number=number: run_peer(all_, CELERY, number)  # type: ignore[misc]  # bound early
    with servers() as running:
        rates = in_turn(running, contestants, options.rounds)
    return [
        compared(
            f"no-op tasks, {number} worker processes, against Celery",
            rates[f"ours {number}"],
            rates[f"Celery {number}"],
            None,
        )
        for number in WORKERS
    ]
