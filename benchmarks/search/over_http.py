"""Searches and suggestions as a browser gets them: the real API process, one client, and a hundred a second.

Client, API and engine share the machine. Everything has been asked once before it counts, and what that first time took
is told; an answer that came from SQL because the engine did not give one in time makes the goal missed.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from benchmarks.load import Outcome, closed_loop, open_loop
from benchmarks.report import spread, within
from benchmarks.search.asking import Asked, Typed, Watch, quantiles
from benchmarks.search.measured import Measured
from benchmarks.search.stage import Stage
from tests.servers.valkey import ValkeyServer

SECTION = "http"
GOAL_ONE_MS, GOAL_MANY_MS, GOAL_SUGGEST_MS = 20.0, 80.0, 15.0
RATE, SECONDS = 100.0, 15.0
# A server that has just started compiles its code for the first thousands of requests.
WARM_UP = 1500
TYPED = 1000


def measure(stage: Stage) -> list[Measured]:
    """Latencies for each engine."""
    return [figure for name in stage.options.engines for figure in _of(stage, name)]


def _of(stage: Stage, name: str) -> list[Measured]:
    valkey = ValkeyServer()
    try:
        valkey.start()
        with stage.installation(name, valkey.url) as site:
            site.start_api()
            queries = [one.query for one in stage.everyday]
            asked, typed = Asked(queries), Typed(queries)
            cold = closed_loop(site.port, asked, clients=1, most=len(asked))
            closed_loop(site.port, asked, clients=1, most=WARM_UP)
            closed_loop(site.port, typed, clients=1, most=TYPED)

            def figure(what: str, goal: float, ask: Callable[[Watch], Outcome]) -> Measured:
                watch = Watch()
                rounds = [ask(watch) for _ in range(stage.options.rounds)]
                p95 = [one.quantile(0.95) for one in rounds]
                failed = sum(one.failed for one in rounds)
                value = quantiles(rounds)
                if len(rounds) > 1:
                    value += f"; p95 of a round {spread(p95, ' ms', digits=1)}"
                if failed or watch.from_sql:
                    value += f"; {failed} failed, {watch.from_sql} of {watch.answers} from SQL"
                met = within(median(p95), most=goal) and not failed and not watch.from_sql
                return Measured(SECTION, name, what, value, f"p95 ≤ {goal:g} ms", met)

            return [
                Measured(SECTION, name, "the first time each query is asked, one client", quantiles([cold])),
                figure(
                    f"search, one client, {2 * len(asked)} requests",
                    GOAL_ONE_MS,
                    lambda watch: closed_loop(site.port, asked, clients=1, most=2 * len(asked), hoped=watch),
                ),
                figure(
                    f"search, {RATE:.0f} requests a second whether or not answered, {SECONDS:.0f} s",
                    GOAL_MANY_MS,
                    lambda watch: open_loop(site.port, asked, rate=RATE, seconds=SECONDS, hoped=watch),
                ),
                figure(
                    f"suggestions letter by letter, one client, {TYPED} requests",
                    GOAL_SUGGEST_MS,
                    lambda watch: closed_loop(site.port, typed, clients=1, most=TYPED, hoped=watch),
                ),
            ]
    finally:
        valkey.stop()
