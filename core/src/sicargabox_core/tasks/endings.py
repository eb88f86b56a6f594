"""Transitions into a final state, with what hangs on them, in one transaction.

Whoever ends a task (worker, reconciler, cancel) ends it here: a waiting follow-up is released, and the parent is
counted down, whose own end follows when this was the last child. Locks are only taken upwards, child before parent, so
two transactions cannot wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, func, null, select, update
from sqlalchemy.orm import Session

from sicargabox_core.db import db_now
from sicargabox_core.tasks.contracts import WAITING_STATES, State
from sicargabox_core.tasks.rows import (
    CANCELLED,
    CHILDREN_FAILED,
    ERROR_CHARACTERS,
    of_row,
    published_now,
    storable,
    storable_traceback,
    tasks,
)


@dataclass(frozen=True, slots=True)
class Transition:
    """What a write changed; false when the fence refused it, i.e. the row is no longer this attempt's.

    ``due``: ids to publish after the commit, already stamped. ``final``: ids that became final in this transaction
    (this task's first, then parents that were completed by it). ``finished_at``: of this task, where it is final.
    """

    done: bool
    state: State | None = None
    due: tuple[str, ...] = ()
    final: tuple[str, ...] = ()
    finished_at: datetime | None = None

    def __bool__(self) -> bool:
        return self.done


REFUSED = Transition(False)


def finalise(session: Session, guard: ColumnElement[bool], state: State, values: Mapping[str, Any]) -> Transition:
    """Ends the unfinished row that meets ``guard``, and whatever its end brings with it; refused without one."""
    row = session.execute(
        update(tasks)
        .where(guard)
        .values(state=state, finished_at=db_now(), lease_until=null(), waits_for=null(), **values)
        .returning(tasks.c.id, tasks.c.parent_id, tasks.c.exclusive_key, tasks.c.finished_at)
    ).first()
    if row is None:
        return REFUSED
    due: tuple[str, ...] = ()
    final: tuple[str, ...] = (row.id,)
    if row.exclusive_key is not None:
        due += _release_follow_ups(session, row.id, row.exclusive_key)
    if row.parent_id is not None:
        above = _count_down(session, row.parent_id, ended=1, failed=int(state is not State.SUCCESS))
        due, final = due + above.due, final + above.final
    return Transition(True, state, due, final, row.finished_at)


def revoke_waiting_children(session: Session, parent_id: str, values: Mapping[str, Any], *, most: int) -> Transition:
    """Ends up to ``most`` waiting children of a parent as REVOKED; refused when it has none.

    All at once, since they can have nothing below them, and one by one a thousand take four seconds. Children that
    another process has in hand are left: it claims or ends them.
    """
    ids: Sequence[str] = session.scalars(
        select(tasks.c.id)
        .where(tasks.c.parent_id == parent_id, of_row(*WAITING_STATES))
        .limit(most)
        .with_for_update(skip_locked=True)
    ).all()
    if not ids:
        return REFUSED
    session.execute(
        update(tasks).where(tasks.c.id.in_(ids)).values(state=State.REVOKED, finished_at=db_now(), **values)
    )
    above = _count_down(session, parent_id, ended=len(ids), failed=len(ids))
    return Transition(True, State.REVOKED, above.due, (*ids, *above.final))


def success_columns(result: dict[str, Any] | BindParameter[dict[str, Any]]) -> dict[str, Any]:
    """What a SUCCESS writes: its result, all of its progress, no error of an attempt before."""
    return {
        "result": result,
        "error_code": null(),
        "error_message": null(),
        "traceback": null(),
        "progress_current": func.coalesce(tasks.c.progress_total, tasks.c.progress_current),
    }


def error_columns(code: str, message: str, traceback: str | None = None) -> dict[str, Any]:
    """What an error writes, cut to what may be stored."""
    return {
        "error_code": code,
        "error_message": storable(message, ERROR_CHARACTERS),
        "traceback": None if traceback is None else storable_traceback(traceback),
    }


def cancelled_by(by: str) -> dict[str, Any]:
    """What a cancel writes."""
    return error_columns(CANCELLED, f"Cancelled by {by}.")


def _release_follow_ups(session: Session, task_id: str, exclusive_key: str) -> tuple[str, ...]:
    rows = session.execute(
        update(tasks)
        .where(tasks.c.waits_for == task_id, of_row(*WAITING_STATES))
        .values(waits_for=null(), exclusive_key=exclusive_key, run_at=db_now(), **published_now())
        .returning(tasks.c.id)
    )
    return tuple(rows.scalars())


def _count_down(session: Session, parent_id: str, *, ended: int, failed: int) -> Transition:
    parent = session.execute(
        update(tasks)
        .where(tasks.c.id == parent_id, of_row(State.STARTED), tasks.c.children_open > 0)
        .values(
            children_open=tasks.c.children_open - ended,
            children_failed=tasks.c.children_failed + failed,
        )
        .returning(tasks.c.children_open, tasks.c.children_total, tasks.c.cancel_requested_at, tasks.c.result)
    ).first()
    if parent is None or parent.children_open > 0:
        return REFUSED
    counts = session.execute(
        select(tasks.c.state, func.count()).where(tasks.c.parent_id == parent_id).group_by(tasks.c.state)
    )
    children: dict[str, int] = dict(counts.all())
    total = _sum_results(session, parent_id, parent.result or {})
    this = tasks.c.id == parent_id
    failed_children, revoked = children.get(State.FAILURE, 0), children.get(State.REVOKED, 0)
    if revoked and parent.cancel_requested_at is not None:
        return finalise(session, this, State.REVOKED, {"result": total})
    if failed_children or revoked:
        parts = [f"{failed_children} failed"] * bool(failed_children) + [f"{revoked} were cancelled"] * bool(revoked)
        message = f"Of {parent.children_total} parts {' and '.join(parts)}."
        values = {"result": total, **error_columns(CHILDREN_FAILED, message)}
        return finalise(session, this, State.FAILURE, values)
    return finalise(session, this, State.SUCCESS, success_columns(total))


def _sum_results(session: Session, parent_id: str, own: dict[str, Any]) -> dict[str, Any]:
    """The parent's own result with its children's numbers added, field by field of the parent's result model."""
    total = dict(own)
    counted = [name for name, value in own.items() if _is_number(value)]
    results = session.execute(
        select(tasks.c.result)
        .where(tasks.c.parent_id == parent_id, tasks.c.state == State.SUCCESS)
        .execution_options(yield_per=100)
    ).scalars()
    for result in results:
        for name in counted:
            value = (result or {}).get(name)
            if _is_number(value):
                total[name] += value
    return total


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
