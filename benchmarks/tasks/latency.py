"""How soon an accepted task is claimed and done at a steady rate, and what a claim itself takes then.

Tasks are accepted at moments that do not depend on what became of the ones before. Beside them some tasks that no
worker hears of are claimed here, to time the claim as the statement and commit it is, under the same load.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from sqlalchemy import text

from benchmarks.installation import Installation
from benchmarks.report import Figure, spread, within
from benchmarks.tasks.options import Options
from benchmarks.tasks.servers import servers
from benchmarks.tasks.throughput import WORKERS
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import NO_OP, NoOp

# Tried from the highest; the first that the machine keeps up with counts.
RATES = (180, 120, 60, 30)
GOAL_RATE, GOAL_CLAIM_P99_MS = 180, 17.0
WARM_SECONDS, SECONDS = 2.0, 10.0
# More than this left undone at the end is a queue that grows.
BEHIND_SECONDS = 1.0
TIMED_CLAIMS_A_SECOND = 10


def measure(options: Options) -> list[Figure]:
    """At 180 tasks a second, or less where that is more than the machine can do; which one is said."""
    for rate in RATES:
        # Rounds at different rates would say nothing together.
        samples: list[_Sample] = []
        while len(samples) < options.rounds and (sample := _round(rate)) is not None:
            samples.append(sample)
        if len(samples) == options.rounds:
            return _figures(rate, samples)
    return [Figure("latency at a steady rate", f"less than {RATES[-1]} tasks/s is done", f"{GOAL_RATE}/s", False)]


def _round(rate: int) -> _Sample | None:
    with servers() as running, running.installation() as site:
        site.start_scheduler()
        for number in range(WORKERS):
            site.start_worker("indexer-worker", running.redis, name=f"indexer-{number}")
        return _steady(site, rate)


class _Sample:
    """Milliseconds of one round: accepted → claimed, accepted → SUCCESS, and timed claims."""

    def __init__(self, waits: Sequence[float], whole: Sequence[float], claims: Sequence[float]) -> None:
        self.waits, self.whole, self.claims = sorted(waits), sorted(whole), sorted(claims)


def _figures(rate: int, samples: Sequence[_Sample]) -> list[Figure]:
    at = f"at {rate} tasks/s, two worker processes"
    if rate != GOAL_RATE:
        at += f" ({GOAL_RATE} is more than this machine can do now)"
    figures = []
    for what, part, has_goal in (
        (f"accepted → SUCCESS, {at}", "whole", False),
        (f"accepted → claimed, {at}", "waits", True),
        (f"the claim's own transaction, {at}", "claims", True),
    ):
        p50 = [_quantile(getattr(sample, part), 0.5) for sample in samples]
        p99 = [_quantile(getattr(sample, part), 0.99) for sample in samples]
        value = f"p50 {spread(p50, ' ms', digits=1)}, p99 {spread(p99, ' ms', digits=1)}"
        if has_goal:
            met = within(sorted(p99)[len(p99) // 2], most=GOAL_CLAIM_P99_MS) and rate == GOAL_RATE
            figures.append(Figure(what, value, f"p99 < {GOAL_CLAIM_P99_MS:g} ms at {GOAL_RATE}/s", met))
        else:
            figures.append(Figure(what, value))
    return figures


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _steady(site: Installation, rate: int) -> _Sample | None:
    """None: accepting fell behind its moments, or at the end something was left to do."""
    claims: list[float] = []
    stop = threading.Event()
    timing = threading.Thread(target=_time_claims, args=(site, claims, stop), daemon=True)
    timing.start()
    try:
        kept_up = _accept(site, rate)
    finally:
        stop.set()
        timing.join()
    time.sleep(BEHIND_SECONDS)
    return _sample(site, claims) if kept_up else None


def _accept(site: Installation, rate: int) -> bool:
    """False: it fell behind its moments."""
    began = time.perf_counter()
    for number in range(int(rate * (WARM_SECONDS + SECONDS))):
        due = began + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        if time.perf_counter() - due > BEHIND_SECONDS:
            return False
        site.tasks.submit(NO_OP, NoOp(note="steady"), initiated_by="benchmark")
    return True


def _sample(site: Installation, claims: Sequence[float]) -> _Sample | None:
    with site.database.read() as session:
        rows = session.execute(
            text(
                "SELECT created_at, started_at, finished_at FROM tasks WHERE payload->>'note' = 'steady' "
                "AND created_at >= (SELECT min(created_at) FROM tasks) + make_interval(secs => :warm)"
            ),
            {"warm": WARM_SECONDS},
        ).all()
    if any(finished is None for _, _, finished in rows):
        return None
    return _Sample(
        [(started - created).total_seconds() * 1000 for created, started, _ in rows],
        [(finished - created).total_seconds() * 1000 for created, _, finished in rows],
        claims,
    )


def _time_claims(site: Installation, claims: list[float], stop: threading.Event) -> None:
    known = {NO_OP.name: NO_OP}
    stop.wait(WARM_SECONDS)
    while not stop.wait(1 / TIMED_CLAIMS_A_SECOND):
        with site.database.write() as session:
            # Stamped as published like any other, so the reconciler leaves it alone for the moment this takes.
            task = store.submit(session, NO_OP, NoOp(note="timed"), initiated_by="benchmark").task
        began = time.perf_counter()
        claim = store.claim(site.database, task.id, worker="benchmark", lease_seconds=10.0, known=known)
        claims.append((time.perf_counter() - began) * 1000)
        assert claim is not None
        with site.database.write() as session:
            store.finish_success(session, claim.id, claim.attempt, {}, [])
