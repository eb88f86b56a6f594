"""How long a request that starts a task takes, alone, at a steady rate and under pressure, with Redis up and down.

On PostgreSQL and on SQLite. Under pressure it is compared with a POST in the same framework that does one INSERT.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.installation import Installation, wait_for
from benchmarks.load import Outcome, closed_loop, open_loop, request
from benchmarks.report import Figure, spread, within
from benchmarks.tasks.options import Options
from benchmarks.tasks.servers import servers
from tests.servers.ports import free_port

GOAL_P50_MS, GOAL_P99_MS = 6.0, 25.0
GOAL_RATIO = 0.6
RATE = 50
SECONDS = 5.0
PRESSURE_SECONDS = 2.5
CLIENTS = (8, 32)

# What was asked of which installation, with its outcome or its pair of outcomes (ours, the empty POST).
Alone = dict[str, list[Outcome]]
Pressed = dict[str, list[tuple[Outcome, Outcome]]]


def measure(options: Options) -> list[Figure]:
    """Both databases in every round."""
    alone: Alone = defaultdict(list)
    pressed: Pressed = defaultdict(list)
    with servers() as running:
        for _ in range(options.rounds):
            for kind in ("PostgreSQL", "SQLite"):
                running.empty_redis()

                def database_url(kind: str = kind) -> str:
                    if kind == "PostgreSQL":
                        return running.cluster.create()
                    return f"sqlite:///{running.new_folder() / 'sicargabox.db'}"

                one_round(running.new_folder(), kind, database_url, running.redis.url, alone, pressed)
    return figures(alone, pressed)


def one_round(
    folder: Path, kind: str, database_url: Callable[[], str], redis_url: str, alone: Alone, pressed: Pressed
) -> None:
    """Adds the outcomes of one installation with Redis and one whose Redis nobody listens at."""
    silent = f"redis://127.0.0.1:{free_port()}"
    for state, url in (("Redis up", redis_url), ("Redis down", silent)):
        with Installation(folder / state.replace(" ", "-"), database_url(), url) as site:
            site.start_api()
            post = request("POST", "/api/v1/tasks/housekeeping.no_op", token=site.token, body=b'{"note":"benchmark"}')

            def ask(_number: int, post: bytes = post) -> bytes:
                return post

            closed_loop(site.port, ask, clients=1, most=50)
            where = f"{kind}, {state}"
            alone[f"{where}, one client"].append(closed_loop(site.port, ask, clients=1, most=300))
            alone[f"{where}, {RATE} requests/s, open loop"].append(
                open_loop(site.port, ask, rate=RATE, seconds=SECONDS)
            )
            if state == "Redis up":
                _under_pressure(site, kind, ask, pressed)


def _under_pressure(site: Installation, kind: str, ask: Callable[[int], bytes], pressed: Pressed) -> None:
    port = free_port()
    process = site.start("empty-post", sys.executable, "-m", "benchmarks.tasks.empty_post", PORT=str(port))
    wait_for(port, "/", process)
    empty = request("POST", "/", body=b'{"note":"benchmark"}')
    for clients in CLIENTS:
        closed_loop(port, lambda _n: empty, clients=clients, most=100)
        bare = closed_loop(port, lambda _n: empty, clients=clients, seconds=PRESSURE_SECONDS)
        closed_loop(site.port, ask, clients=clients, most=100)
        ours = closed_loop(site.port, ask, clients=clients, seconds=PRESSURE_SECONDS)
        pressed[f"{kind}, {clients} clients"].append((ours, bare))


def figures(alone: Alone, pressed: Pressed) -> list[Figure]:
    """The rows of the table."""
    found = []
    for what, outcomes in alone.items():
        p50, p99 = ([outcome.quantile(share) for outcome in outcomes] for share in (0.5, 0.99))
        failed = sum(outcome.failed for outcome in outcomes)
        found.append(
            Figure(
                f"POST that starts a task → answer, {what}",
                f"p50 {spread(p50, ' ms', digits=1)}, p99 {spread(p99, ' ms', digits=1)}; {failed} failed",
                f"p50 ≤ {GOAL_P50_MS:g} ms, p99 ≤ {GOAL_P99_MS:g} ms",
                median(p50) <= GOAL_P50_MS and median(p99) <= GOAL_P99_MS and not failed,
            )
        )
    for what, pairs in pressed.items():
        ratios = [ours.rate / bare.rate for ours, bare in pairs]
        failed, failed_bare = sum(ours.failed for ours, _ in pairs), sum(bare.failed for _, bare in pairs)
        rates = [spread(rates, "/s") for rates in zip(*((ours.rate, bare.rate) for ours, bare in pairs), strict=True)]
        found.append(
            Figure(
                f"the same, {what}, against an empty POST with one INSERT",
                f"{rates[0]} against {rates[1]}: ratio {spread(ratios, digits=2)}; {failed} and {failed_bare} failed",
                f"ratio ≥ {GOAL_RATIO:g}, none failed",
                within(median(ratios), least=GOAL_RATIO) and not failed,
            )
        )
    return found
