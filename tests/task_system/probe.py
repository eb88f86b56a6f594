"""A worker whose tasks misbehave in every way a task can: ``celery -A tests.task_system.probe worker``.

Each run appends a line to the file that PROBE_LOG names, so that a test can count executions of a task.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from sicargabox_core.errors import TaskFailed, TooManyRequests
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.worker import handles, make_worker_app
from tests.task_system.probe_specs import ACT, ACT_AI, ACT_LEARNING, ACT_LIMITED, Act, Acted

app = make_worker_app("probe")
_kept: list[bytearray] = []


def _act(payload: Act, ctx: TaskContext) -> Acted:
    _log(ctx, "begin", payload)
    _behave(payload, ctx)
    if payload.how == "parent":
        for number in range(payload.children):
            ctx.submit(ACT, Act(note=f"{payload.note}-{number}"))
    ctx.effects(lambda session: _count(session, payload.note, broken=payload.how == "bad_effect"))
    _log(ctx, "end", payload)
    note = "x" * 70_000 if payload.how == "too_large" else payload.note
    return Acted(note=note, attempt=ctx.attempt, done=1 if payload.how == "return" else 0)


def _behave(payload: Act, ctx: TaskContext) -> None:
    seconds = 0.0 if payload.once and ctx.attempt > 1 else payload.seconds
    match payload.how:
        case "sleep":
            steps = max(1, round(seconds / 0.05))
            for step in range(steps):
                ctx.progress(step, steps, f"step {step}")
                time.sleep(0.05)
        case "hang":
            time.sleep(seconds)
        case "raise":
            raise ValueError(f"no: {payload.note}")
        case "refuse":
            raise TaskFailed("it cannot be done")
        case "retry" if ctx.attempt == 1:
            raise TooManyRequests("later", retry_after=seconds)
        case "exit":
            sys.exit(3)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die_once" if ctx.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        case "grow":
            # Touched, or the kernel would only promise it; as many megabytes as seconds were asked for.
            _kept.append(bytearray(b"x") * (int(payload.seconds) * 2**20))
        case "leave":
            os._exit(0)
        case "freeze":
            # Sleeps with the interpreter's lock in hand: no thread of this process runs meanwhile, not even its pulse.
            ctypes.PyDLL(None).sleep(600)
        case "publish":
            time.sleep(seconds)
            with ctx.locked_attempt():
                _log(ctx, "published", payload)


def _count(session: Session, note: str, *, broken: bool) -> None:
    """The effect of a task, in the transaction of its end: a counter that must be one whatever happened."""
    if broken:
        session.execute(text("INSERT INTO no_such_table VALUES (1)"))
    session.execute(
        text(
            "INSERT INTO counters (name, value) VALUES (:name, 1) "
            "ON CONFLICT (name) DO UPDATE SET value = counters.value + 1"
        ),
        {"name": f"effect:{note}"[:50]},
    )


def _log(ctx: TaskContext, what: str, payload: Act) -> None:
    line = {
        "what": what,
        "id": ctx.task_id,
        "attempt": ctx.attempt,
        "pid": os.getpid(),
        "note": payload.note,
        "clock": time.time(),
    }
    with Path(os.environ["PROBE_LOG"]).open("a") as log:
        log.write(json.dumps(line) + "\n")


for _known in (ACT, ACT_LIMITED, ACT_AI, ACT_LEARNING):
    handles(app, _known)(_act)
