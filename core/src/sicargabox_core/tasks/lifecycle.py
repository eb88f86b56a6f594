"""What a worker and the reconciler do to a running task, each step a compare-and-set.

Writes of a worker are fenced by ``id AND attempt AND state = 'STARTED'``. Functions that take a session run inside the
caller's ``Database.write()``; publishing what became due is the caller's, after the commit.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, String, and_, bindparam, func, not_, null, or_, select, update
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import SicargaBoxError, TooManyRequests
from sicargabox_core.tasks.contracts import State
from sicargabox_core.tasks.endings import (
    REFUSED,
    Transition,
    cancelled_by,
    error_columns,
    finalise,
    success_columns,
)
from sicargabox_core.tasks.parents import Child, hand_out
from sicargabox_core.tasks.rows import (
    LEASE_EXPIRED,
    UNFINISHED,
    at,
    first_request,
    now,
    of_row,
    published_now,
    running,
    storable,
    storable_count,
    storable_result,
    tasks,
)

RETRY_FIRST_SECONDS = 5.0
RETRY_MOST_SECONDS = 300.0
# Whoever says "not before" is believed up to here: a provider's mistake must not keep a task for days.
TOLD_MOST_SECONDS = 3600.0
# Later by up to a tenth and five seconds at least, or all that were refused together come back together.
TOLD_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task is; ``total`` may be unknown."""

    current: int
    total: int | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """Whether the attempt still holds the row, and whether someone asked it to stop."""

    alive: bool
    cancel_requested: bool


# --- while it runs ---------------------------------------------------------------------------------------------------
def heartbeat(
    database: Database, task_id: str, attempt: int, lease_seconds: float, progress: Progress | None = None
) -> Beat:
    """Extends the lease and saves the progress. ``alive=False``: stop, the row is no longer this attempt's."""
    values = {"lease_until": db_now(lease_seconds), **progress_columns(progress)}
    with database.write() as session:
        row = session.execute(
            update(tasks).where(running(task_id, attempt)).values(**values).returning(tasks.c.cancel_requested_at)
        ).first()
    return Beat(alive=row is not None, cancel_requested=row is not None and row.cancel_requested_at is not None)


def progress_columns(progress: Progress | None) -> dict[str, Any]:
    """The columns that ``progress`` changes; a total once told stays."""
    if progress is None:
        return {}
    columns: dict[str, Any] = {
        "progress_current": storable_count(progress.current),
        "progress_message": storable(progress.message, 500) if progress.message else None,
    }
    if progress.total is not None:
        columns["progress_total"] = storable_count(progress.total)
    return columns


def lock_attempt(session: Session, task_id: str, attempt: int) -> bool:
    """Locks the row until the transaction ends; false when it is no longer this attempt's.

    For effects outside SQL: nobody can take the task over between this check and the effect.
    """
    return session.execute(select(tasks.c.id).where(running(task_id, attempt)).with_for_update()).first() is not None


# --- its end ---------------------------------------------------------------------------------------------------------
def finish_success(
    session: Session,
    task_id: str,
    attempt: int,
    result: dict[str, Any],
    children: Sequence[Child] = (),
    *,
    progress: Progress | None = None,
) -> Transition:
    """SUCCESS, in the transaction of the task's effects; with children the row stays STARTED until they have ended.

    ``progress``: what was told last, which a heartbeat need not have saved.
    Roll back when it returns false. Raises ``ResultTooLarge`` and ``InvalidResult`` before it writes anything.
    """
    stored = storable_result(result)
    if children:
        return hand_out(session, task_id, attempt, stored, children)
    values = {**progress_columns(progress), **success_columns(stored)}
    if progress is not None:
        # Done is done, however seldom the task told how far it was.
        total = values.get("progress_total", tasks.c.progress_total)
        values["progress_current"] = func.coalesce(total, storable_count(progress.current))
    return finalise(session, running(task_id, attempt), State.SUCCESS, values)


def finish_alone(database: Database, task_id: str, attempt: int, result: dict[str, Any]) -> Transition:
    """``finish_success`` of a task nothing hangs on: no effects, children, progress, parent or exclusive key.

    One statement is the whole transaction. Refused, and raises, as ``finish_success`` does.
    """
    row = database.at_once(
        _FINISH_ALONE, {"ended_id": task_id, "ended_attempt": attempt, "its_result": storable_result(result)}
    )
    return REFUSED if row is None else Transition(True, State.SUCCESS, (), (task_id,), row.finished_at)


def _finish_alone_statement() -> ReturningUpdate[Any]:
    fence = running(bindparam("ended_id", type_=String()), bindparam("ended_attempt", type_=Integer()))
    hanging_on_it = or_(tasks.c.parent_id.is_not(None), tasks.c.exclusive_key.is_not(None))
    return (
        update(tasks)
        .where(fence, not_(hanging_on_it))
        .values(
            state=State.SUCCESS,
            finished_at=db_now(),
            lease_until=null(),
            **success_columns(bindparam("its_result", type_=tasks.c.result.type)),
        )
        .returning(tasks.c.finished_at)
    )


# Built once, since most of a short task's time would go into building it.
_FINISH_ALONE = _finish_alone_statement()


def fail(
    session: Session, task_id: str, attempt: int, *, code: str, message: str, traceback: str | None = None
) -> Transition:
    """FAILURE at once, whatever attempts are left."""
    values = {"failures": tasks.c.failures + 1, **error_columns(code, message, traceback)}
    return finalise(session, running(task_id, attempt), State.FAILURE, values)


def retry_later(
    session: Session,
    task_id: str,
    attempt: int,
    *,
    code: str,
    message: str,
    traceback: str | None = None,
    delay: float | None = None,
) -> Transition:
    """RETRY after ``delay`` seconds (none given: back-off with jitter); FAILURE when no attempt is left.

    REVOKED when a cancel was asked for: it would never be claimed again.
    """
    row = session.execute(
        select(tasks.c.failures, tasks.c.max_attempts, tasks.c.cancel_requested_at)
        .where(running(task_id, attempt))
        .with_for_update()
    ).first()
    if row is None:
        return REFUSED
    if row.cancel_requested_at is not None:
        return revoke(session, task_id, attempt)
    if row.failures + 1 >= row.max_attempts:
        return fail(session, task_id, attempt, code=code, message=message, traceback=traceback)
    wait = retry_delay(row.failures + 1) if delay is None else delay
    session.execute(
        update(tasks)
        .where(running(task_id, attempt))
        .values(
            **_waiting_again(State.RETRY),
            run_at=db_now(wait),
            failures=tasks.c.failures + 1,
            **error_columns(code, message, traceback),
        )
    )
    return Transition(True, State.RETRY)


def record_error(
    session: Session, task_id: str, attempt: int, error: BaseException, *, traceback: str | None = None
) -> Transition:
    """``retry_later`` for an error that another attempt may not meet, ``fail`` for any other."""
    if isinstance(error, SicargaBoxError):
        code, message = error.code, str(error)
    else:
        code, message = "unexpected", described(error)
    if not is_retryable(error):
        return fail(session, task_id, attempt, code=code, message=message, traceback=traceback)
    delay = told_delay(error.retry_after) if isinstance(error, TooManyRequests) else None
    return retry_later(session, task_id, attempt, code=code, message=message, traceback=traceback, delay=delay)


def described(error: BaseException) -> str:
    """An error's kind and words. Of a database's only the first line: PostgreSQL goes on with the values of the row."""
    words = str(error.orig).partition("\n")[0] if isinstance(error, DBAPIError) else str(error)
    return f"{type(error).__name__}: {words}"


def is_retryable(error: BaseException) -> bool:
    """Whether another attempt may succeed: what says so itself, and servers or the network being away."""
    if isinstance(error, SicargaBoxError):
        return error.retryable
    if isinstance(error, DBAPIError):
        return isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated
    return isinstance(error, ConnectionError | TimeoutError | PoolTimeout)


def retry_delay(failures: int) -> float:
    """Seconds before the next attempt: 5, 10, 20 … 300, less up to a half, so that what failed together spreads."""
    full = min(RETRY_MOST_SECONDS, RETRY_FIRST_SECONDS * 2.0 ** min(failures - 1, 16))
    return full * random.uniform(0.5, 1.0)  # noqa: S311  # spreads load, guards nothing


def told_delay(retry_after: float) -> float:
    """Seconds before the next attempt after "not before ``retry_after`` seconds": no sooner, and up to an hour."""
    told = min(TOLD_MOST_SECONDS, max(0.0, retry_after))
    return told + random.uniform(0.0, max(RETRY_FIRST_SECONDS, told * TOLD_SPREAD))  # noqa: S311  # spreads load


def release(session: Session, task_id: str, attempt: int) -> Transition:
    """A stopping worker gives its claim back: PENDING, due now, no failure. REVOKED when a cancel was asked for."""
    row = session.execute(
        update(tasks)
        .where(running(task_id, attempt), tasks.c.cancel_requested_at.is_(None))
        .values(**(_waiting_again(State.PENDING) | published_now()))
        .returning(tasks.c.id)
    ).first()
    if row is None:
        return revoke(session, task_id, attempt)
    return Transition(True, State.PENDING, due=(task_id,))


def revoke(session: Session, task_id: str, attempt: int | None = None, *, by: str | None = None) -> Transition:
    """REVOKED. With ``attempt``: by the worker that noticed the cancel. Without: whatever unfinished state it has.

    A parent that waits for its children is only marked; its children are cancelled by ``request_cancel`` or the
    reconciler, and the last one completes it.
    """
    values = {} if by is None else cancelled_by(by)
    if attempt is not None:
        return finalise(session, running(task_id, attempt), State.REVOKED, values)
    unfinished = and_(tasks.c.id == task_id, UNFINISHED)
    done = finalise(session, and_(unfinished, tasks.c.children_open.is_(None)), State.REVOKED, values)
    if not done:
        session.execute(update(tasks).where(unfinished).values(cancel_requested_at=first_request(), **values))
    return done


# --- when its worker does not do it ----------------------------------------------------------------------------------
def expire_lease(session: Session, task_id: str, *, only_exhausted: bool = False) -> Transition:
    """A row whose worker stopped answering: REVOKED if cancelled, FAILURE if no attempt is left, else due again.

    Refused when the lease holds, or another process has the row in hand. The first time it is due at once; then with
    back-off, since the task itself may be what kills its workers.
    """
    exhausted = tasks.c.failures + 1 >= tasks.c.max_attempts
    conditions = [
        tasks.c.id == task_id,
        of_row(State.STARTED),
        tasks.c.children_open.is_(None),
        tasks.c.lease_until < now(),
    ]
    if only_exhausted:
        conditions += [exhausted, tasks.c.cancel_requested_at.is_(None)]
    row = session.execute(
        select(tasks.c.attempt, tasks.c.failures, tasks.c.max_attempts, tasks.c.worker, tasks.c.cancel_requested_at)
        .where(*conditions)
        .with_for_update(skip_locked=True)
    ).first()
    if row is None:
        return REFUSED
    if row.cancel_requested_at is not None:
        return revoke(session, task_id, row.attempt)
    message = f"Worker {row.worker} stopped answering in attempt {row.attempt}."
    if row.failures + 1 >= row.max_attempts:
        message += f" That was failure {row.failures + 1} of {row.max_attempts}; maybe it ended or froze its process."
        return fail(session, task_id, row.attempt, code=LEASE_EXPIRED, message=message)
    wait = 0.0 if row.failures == 0 else retry_delay(row.failures)
    session.execute(
        update(tasks)
        .where(running(task_id, row.attempt))
        .values(
            **_waiting_again(State.RETRY),
            run_at=db_now(wait),
            failures=tasks.c.failures + 1,
            **error_columns(LEASE_EXPIRED, message),
        )
    )
    return Transition(True, State.RETRY)


def end_cancelled(session: Session, task_id: str, grace_seconds: float) -> Transition:
    """REVOKED for a running row that was asked to stop more than ``grace_seconds`` ago and has not done so.

    Its attempt is fenced out by that: whatever it still does is refused. Refused here when another process has the
    row in hand.
    """
    attempt = session.execute(
        select(tasks.c.attempt)
        .where(
            tasks.c.id == task_id,
            of_row(State.STARTED),
            tasks.c.children_open.is_(None),
            tasks.c.cancel_requested_at <= at(-grace_seconds),
        )
        .with_for_update(skip_locked=True)
    ).scalar()
    return REFUSED if attempt is None else revoke(session, task_id, attempt)


def _waiting_again(state: State) -> dict[str, Any]:
    return {"state": state, "lease_until": null(), "published_at": null(), "publish_count": 0}
