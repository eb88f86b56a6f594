"""The tests' tasks in a real worker: ``FAULTS_APP=sicargabox_ai.app celery -A … worker --include
tests.faults.worker_tasks``.

Each run writes a line to the execution ledger before it works and one before it ends, and its effect to SQL.
"""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import Queue
from sicargabox_core.tasks.worker import handles
from tests.faults import ledger
from tests.faults.work import WORK, Work, Worked

_LEDGER = Path(os.environ["FAULTS_EXECUTIONS"])
_QUEUE = Queue(os.environ["FAULTS_QUEUE"])
_STEP_SECONDS = 0.25


def work(payload: Work, ctx: TaskContext) -> Worked:
    """Waits as long as it was told; children do nothing but be there."""
    _write(ctx, payload, "begin")
    end = time.monotonic() + payload.seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _STEP_SECONDS))
        ctx.check_cancelled()
    for number in range(payload.children):
        ctx.submit(WORK[_QUEUE], Work(key=f"{payload.key}.{number}", seconds=0.01))

    def effect(session: Session) -> None:
        session.execute(
            text("INSERT INTO fault_effects (key, task_id, attempt) VALUES (:key, :task_id, :attempt)"),
            {"key": payload.key, "task_id": ctx.task_id, "attempt": ctx.attempt},
        )

    ctx.effects(effect)
    _write(ctx, payload, "end")
    return Worked(attempt=ctx.attempt)


def _write(ctx: TaskContext, payload: Work, what: str) -> None:
    line = {"what": what, "key": payload.key, "id": ctx.task_id, "attempt": ctx.attempt, "queue": _QUEUE.value}
    ledger.append(_LEDGER, line | {"pid": os.getpid(), "worker": os.getppid(), "at": time.time()})


handles(importlib.import_module(os.environ["FAULTS_APP"]).app, WORK[_QUEUE])(work)
