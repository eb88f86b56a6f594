"""Answers while Elasticsearch is frozen (SIGSTOP: it takes connections and says nothing), as a browser gets them.

SQL gives them. The first one pays for finding out; afterwards one request at a time tries again every other second. The
API's first degraded answer of all is the slowest, since nothing of that road is in memory yet, and counts.
"""

from __future__ import annotations

import time

from benchmarks.load import Outcome, closed_loop
from benchmarks.report import spread, within
from benchmarks.search.asking import Asked, Watch, quantiles
from benchmarks.search.measured import Measured
from benchmarks.search.stage import Stage
from tests.servers.ports import wait_until
from tests.servers.valkey import ValkeyServer

SECTION = "degraded"
GOAL_MS = 300.0
FROZEN_SECONDS = 8.0
WARM_UP = 600
BACK_SECONDS = 60


def measure(stage: Stage) -> list[Measured]:
    """Latencies of the first and of all answers; the embedded engine has no server that could freeze."""
    if "elasticsearch" not in stage.options.engines:
        return []
    first: list[float] = []
    rest: list[Outcome] = []
    back: list[float] = []
    firsts, watch = Watch(), Watch()
    valkey = ValkeyServer()
    try:
        valkey.start()
        with stage.installation("elasticsearch", valkey.url) as site:
            site.start_api()
            asked = Asked([one.query for one in stage.everyday])

            def answers() -> bool:
                seen = Watch()
                closed_loop(site.port, asked, clients=1, most=1, hoped=seen)
                return seen.answers == 1 and not seen.from_sql

            closed_loop(site.port, asked, clients=1, most=WARM_UP)
            for _ in range(stage.options.rounds):
                wait_until(answers, seconds=BACK_SECONDS, what="the engine answers")
                stage.server.pause()
                try:
                    first.append(closed_loop(site.port, asked, clients=1, most=1, hoped=firsts).quantile(0.5))
                    rest.append(closed_loop(site.port, asked, clients=1, seconds=FROZEN_SECONDS, hoped=watch))
                finally:
                    stage.server.resume()
                began = time.monotonic()
                wait_until(answers, seconds=BACK_SECONDS, what="the engine answers again")
                back.append(time.monotonic() - began)
    finally:
        valkey.stop()
    most = max(max(one.latencies) for one in rest) * 1000
    other = watch.answers + firsts.answers - watch.from_sql - firsts.from_sql
    failed = sum(one.failed for one in rest)
    clean = not failed and not other

    def figure(what: str, value: str, goal: str = "", met: bool | None = None) -> Measured:
        return Measured(SECTION, "elasticsearch", what, value, goal, met)

    return [
        figure(
            "the first answer after the freeze",
            spread(first, " ms"),
            f"≤ {GOAL_MS:g} ms",
            within(max(first), most=GOAL_MS) and clean,
        ),
        figure(
            f"answers during {FROZEN_SECONDS:.0f} s of it, one client",
            f"{quantiles(rest)}, most {most:.0f} ms; {watch.answers} answers, {failed} failed, {other} not from SQL",
            f"each ≤ {GOAL_MS:g} ms",
            within(most, most=GOAL_MS) and clean,
        ),
        figure("from its going on to the first answer of the engine", spread(back, " s", digits=1)),
    ]
