"""Cancelling a task with all that hangs on it. Each row is its own transaction, so locks are only taken upwards."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import or_, select

from sicargabox_core.db import Database
from sicargabox_core.errors import NotFound
from sicargabox_core.tasks.contracts import State
from sicargabox_core.tasks.lifecycle import CancelOutcome, mark_cancelled
from sicargabox_core.tasks.rows import STARTED, WAITING, tasks


def request_cancel(database: Database, task_id: str, *, by: str) -> CancelOutcome:
    """Cancels a waiting task at once, asks a running one to stop, and leaves one that has ended as it is.

    A parent that waits for its children is cancelled through them. Raises ``NotFound``.
    """
    with database.write() as session:
        outcome = mark_cancelled(session, task_id, by)
    if outcome is None:
        raise NotFound(f"there is no task {task_id}")
    if not outcome.requested:
        return outcome
    below = cancel_children(database, task_id, by=by)
    if not below:
        return outcome
    with database.read() as session:
        state = State(session.execute(select(tasks.c.state).where(tasks.c.id == task_id)).scalar_one())
    return replace(
        outcome,
        state=state,
        revoked=state is State.REVOKED,
        requested=state is State.STARTED,
        due=tuple(task for child in below for task in child.due),
        final=tuple(task for child in below for task in child.final),
    )


def cancel_children(database: Database, parent_id: str, *, by: str) -> list[CancelOutcome]:
    """Cancels the parent's children that have neither ended nor been asked to stop; the last one completes it."""
    with database.read() as session:
        children = session.scalars(
            select(tasks.c.id).where(
                tasks.c.parent_id == parent_id, or_(WAITING, STARTED & tasks.c.cancel_requested_at.is_(None))
            )
        ).all()
    return [request_cancel(database, child, by=by) for child in children]
