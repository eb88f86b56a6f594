"""What a worker runs for the no-op of its queue. One function for all queues: what is tried is the way to it and back.

Waits, and works on nothing: no task of the product may come to stand on it.
"""

from __future__ import annotations

import math
import time

from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import NoOp, Nothing

# As soon as a person would notice; the heartbeat, which brings the cancel, is the longer wait.
STEP_SECONDS = 0.1


def no_op(payload: NoOp, ctx: TaskContext) -> Nothing:
    """Waits for ``payload.seconds`` and tells of each; once told of a cancel it ends within a step.

    Given back by a drain it waits all of them again, as any task does its work again.
    """
    began, told = time.monotonic(), 0
    while (left := began + payload.seconds - time.monotonic()) > 0:
        passed = math.floor(payload.seconds - left)
        if passed > told:
            told = passed
            ctx.progress(passed, math.ceil(payload.seconds), f"{passed}/{math.ceil(payload.seconds)} seconds")
        ctx.check_cancelled()
        time.sleep(min(left, STEP_SECONDS))
    return Nothing()
