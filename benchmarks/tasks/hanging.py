"""The worker of the task that hangs."""

from __future__ import annotations

import time

from benchmarks.tasks.hang import HANG
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import NoOp, Nothing
from sicargabox_core.tasks.worker import handles, make_worker_app

app = make_worker_app("hanging")


@handles(app, HANG)
def hang(_payload: NoOp, ctx: TaskContext) -> Nothing:
    """Hangs until it is killed; does nothing the second time."""
    while ctx.attempt == 1:
        time.sleep(1)
    return Nothing()
