"""Cancelling a task with all that hangs on it. Each row is its own transaction, so locks are only taken upwards."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from sicargabox_core.db import Database
from sicargabox_core.errors import NotFound
from sicargabox_core.tasks.contracts import State
from sicargabox_core.tasks.endings import cancelled_by, finalise
from sicargabox_core.tasks.rows import STARTED, WAITING, can_be_an_id, first_request, tasks


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """What became of a cancel, honestly.

    ``state`` REVOKED with ``revoked``: it will not run (any more). ``requested``: it runs and was asked to stop.
    Neither: it had already ended, in ``state``.
    """

    state: State
    revoked: bool = False
    requested: bool = False
    due: tuple[str, ...] = ()
    final: tuple[str, ...] = ()


def request_cancel(database: Database, task_id: str, *, by: str) -> CancelOutcome:
    """Cancels a waiting task at once, asks a running one to stop, and leaves one that has ended as it is.

    A parent that waits for its children is cancelled through them. Raises ``NotFound``.
    """
    outcome = None
    if can_be_an_id(task_id):
        with database.write() as session:
            outcome = _mark(session, task_id, by)
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


def _mark(session: Session, task_id: str, by: str) -> CancelOutcome | None:
    """One row's cancel, inside the caller's transaction; None when there is no such row."""
    row = session.execute(select(tasks.c.state).where(tasks.c.id == task_id).with_for_update()).first()
    if row is None:
        return None
    values = cancelled_by(by)
    revoked = finalise(session, and_(tasks.c.id == task_id, WAITING), State.REVOKED, values)
    if revoked:
        return CancelOutcome(State.REVOKED, revoked=True, due=revoked.due, final=revoked.final)
    asked = session.execute(
        update(tasks)
        .where(tasks.c.id == task_id, STARTED)
        .values(cancel_requested_at=first_request(), **values)
        .returning(tasks.c.id)
    ).first()
    return CancelOutcome(State(row.state), requested=asked is not None)
