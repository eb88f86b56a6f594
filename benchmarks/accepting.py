"""How long a request that starts a task takes, alone, at a steady rate and under pressure, with Redis up and down."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.installation import Installation, wait_for
from benchmarks.load import closed_loop, open_loop, request
from benchmarks.report import Figure, within
from tests.servers.ports import free_port

GOAL_P50_MS, GOAL_P99_MS = 6.0, 25.0
GOAL_RATIO = 0.6
RATE = 50
SECONDS = 6.0
PRESSURE_SECONDS = 4.0


def measure(folder: Path, kind: str, database_url: Callable[[], str], redis_url: str, silent_url: str) -> list[Figure]:
    """The figures of one kind of database; ``silent_url``: a Redis address where nobody listens."""
    figures: list[Figure] = []
    for state, url in (("Redis up", redis_url), ("Redis down", silent_url)):
        with Installation(folder / state, database_url(), url) as site:
            site.start_api()
            post = request("POST", "/api/v1/tasks/housekeeping.no_op", token=site.token, body=b'{"note":"benchmark"}')
            closed_loop(site.port, lambda _n, post=post: post, clients=1, most=50)  # type: ignore[misc]  # bound early
            alone = closed_loop(site.port, lambda _n, post=post: post, clients=1, most=300)  # type: ignore[misc]  # default argument
            steady = open_loop(site.port, lambda _n, post=post: post, rate=RATE, seconds=SECONDS)  # type: ignore[misc]  # default argument
            goal = f"p50 ≤ {GOAL_P50_MS:g} ms, p99 ≤ {GOAL_P99_MS:g} ms"
            for what, outcome in (("one client", alone), (f"{RATE} requests/s, open loop", steady)):
                p50, p99 = outcome.quantile(0.5), outcome.quantile(0.99)
                figures.append(
                    Figure(
                        f"POST that starts a task → answer, {kind}, {state}, {what}",
                        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, {outcome.failed} failed",
                        goal,
                        p50 <= GOAL_P50_MS and p99 <= GOAL_P99_MS and not outcome.failed,
                    )
                )
            if state == "Redis up":
                figures += _under_pressure(site, kind, post)
    return figures


def _under_pressure(site: Installation, kind: str, post: bytes) -> list[Figure]:
    port = free_port()
    process = site.start("empty-post", sys.executable, "-m", "benchmarks.empty_post", PORT=str(port))
    wait_for(port, "/", process)
    empty = request("POST", "/", body=b'{"note":"benchmark"}')
    figures = []
    for clients in (8, 32):
        closed_loop(port, lambda _n: empty, clients=clients, most=100)
        bare = closed_loop(port, lambda _n: empty, clients=clients, seconds=PRESSURE_SECONDS)
        ours = closed_loop(site.port, lambda _n: post, clients=clients, seconds=PRESSURE_SECONDS)
        ratio = ours.rate / bare.rate
        figures.append(
            Figure(
                f"the same, {kind}, {clients} clients, against an empty POST with one INSERT",
                f"{ours.rate:.0f}/s, {bare.rate:.0f}/s, ratio {ratio:.2f}; {ours.failed} and {bare.failed} failed",
                f"ratio ≥ {GOAL_RATIO:g}",
                within(ratio, least=GOAL_RATIO),
            )
        )
    return figures
