"""Every change of a task's state after its acceptance, each one a compare-and-set.

Writes of a worker are fenced by ``id AND attempt AND state = 'STARTED'``. A transition into a final state does in the
same transaction what hangs on it: it releases a waiting follow-up, and counts down the parent, whose own transition
follows when it was the last child. Locks are always taken upwards (child, then parent), so two of them cannot deadlock.

Functions that take a session run inside the caller's ``Database.write()``; those that take a ``Database`` commit by
themselves. Publishing what became due is the caller's, after the commit.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from pydantic import ValidationError
from sqlalchemy import ColumnElement, and_, case, func, insert, null, or_, select, update
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import SicargaBoxError, TooManyRequests
from sicargabox_core.tasks.contracts import Payload, State, TaskSpec
from sicargabox_core.tasks.rows import (
    CANCELLED,
    CHILDREN_FAILED,
    ERROR_CHARACTERS,
    INVALID_PAYLOAD,
    LEASE_EXPIRED,
    STARTED,
    UNFINISHED,
    UNKNOWN_TASK,
    WAITING,
    at,
    data_version,
    now,
    resend_delay,
    running,
    storable,
    storable_count,
    storable_result,
    storable_traceback,
    tasks,
)
from sicargabox_core.tasks.submission import payload_hash

RETRY_FIRST_SECONDS = 5.0
RETRY_MOST_SECONDS = 300.0
# More children than a publisher takes at once are left to the reconciler, 500 a pass.
CHILDREN_PUBLISHED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Transition:
    """What a write changed; false when the fence refused it, i.e. the row is no longer this attempt's.

    ``due``: ids to publish after the commit, already stamped. ``final``: ids that became final in this transaction
    (this task's first, then parents that were completed by it).
    """

    done: bool
    state: State | None = None
    due: tuple[str, ...] = ()
    final: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.done


REFUSED = Transition(False)


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that this process may run now; ``attempt`` fences all its writes. ``arguments`` is the valid payload."""

    id: str
    name: str
    queue: str
    version: int
    attempt: int
    failures: int
    max_attempts: int
    payload: dict[str, Any]
    arguments: Payload
    initiated_by: str
    request_id: str | None
    parent_id: str | None
    data_version: int | None
    created_at: datetime
    run_at: datetime
    started_at: datetime


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


@dataclass(frozen=True, slots=True)
class Child:
    """A task that a parent hands out when it finishes. ``size`` is what its progress will count up to, if known."""

    spec: TaskSpec[Any, Any]
    payload: Payload
    size: int | None = None

    def __post_init__(self) -> None:
        if self.spec.exclusive is not None:
            raise ValueError(f"{self.spec.name} is exclusive, so it cannot be a child")


class _NotForUs(Exception):
    """Rolls a claim back: this release does not know the row's name or version."""


# --- claim -----------------------------------------------------------------------------------------------------------
def claim(
    database: Database,
    task_id: str,
    *,
    worker: str,
    lease_seconds: float,
    known: Mapping[str, TaskSpec[Any, Any]],
) -> Claim | None:
    """Takes the row for this process: the one compare-and-set that makes a doubled message harmless.

    It may be taken when it waits and is due, or when its lease has expired (which counts as a failure); never when a
    cancel was asked for. None: somebody else has it, it is final, it is not due, no attempt is left (then it is
    FAILURE now), its payload fits no longer (FAILURE), or this release does not know it (put off with back-off).
    """
    try:
        with database.write() as session:
            return _claim(session, task_id, worker, lease_seconds, known)
    except _NotForUs:
        with database.write() as session:
            _put_off(session, task_id)
        return None


def _claim(
    session: Session, task_id: str, worker: str, lease_seconds: float, known: Mapping[str, TaskSpec[Any, Any]]
) -> Claim | None:
    # SKIP LOCKED: a row that another process is deciding upon is no longer ours to take, so nobody waits for it.
    takeable = (
        select(tasks.c.id)
        .where(
            tasks.c.id == task_id,
            tasks.c.cancel_requested_at.is_(None),
            or_(
                and_(WAITING, tasks.c.run_at <= now(), tasks.c.waits_for.is_(None)),
                and_(STARTED, tasks.c.lease_until < now(), tasks.c.failures + 1 < tasks.c.max_attempts),
            ),
        )
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    row = session.execute(
        update(tasks)
        .where(tasks.c.id == takeable)
        .values(
            state=State.STARTED,
            attempt=tasks.c.attempt + 1,
            failures=tasks.c.failures + case((STARTED, 1), else_=0),
            lease_until=db_now(lease_seconds),
            started_at=db_now(),
            worker=storable(worker, 200),
            publish_count=0,
            data_version=data_version(),
            progress_current=null(),
            progress_message=null(),
        )
        .returning(
            tasks.c.id,
            tasks.c.name,
            tasks.c.queue,
            tasks.c.version,
            tasks.c.attempt,
            tasks.c.failures,
            tasks.c.max_attempts,
            tasks.c.payload,
            tasks.c.initiated_by,
            tasks.c.request_id,
            tasks.c.parent_id,
            tasks.c.data_version,
            tasks.c.created_at,
            tasks.c.run_at,
            tasks.c.started_at,
        )
    ).first()
    if row is None:
        expire_lease(session, task_id, only_exhausted=True)
        return None
    spec = known.get(row.name)
    if spec is None or row.version > spec.version:
        raise _NotForUs
    try:
        arguments = spec.payload.model_validate(row.payload)
    except ValidationError as error:
        fail(session, row.id, row.attempt, code=INVALID_PAYLOAD, message=_first_fault(error))
        return None
    return Claim(arguments=arguments, **row._mapping)


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"the stored payload no longer fits: {place}: {first['msg']}" if place else f"{first['msg']}"


def _put_off(session: Session, task_id: str) -> None:
    # During a rolling update a newer worker is about to come, so this is no failure, however often it happens.
    session.execute(
        update(tasks)
        .where(tasks.c.id == task_id, WAITING, tasks.c.run_at <= now())
        .values(
            run_at=db_now(resend_delay(tasks.c.publish_count)),
            published_at=null(),
            error_code=UNKNOWN_TASK,
            error_message="No worker of the running release knows this task or its version; it waits for one.",
        )
    )


# --- while it runs ---------------------------------------------------------------------------------------------------
def heartbeat(
    database: Database, task_id: str, attempt: int, lease_seconds: float, progress: Progress | None = None
) -> Beat:
    """Extends the lease and saves the progress. ``alive=False``: stop, the row is no longer this attempt's."""
    values: dict[str, Any] = {"lease_until": db_now(lease_seconds)}
    if progress is not None:
        values["progress_current"] = storable_count(progress.current)
        values["progress_message"] = storable(progress.message, 500) if progress.message else None
        if progress.total is not None:
            values["progress_total"] = storable_count(progress.total)
    with database.write() as session:
        row = session.execute(
            update(tasks).where(running(task_id, attempt)).values(**values).returning(tasks.c.cancel_requested_at)
        ).first()
    return Beat(alive=row is not None, cancel_requested=row is not None and row.cancel_requested_at is not None)


def lock_attempt(session: Session, task_id: str, attempt: int) -> bool:
    """Locks the row until the transaction ends; false when it is no longer this attempt's.

    For effects outside SQL: nobody can take the task over between this check and the effect.
    """
    return session.execute(select(tasks.c.id).where(running(task_id, attempt)).with_for_update()).first() is not None


# --- its end ---------------------------------------------------------------------------------------------------------
def finish_success(
    session: Session, task_id: str, attempt: int, result: dict[str, Any], children: Sequence[Child] = ()
) -> Transition:
    """SUCCESS, in the transaction of the task's effects; with children the row stays STARTED until they have ended.

    Roll back when it returns false. Raises ``ResultTooLarge`` and ``InvalidResult`` before it writes anything.
    """
    stored = storable_result(result)
    if children:
        return _hand_out(session, task_id, attempt, stored, children)
    return _finalise(session, running(task_id, attempt), State.SUCCESS, _success(stored))


def fail(
    session: Session, task_id: str, attempt: int, *, code: str, message: str, traceback: str | None = None
) -> Transition:
    """FAILURE at once, whatever attempts are left."""
    values = {"failures": tasks.c.failures + 1, **_error(code, message, traceback)}
    return _finalise(session, running(task_id, attempt), State.FAILURE, values)


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
            **_error(code, message, traceback),
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
        code, message = "unexpected", f"{type(error).__name__}: {error}"
    if not is_retryable(error):
        return fail(session, task_id, attempt, code=code, message=message, traceback=traceback)
    delay = error.retry_after if isinstance(error, TooManyRequests) else None
    return retry_later(session, task_id, attempt, code=code, message=message, traceback=traceback, delay=delay)


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


def release(session: Session, task_id: str, attempt: int) -> Transition:
    """A stopping worker gives its claim back: PENDING, due now, no failure. REVOKED when a cancel was asked for."""
    row = session.execute(
        update(tasks)
        .where(running(task_id, attempt), tasks.c.cancel_requested_at.is_(None))
        .values(**(_waiting_again(State.PENDING) | _published_now()))
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
    values = {} if by is None else _cancelled_by(by)
    if attempt is not None:
        return _finalise(session, running(task_id, attempt), State.REVOKED, values)
    unfinished = and_(tasks.c.id == task_id, UNFINISHED)
    done = _finalise(session, and_(unfinished, tasks.c.children_open.is_(None)), State.REVOKED, values)
    if not done:
        session.execute(update(tasks).where(unfinished).values(cancel_requested_at=_first_request(), **values))
    return done


def expire_lease(session: Session, task_id: str, *, only_exhausted: bool = False) -> Transition:
    """A row whose worker stopped answering: REVOKED if cancelled, FAILURE if no attempt is left, else due again.

    Refused when the lease holds, or another process has the row in hand. The first time it is due at once; then with
    back-off, since the task itself may be what kills its workers.
    """
    exhausted = tasks.c.failures + 1 >= tasks.c.max_attempts
    conditions = [tasks.c.id == task_id, STARTED, tasks.c.children_open.is_(None), tasks.c.lease_until < now()]
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
        return fail(session, task_id, row.attempt, code=LEASE_EXPIRED, message=message)
    wait = 0.0 if row.failures == 0 else retry_delay(row.failures)
    session.execute(
        update(tasks)
        .where(running(task_id, row.attempt))
        .values(
            **_waiting_again(State.RETRY),
            run_at=db_now(wait),
            failures=tasks.c.failures + 1,
            **_error(LEASE_EXPIRED, message, None),
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
            STARTED,
            tasks.c.children_open.is_(None),
            tasks.c.cancel_requested_at <= at(-grace_seconds),
        )
        .with_for_update(skip_locked=True)
    ).scalar()
    return REFUSED if attempt is None else revoke(session, task_id, attempt)


# --- cancel ----------------------------------------------------------------------------------------------------------
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


def mark_cancelled(session: Session, task_id: str, by: str) -> CancelOutcome | None:
    """One row's cancel, inside the caller's transaction; None when there is no such row."""
    row = session.execute(select(tasks.c.state).where(tasks.c.id == task_id).with_for_update()).first()
    if row is None:
        return None
    values = _cancelled_by(by)
    revoked = _finalise(session, and_(tasks.c.id == task_id, WAITING), State.REVOKED, values)
    if revoked:
        return CancelOutcome(State.REVOKED, revoked=True, due=revoked.due, final=revoked.final)
    asked = session.execute(
        update(tasks)
        .where(tasks.c.id == task_id, STARTED)
        .values(cancel_requested_at=_first_request(), **values)
        .returning(tasks.c.id)
    ).first()
    return CancelOutcome(State(row.state), requested=asked is not None)


# --- what the transitions share --------------------------------------------------------------------------------------
def _finalise(session: Session, guard: ColumnElement[bool], state: State, values: Mapping[str, Any]) -> Transition:
    row = session.execute(
        update(tasks)
        .where(guard)
        .values(state=state, finished_at=db_now(), lease_until=null(), waits_for=null(), **values)
        .returning(tasks.c.id, tasks.c.parent_id, tasks.c.exclusive_key)
    ).first()
    if row is None:
        return REFUSED
    due: tuple[str, ...] = ()
    final: tuple[str, ...] = (row.id,)
    if row.exclusive_key is not None:
        due += _release_follow_ups(session, row.id, row.exclusive_key)
    if row.parent_id is not None:
        above = _count_down(session, row.parent_id, failed=state is not State.SUCCESS)
        due, final = due + above.due, final + above.final
    return Transition(True, state, due, final)


def _release_follow_ups(session: Session, task_id: str, exclusive_key: str) -> tuple[str, ...]:
    rows = session.execute(
        update(tasks)
        .where(tasks.c.waits_for == task_id, WAITING)
        .values(waits_for=null(), exclusive_key=exclusive_key, run_at=db_now(), **_published_now())
        .returning(tasks.c.id)
    )
    return tuple(rows.scalars())


def _hand_out(
    session: Session, task_id: str, attempt: int, result: dict[str, Any], children: Sequence[Child]
) -> Transition:
    parent = session.execute(
        update(tasks)
        .where(running(task_id, attempt))
        .values(
            lease_until=null(),
            result=result,
            children_open=len(children),
            children_total=len(children),
            children_failed=0,
            error_code=case((tasks.c.cancel_requested_at.is_(None), null()), else_=tasks.c.error_code),
            error_message=case((tasks.c.cancel_requested_at.is_(None), null()), else_=tasks.c.error_message),
        )
        .returning(tasks.c.initiated_by, tasks.c.request_id, tasks.c.cancel_requested_at)
    ).first()
    if parent is None:
        return REFUSED
    rows = [
        {
            **child_columns(task_id, number, child),
            "initiated_by": parent.initiated_by,
            "request_id": parent.request_id,
        }
        for number, child in enumerate(children)
    ]
    # Children of a cancelled parent are never offered: the reconciler revokes them in its next pass.
    return Transition(True, State.STARTED, due=insert_children(session, rows, offer=parent.cancel_requested_at is None))


def child_columns(parent_id: str, number: int, child: Child) -> dict[str, Any]:
    """The columns of a parent's ``number``-th child, whose id follows from both."""
    return {
        "id": str(uuid5(UUID(parent_id), str(number))),
        "name": child.spec.name,
        "version": child.spec.version,
        "queue": child.spec.queue.value,
        "payload": child.payload.model_dump(mode="json"),
        "payload_hash": payload_hash(child.payload),
        "max_attempts": child.spec.max_attempts,
        "parent_id": parent_id,
        "progress_total": storable_count(child.size),
    }


def insert_children(session: Session, rows: Sequence[dict[str, Any]], *, offer: bool) -> tuple[str, ...]:
    """Inserts children; returns the ids that are stamped and to be published after the commit."""
    offered = list(rows[:CHILDREN_PUBLISHED_AT_ONCE]) if offer else []
    left = rows[len(offered) :]
    if offered:
        session.execute(insert(tasks).values(state=State.PENDING, **_published_now()), offered)
    if left:
        session.execute(insert(tasks).values(state=State.PENDING), list(left))
    return tuple(row["id"] for row in offered)


def _count_down(session: Session, parent_id: str, *, failed: bool) -> Transition:
    parent = session.execute(
        update(tasks)
        .where(tasks.c.id == parent_id, STARTED, tasks.c.children_open > 0)
        .values(
            children_open=tasks.c.children_open - 1,
            children_failed=tasks.c.children_failed + (1 if failed else 0),
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
        return _finalise(session, this, State.REVOKED, {"result": total})
    if failed_children or revoked:
        parts = [f"{failed_children} failed"] * bool(failed_children) + [f"{revoked} were cancelled"] * bool(revoked)
        message = f"Of {parent.children_total} parts {' and '.join(parts)}."
        return _finalise(session, this, State.FAILURE, {"result": total, **_error(CHILDREN_FAILED, message, None)})
    return _finalise(session, this, State.SUCCESS, _success(total))


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


def _success(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "result": result,
        "error_code": null(),
        "error_message": null(),
        "traceback": null(),
        "progress_current": func.coalesce(tasks.c.progress_total, tasks.c.progress_current),
    }


def _error(code: str, message: str, traceback: str | None) -> dict[str, Any]:
    return {
        "error_code": code,
        "error_message": storable(message, ERROR_CHARACTERS),
        "traceback": None if traceback is None else storable_traceback(traceback),
    }


def _cancelled_by(by: str) -> dict[str, Any]:
    return _error(CANCELLED, f"Cancelled by {by}.", None)


def _first_request() -> Any:
    return func.coalesce(tasks.c.cancel_requested_at, db_now())


def _waiting_again(state: State) -> dict[str, Any]:
    return {"state": state, "lease_until": null(), "published_at": null(), "publish_count": 0}


def _published_now() -> dict[str, Any]:
    return {"published_at": db_now(), "publish_count": 1}
