"""[Repetir]: a new task in the place of one that has ended. The old row never changes again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row, select

from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import Conflict, DataFault, NotFound
from sicargabox_core.tasks.contracts import FINAL_STATES, TASKS, State, TaskSpec
from sicargabox_core.tasks.parents import child_id, insert_children
from sicargabox_core.tasks.rows import UNFINISHED, can_be_an_id, tasks
from sicargabox_core.tasks.submission import Submission, accept, columns, submit
from sicargabox_core.tasks.views import get

_FAILED = tasks.c.state.in_([State.FAILURE, State.REVOKED])


def retry(database: Database, task_id: str, *, by: str, known: Mapping[str, TaskSpec[Any, Any]] = TASKS) -> Submission:
    """Accepts the same work anew, as a row with ``retried_from``; publish it (and its ``due`` children) afterwards.

    Of a parent whose children failed only those run again, and the others' numbers stay in the new parent's result.
    Asked twice before the new one ends, it returns that one. Raises ``NotFound``, ``Conflict`` (not ended, or its
    name is not known), ``DataFault`` (its payload fits no longer), ``AlreadyRunning``.
    """
    if not can_be_an_id(task_id):
        raise NotFound(f"there is no task {task_id}")
    with database.write() as session:
        # The lock makes two clicks at the same moment two in turn.
        old = session.execute(select(*tasks.c).where(tasks.c.id == task_id).with_for_update()).first()
        if old is None:
            raise NotFound(f"there is no task {task_id}")
        if old.state not in FINAL_STATES:
            raise Conflict(f"task {task_id} has not ended", remedy="Wait for it or cancel it.")
        spec = known.get(old.name)
        if spec is None:
            raise Conflict(f"this release does not know the task {old.name}", remedy="Start what replaced it.")
        try:
            payload = spec.payload.model_validate(old.payload)
        except ValidationError as error:
            raise DataFault(f"the payload of task {task_id} no longer fits {old.name}") from error
        unfinished = session.execute(
            select(tasks.c.id).where(tasks.c.queue == spec.queue.value, UNFINISHED, tasks.c.retried_from == task_id)
        ).scalar()
        if unfinished is not None:
            return Submission(get(session, unfinished), created=False, already_running=True)
        failed = session.execute(
            select(*tasks.c).where(tasks.c.parent_id == task_id, _FAILED).order_by(tasks.c.created_at, tasks.c.id)
        ).all()
        if not failed:
            return submit(session, spec, payload, initiated_by=by, retried_from=task_id)
        values = columns(spec, payload, initiated_by=by, request_id=None) | _parent_of(old, len(failed))
        parent = accept(session, spec, values)
        if not parent.created:
            return parent
        rows = [_again(parent.task.id, number, child, by) for number, child in enumerate(failed)]
        due = insert_children(session, rows, offer=True)
        return Submission(get(session, parent.task.id), created=True, due=due)


def _parent_of(old: Row[Any], children: int) -> dict[str, Any]:
    """A parent that has already done its own part: STARTED, without a lease, waiting for its children."""
    return {
        "state": State.STARTED,
        "started_at": db_now(),
        "retried_from": old.id,
        "data_version": old.data_version,
        "result": old.result,
        "children_open": children,
        "children_total": children,
        "children_failed": 0,
    }


def _again(parent_id: str, number: int, child: Row[Any], by: str) -> dict[str, Any]:
    return {
        "id": child_id(parent_id, number),
        "name": child.name,
        "version": child.version,
        "queue": child.queue,
        "payload": child.payload,
        "payload_hash": child.payload_hash,
        "max_attempts": child.max_attempts,
        "parent_id": parent_id,
        "retried_from": child.id,
        "progress_total": child.progress_total,
        "initiated_by": by,
    }
