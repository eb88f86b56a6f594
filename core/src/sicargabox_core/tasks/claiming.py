"""Claiming: the one compare-and-set that makes a doubled message harmless, and its answer to rows it cannot run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Float, String, and_, bindparam, case, null, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from sicargabox_core.db import Database, db_now
from sicargabox_core.tasks.contracts import Payload, State, TaskSpec
from sicargabox_core.tasks.endings import Transition
from sicargabox_core.tasks.lifecycle import expire_lease, fail
from sicargabox_core.tasks.rows import (
    INVALID_PAYLOAD,
    STARTED,
    UNKNOWN_TASK,
    WAITING,
    data_version,
    now,
    resend_delay,
    storable,
    tasks,
)


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


class _NotForUs(Exception):
    """Rolls a claim back: this release does not know the row's name or version."""


def claim(
    database: Database,
    task_id: str,
    *,
    worker: str,
    lease_seconds: float,
    known: Mapping[str, TaskSpec[Any, Any]],
    ended: Callable[[Transition], None] = lambda _: None,
) -> Claim | None:
    """Takes the row for this process: the one compare-and-set that makes a doubled message harmless.

    It may be taken when it waits and is due, or when its lease has expired (which counts as a failure); never when a
    cancel was asked for. None: somebody else has it, it is final, it is not due, no attempt is left (then it is
    FAILURE now), its payload fits no longer (FAILURE), or this release does not know it (put off with back-off).
    ``ended`` is told of a FAILURE made here, after the commit, so that copies and messages can follow.
    """
    try:
        with database.write() as session:
            taken = _claim(session, task_id, worker, lease_seconds, known)
    except _NotForUs:
        with database.write() as session:
            _put_off(session, task_id)
        return None
    if isinstance(taken, Claim):
        return taken
    if taken:
        ended(taken)
    return None


def _claim(
    session: Session, task_id: str, worker: str, lease_seconds: float, known: Mapping[str, TaskSpec[Any, Any]]
) -> Claim | Transition:
    taken = {"task_id": task_id, "lease_seconds": lease_seconds, "claiming_worker": storable(worker, 200)}
    row = session.execute(_CLAIM, taken).first()
    if row is None:
        return expire_lease(session, task_id, only_exhausted=True)
    spec = known.get(row.name)
    if spec is None or row.version > spec.version:
        raise _NotForUs
    try:
        arguments = spec.payload.model_validate(row.payload)
    except ValidationError as error:
        return fail(session, row.id, row.attempt, code=INVALID_PAYLOAD, message=_first_fault(error))
    return Claim(arguments=arguments, **row._mapping)


def _claim_statement() -> ReturningUpdate[Any]:
    # SKIP LOCKED: a row that another process is deciding upon is no longer ours to take, so nobody waits for it.
    takeable = (
        select(tasks.c.id)
        .where(
            tasks.c.id == bindparam("task_id", type_=String()),
            tasks.c.cancel_requested_at.is_(None),
            or_(
                and_(WAITING, tasks.c.run_at <= now(), tasks.c.waits_for.is_(None)),
                and_(STARTED, tasks.c.lease_until < now(), tasks.c.failures + 1 < tasks.c.max_attempts),
            ),
        )
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return (
        update(tasks)
        .where(tasks.c.id == takeable)
        .values(
            state=State.STARTED,
            attempt=tasks.c.attempt + 1,
            failures=tasks.c.failures + case((STARTED, 1), else_=0),
            lease_until=db_now(bindparam("lease_seconds", type_=Float())),
            started_at=db_now(),
            worker=bindparam("claiming_worker", type_=String()),
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
    )


# Built once: a claim is made for every message, doubled ones too, and building it costs more than executing it.
_CLAIM = _claim_statement()


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
