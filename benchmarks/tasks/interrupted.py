"""How long a task whose worker was killed waits until it runs again, with another worker there to take it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import text

from benchmarks.installation import Installation, present
from benchmarks.processes import kill_group
from benchmarks.report import Figure, spread, within
from benchmarks.tasks.hang import APPLICATION, HANG
from benchmarks.tasks.options import Options
from benchmarks.tasks.servers import Servers, servers
from sicargabox_core.tasks.contracts import NoOp
from tests.servers.ports import wait_until

GOAL_SECONDS = 30.0
TASKS = 4
PATIENCE_SECONDS = 120


def measure(options: Options) -> list[Figure]:
    """Four running tasks, their worker and its children killed at once, in each round."""
    seconds: list[float] = []
    with servers() as running:
        for _ in range(options.rounds):
            seconds += _round(running)
    return [
        Figure(
            f"worker killed → its running task runs again, {len(seconds)} tasks",
            spread(seconds, " s", digits=1),
            f"each < {GOAL_SECONDS:g} s",
            within(max(seconds), most=GOAL_SECONDS),
        )
    ]


def _round(running: Servers) -> list[float]:
    with running.installation() as site:
        site.start_scheduler()
        first = site.launch(APPLICATION, HANG.queue.value, children=TASKS, name="first")
        for _ in range(TASKS):
            site.tasks.submit(HANG, NoOp(), initiated_by="benchmark")
        _wait(lambda: len(_started(site, 1)) == TASKS, "all tasks run")
        # Only now, so that the first one has them all.
        site.launch(APPLICATION, HANG.queue.value, children=TASKS, name="second")
        _wait(lambda: len(present(running.redis)) > 1, "the other worker is there")
        killed = site.database.now()
        kill_group(first)
        _wait(lambda: len(_started(site, 2)) == TASKS, "all tasks run again")
        return [(moment - killed).total_seconds() for moment in _started(site, 2)]


def _wait(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, seconds=PATIENCE_SECONDS, what=what, interval=0.1)


def _started(site: Installation, attempt: int) -> Sequence[datetime]:
    with site.database.read() as session:
        return session.scalars(
            text("SELECT started_at FROM tasks WHERE attempt = :attempt"), {"attempt": attempt}
        ).all()
