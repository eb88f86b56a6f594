"""How soon and how fast tasks that do nothing run, beside bare Celery on the same Redis."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from celery import Celery
from sqlalchemy import text

from benchmarks.installation import Installation
from benchmarks.report import Figure, within
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import NO_OP, NoOp
from tests.servers.ports import wait_until
from tests.servers.valkey import ValkeyServer

GOAL_FIRST_MS, GOAL_NEXT_MS = 150.0, 25.0
GOAL_RATIO = 0.4
TASKS = 1500
BARE_QUEUE = "bare"


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


def measure_throughput(site: Installation, valkey: ValkeyServer, kind: str) -> list[Figure]:
    """A backlog of no-ops through two workers with one child each; needs a site without workers."""
    bare = _bare(site, valkey)
    ours = _ours(site, valkey)
    ratio = ours / bare
    # The goal is one of PostgreSQL with durable commits; SQLite has one writer at a time.
    has_goal = not site.database.is_sqlite
    return [
        Figure(
            f"no-op tasks through two worker processes, {kind}, against bare Celery",
            f"{ours:.0f}/s, {bare:.0f}/s, ratio {ratio:.2f}",
            f"ratio ≥ {GOAL_RATIO:g}" if has_goal else "",
            within(ratio, least=GOAL_RATIO) if has_goal else None,
        )
    ]


def _ours(site: Installation, valkey: ValkeyServer) -> float:
    with site.database.write() as session:
        ids = [
            store.submit(session, NO_OP, NoOp(note=str(number)), initiated_by="benchmark").task.id
            for number in range(TASKS)
        ]
    with site.database.read() as session:
        site.publisher.publish(store.hints(session, ids))
    assert site.publisher.flush(60)
    site.start_scheduler()
    for number in range(2):
        site.start_worker("indexer-worker", valkey, name=f"indexer-{number}")
    left = text("SELECT count(*) FROM tasks WHERE finished_at IS NULL")

    def done() -> bool:
        with site.database.read() as session:
            return int(session.execute(left).scalar_one()) == 0

    wait_until(done, seconds=90, what="every task has ended", interval=0.2)
    with site.database.read() as session:
        page = store.list_tasks(session, limit=500)
        moments = [(task.started_at, task.finished_at) for task in page.items]
        while page.next_cursor:
            page = store.list_tasks(session, limit=500, before=page.next_cursor)
            moments += [(task.started_at, task.finished_at) for task in page.items]
    # The second half: both workers run by then.
    ends = sorted(end for _, end in moments if end is not None)
    half = len(ends) // 2
    return (len(ends) - half) / (ends[-1] - ends[half - 1]).total_seconds()


# --- bare Celery -----------------------------------------------------------------------------------------------------
def bare_app(url: str) -> Celery:
    """Celery as its documentation starts, with acknowledgement after the work as ours has it."""
    app = Celery("bare", broker=f"{url}/0", backend=f"{url}/1", set_as_current=False)
    app.conf.update(task_acks_late=True, task_default_queue=BARE_QUEUE, worker_prefetch_multiplier=1)

    @app.task(name="bare.no_op", shared=False)  # type: ignore[untyped-decorator]  # Celery ships no types
    def no_op(mark: str = "") -> float | None:
        return time.time() if mark else None

    return app


def _bare(site: Installation, valkey: ValkeyServer) -> float:
    app = bare_app(valkey.url)
    task: Any = app.tasks["bare.no_op"]
    half = [task.delay("mark" if number in (TASKS // 2 - 1, TASKS - 1) else "") for number in range(TASKS)]
    marked = [half[TASKS // 2 - 1], half[TASKS - 1]]
    workers = [
        site.start(
            f"bare-{number}",
            *(sys.executable, "-m", "benchmarks.bare_worker", valkey.url, f"bare{number}@%h"),
        )
        for number in range(2)
    ]
    first, last = (result.get(timeout=90) for result in marked)
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:
            worker.kill()
    return float((TASKS - TASKS // 2) / (last - first))
