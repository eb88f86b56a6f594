"""[Repetir]: a new task in the place of one that has ended. The old row never changes again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row, select

from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import AlreadyRunning, Conflict, DataFault, Forbidden, SicargaBoxError
from sicargabox_core.tasks.contracts import FINAL_STATES, TASKS, State, TaskSpec
from sicargabox_core.tasks.parents import child_id, insert_children
from sicargabox_core.tasks.rows import UNFINISHED, can_be_an_id, tasks
from sicargabox_core.tasks.submission import Submission, accept, columns, submit
from sicargabox_core.tasks.views import TaskView, get, not_found

# The most that one call repeats: each is a transaction of its own, some milliseconds long.
REPEATED_AT_ONCE = 200
_FAILED = tasks.c.state.in_([State.FAILURE, State.REVOKED])


@dataclass(frozen=True, slots=True)
class Skipped:
    """A task that was not repeated and why: ``code`` is an error's, or ``already_repeated`` or ``not_failed``.

    ``task_id``: the task that stands in the way, where one does.
    """

    id: str
    code: str
    detail: str
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Repetitions:
    """What became of a bulk repeat: the new tasks by the id they repeat, and what was left and why."""

    repeated: dict[str, Submission]
    skipped: tuple[Skipped, ...]


class _Skip(Exception):
    """Carries a reason out of a transaction, which is rolled back."""

    def __init__(self, code: str, detail: str, task_id: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.task_id = task_id


def retry_dead(
    database: Database,
    ids: Iterable[str],
    *,
    by: str,
    request_id: str | None = None,
    allowed: Callable[[TaskView], bool] = lambda _task: True,
    known: Mapping[str, TaskSpec[Any, Any]] = TASKS,
) -> Repetitions:
    """Repeats each dead letter among ``ids``, once: asked again, it says that the task was repeated and does nothing.

    Each in a transaction of its own, so one that cannot be repeated keeps no other from it; publish what is due
    afterwards. ``allowed``: whether the caller may repeat this task. Raises what the database raises.
    """
    repeated: dict[str, Submission] = {}
    skipped: list[Skipped] = []
    for task_id in dict.fromkeys(ids):
        try:
            submission = _retry(
                database, task_id, by=by, request_id=request_id, known=known, check=lambda task: _check(task, allowed)
            )
        except _Skip as reason:
            skipped.append(Skipped(task_id, reason.code, str(reason), reason.task_id))
        except AlreadyRunning as error:
            skipped.append(Skipped(task_id, error.code, error.message, error.task_id))
        except SicargaBoxError as error:
            skipped.append(Skipped(task_id, error.code, error.message))
        else:
            if submission.created:
                repeated[task_id] = submission
            else:
                running = submission.task.id
                skipped.append(Skipped(task_id, AlreadyRunning.code, f"task {running} does the same now", running))
    return Repetitions(repeated, tuple(skipped))


def _check(task: TaskView, allowed: Callable[[TaskView], bool]) -> None:
    if not allowed(task):
        raise _Skip(Forbidden.code, f"the caller may not start {task.name}")
    if task.state is not State.FAILURE:
        raise _Skip("not_failed", f"it has not failed: {task.state}")
    if task.parent_id is not None:
        raise _Skip("part", "it is a part of another task; repeat that one", task.parent_id)


def retry(
    database: Database,
    task_id: str,
    *,
    by: str,
    request_id: str | None = None,
    known: Mapping[str, TaskSpec[Any, Any]] = TASKS,
) -> Submission:
    """Accepts the same work anew, as a row with ``retried_from``; publish it (and its ``due`` children) afterwards.

    Of a parent whose children failed only those run again, and the others' numbers stay in the new parent's result.
    Asked twice before the new one ends, it returns that one. Raises ``NotFound``, ``Conflict`` (not ended, or its
    name is not known), ``DataFault`` (its payload fits no longer), ``AlreadyRunning``.
    """
    return _retry(database, task_id, by=by, request_id=request_id, known=known, check=None)


def _retry(
    database: Database,
    task_id: str,
    *,
    by: str,
    request_id: str | None,
    known: Mapping[str, TaskSpec[Any, Any]],
    check: Callable[[TaskView], None] | None,
) -> Submission:
    """``check``, when given, is asked under the row's lock; then a task that was ever repeated is not again."""
    if not can_be_an_id(task_id):
        raise not_found(task_id)
    with database.write() as session:
        # The lock makes two clicks at the same moment two in turn.
        old = session.execute(select(*tasks.c).where(tasks.c.id == task_id).with_for_update()).first()
        if old is None:
            raise not_found(task_id)
        if check is not None:
            check(get(session, task_id))
            again = session.scalars(select(tasks.c.id).where(tasks.c.retried_from == task_id).limit(1)).first()
            if again is not None:
                raise _Skip("already_repeated", f"task {again} repeats it", again)
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
            return submit(session, spec, payload, initiated_by=by, request_id=request_id, retried_from=task_id)
        values = columns(spec, payload, initiated_by=by, request_id=request_id) | _parent_of(old, len(failed))
        parent = accept(session, spec, values)
        if not parent.created:
            return parent
        rows = [_again(parent.task, number, child) for number, child in enumerate(failed)]
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


def _again(parent: TaskView, number: int, child: Row[Any]) -> dict[str, Any]:
    return {
        "id": child_id(parent.id, number),
        "name": child.name,
        "version": child.version,
        "queue": child.queue,
        "payload": child.payload,
        "payload_hash": child.payload_hash,
        "max_attempts": child.max_attempts,
        "parent_id": parent.id,
        "retried_from": child.id,
        "progress_total": child.progress_total,
        "initiated_by": parent.initiated_by,
        "request_id": parent.request_id,
    }
