"""Claiming: the one compare-and-set that makes a doubled message harmless, and its answer to rows it cannot run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Float, String, and_, bindparam, case, false, not_, null, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from sicargabox_core.db import Database, db_now
from sicargabox_core.tasks.contracts import WAITING_STATES, Payload, State, TaskSpec
from sicargabox_core.tasks.endings import Transition
from sicargabox_core.tasks.lifecycle import expire_lease, fail
from sicargabox_core.tasks.rows import (
    INVALID_PAYLOAD,
    STARTED,
    UNKNOWN_TASK,
    data_version,
    now,
    of_row,
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
    attempt: int
    failures: int
    payload: dict[str, Any]
    arguments: Payload
    request_id: str | None
    parent_id: str | None
    exclusive_key: str | None
    data_version: int | None
    created_at: datetime
    run_at: datetime
    started_at: datetime


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
    statement = _claim_statement(frozenset((spec.name, spec.version) for spec in known.values()))
    taken = {"task_id": task_id, "lease_seconds": lease_seconds, "claiming_worker": storable(worker, 200)}
    row = database.at_once(statement, taken)
    if row is None:
        with database.write() as session:
            transition = expire_lease(session, task_id, only_exhausted=True)
            if not transition:
                _put_off(session, task_id, known)
    else:
        try:
            arguments = known[row.name].payload.model_validate(row.payload)
        except ValidationError as error:
            with database.write() as session:
                transition = fail(session, row.id, row.attempt, code=INVALID_PAYLOAD, message=_first_fault(error))
        else:
            return Claim(arguments=arguments, **row._mapping)
    if transition:
        ended(transition)
    return None


@functools.lru_cache(maxsize=8)
def _claim_statement(known: frozenset[tuple[str, int]]) -> ReturningUpdate[Any]:
    # Kept: a claim is made for every message, doubled ones too, and building it costs more than executing it.
    # SKIP LOCKED: a row that another process is deciding upon is no longer ours to take, so nobody waits for it.
    takeable = (
        select(tasks.c.id)
        .where(
            tasks.c.id == bindparam("task_id", type_=String()),
            _is_known(known),
            tasks.c.cancel_requested_at.is_(None),
            or_(
                and_(of_row(*WAITING_STATES), tasks.c.run_at <= now(), tasks.c.waits_for.is_(None)),
                and_(
                    of_row(State.STARTED),
                    tasks.c.lease_until < now(),
                    tasks.c.failures + 1 < tasks.c.max_attempts,
                ),
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
            tasks.c.attempt,
            tasks.c.failures,
            tasks.c.payload,
            tasks.c.request_id,
            tasks.c.parent_id,
            tasks.c.exclusive_key,
            tasks.c.data_version,
            tasks.c.created_at,
            tasks.c.run_at,
            tasks.c.started_at,
        )
    )


def _is_known(known: Iterable[tuple[str, int]]) -> ColumnElement[bool]:
    """Whether this release can run the row: it knows the name, and a version that is not older than the row's."""
    return or_(false(), *(and_(tasks.c.name == name, tasks.c.version <= version) for name, version in sorted(known)))


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"the stored payload no longer fits: {place}: {first['msg']}" if place else f"{first['msg']}"


def _put_off(session: Session, task_id: str, known: Mapping[str, TaskSpec[Any, Any]]) -> None:
    # During a rolling update a newer worker is about to come, so this is no failure, however often it happens.
    session.execute(
        update(tasks)
        .where(
            tasks.c.id == task_id,
            not_(_is_known((spec.name, spec.version) for spec in known.values())),
            of_row(*WAITING_STATES),
            tasks.c.run_at <= now(),
            tasks.c.waits_for.is_(None),
            tasks.c.cancel_requested_at.is_(None),
        )
        .values(
            run_at=db_now(resend_delay(tasks.c.publish_count)),
            published_at=null(),
            error_code=UNKNOWN_TASK,
            error_message="No worker of the running release knows this task or its version; it waits for one.",
        )
    )
