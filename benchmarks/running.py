"""How soon a task that does nothing runs, on an idle system."""

from __future__ import annotations

import time

from sqlalchemy import text

from benchmarks.installation import Installation
from benchmarks.report import Figure, within
from sicargabox_core.tasks.contracts import NO_OP, NoOp

GOAL_FIRST_MS, GOAL_NEXT_MS = 150.0, 25.0


def measure_idle(site: Installation) -> list[Figure]:
    """Submit → SUCCESS on an idle system; needs the indexer-worker and a scheduler."""
    took = []
    for _ in range(30):
        time.sleep(0.3)  # idle between two: that is what is measured
        began = time.perf_counter()
        task = site.tasks.submit(NO_OP, NoOp(), initiated_by="benchmark").task
        ended = None
        while ended is None:
            with site.database.read() as session:
                ended = session.execute(text("SELECT finished_at FROM tasks WHERE id = :id"), {"id": task.id}).scalar()
            time.sleep(0.001)
        took.append((time.perf_counter() - began) * 1000)
    p50 = sorted(took)[len(took) // 2]
    return [
        Figure(
            "submit → SUCCESS of a no-op, idle system, SQLite",
            f"p50 {p50:.0f} ms",
            f"p50 ≤ {GOAL_FIRST_MS:g} ms, then ≤ {GOAL_NEXT_MS:g} ms",
            within(p50, most=GOAL_FIRST_MS),
        )
    ]
