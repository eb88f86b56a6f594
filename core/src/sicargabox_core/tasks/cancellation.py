"""Cancelling a task with all that hangs on it. No transaction goes downwards, so locks are only taken upwards."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import and_, select, update
from sqlalchemy.orm import Session

from sicargabox_core.db import Database
from sicargabox_core.tasks.contracts import WAITING_STATES, State
from sicargabox_core.tasks.endings import cancelled_by, finalise, revoke_waiting_children
from sicargabox_core.tasks.rows import can_be_an_id, first_request, of_row, tasks
from sicargabox_core.tasks.views import not_found

# Children ended in one transaction: on SQLite no accept waits longer than that for its turn.
CHILDREN_AT_ONCE = 1000


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
    marked = None
    if can_be_an_id(task_id):
        with database.write() as session:
            marked = _mark(session, task_id, by)
    if marked is None:
        raise not_found(task_id)
    outcome, has_children = marked
    if not outcome.requested or not has_children:
        return outcome
    due, final = cancel_children(database, task_id, by=by)
    if not final:
        return outcome
    with database.read() as session:
        state = State(session.execute(select(tasks.c.state).where(tasks.c.id == task_id)).scalar_one())
    return replace(
        outcome,
        state=state,
        revoked=state is State.REVOKED,
        requested=state is State.STARTED,
        due=due,
        final=final,
    )


def cancel_children(database: Database, parent_id: str, *, by: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cancels the parent's children that have neither ended nor been asked to stop; the last one completes it.

    Returns the ids to publish and those that became final, as a ``Transition`` does.
    """
    due: tuple[str, ...] = ()
    final: tuple[str, ...] = ()
    more = True
    while more:
        with database.write() as session:
            ended = revoke_waiting_children(session, parent_id, cancelled_by(by), most=CHILDREN_AT_ONCE)
        due, final, more = due + ended.due, final + ended.final, bool(ended)
    with database.read() as session:
        running = session.scalars(
            select(tasks.c.id).where(
                tasks.c.parent_id == parent_id, of_row(State.STARTED), tasks.c.cancel_requested_at.is_(None)
            )
        ).all()
    for child in running:
        outcome = request_cancel(database, child, by=by)
        due, final = due + outcome.due, final + outcome.final
    return due, final


def _mark(session: Session, task_id: str, by: str) -> tuple[CancelOutcome, bool] | None:
    """One row's cancel, inside the caller's transaction, and whether it waits for children; None without such a row."""
    row = session.execute(
        select(tasks.c.state, tasks.c.children_open).where(tasks.c.id == task_id).with_for_update()
    ).first()
    if row is None:
        return None
    values = cancelled_by(by)
    revoked = finalise(session, and_(tasks.c.id == task_id, of_row(*WAITING_STATES)), State.REVOKED, values)
    if revoked:
        return CancelOutcome(State.REVOKED, revoked=True, due=revoked.due, final=revoked.final), False
    asked = session.execute(
        update(tasks)
        .where(tasks.c.id == task_id, of_row(State.STARTED))
        .values(cancel_requested_at=first_request(), **values)
        .returning(tasks.c.id)
    ).first()
    return CancelOutcome(State(row.state), requested=asked is not None), row.children_open is not None
