"""Reading tasks: one, a page of many, and the few columns a publisher needs. Writes nothing."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Row,
    Select,
    and_,
    func,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.orm import Session

from sicargabox_core.errors import InvalidInput, NotFound
from sicargabox_core.tasks.contracts import FINAL_STATES, WAITING_STATES, State
from sicargabox_core.tasks.rows import (
    ENDED_BADLY,
    FAILED,
    INTEGER_MAX,
    OPEN,
    STARTED,
    UNCLAIMED_AFTER,
    UNKNOWN_TASK,
    can_be_an_id,
    in_states,
    of_row,
    tasks,
)

PROGRESS = "PROGRESS"
PAGE_MOST = 500
# A filter with more values than this is one look at all of them.
_BRANCHES_MOST = 20
# Beyond so many nobody needs the exact number.
DEAD_LETTERS_COUNTED = 10_000
_PRIVATE = {"payload_hash", "idempotency_key", "traceback"}
HINT = (tasks.c.id, tasks.c.name, tasks.c.queue, tasks.c.published_at, tasks.c.request_id)
PUBLIC = tuple(column for column in tasks.c if column.name not in _PRIVATE)


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as everyone may see it; times are UTC. The traceback is not here: see ``traceback_of``.

    ``shown_state`` is ``state``, or PROGRESS for a STARTED task with progress. A parent's progress is the sum over
    its children. ``no_worker_knows_it``: it was due and offered several times, or a worker put it off, because no
    worker of this release knows its name or version.
    """

    id: str
    name: str
    version: int
    queue: str
    state: State
    shown_state: str
    payload: dict[str, Any]
    initiated_by: str
    request_id: str | None
    exclusive_key: str | None
    data_version: int | None
    waits_for: str | None
    retried_from: str | None
    parent_id: str | None
    children_open: int | None
    children_total: int | None
    children_failed: int | None
    attempt: int
    failures: int
    max_attempts: int
    created_at: datetime
    run_at: datetime
    published_at: datetime | None
    publish_count: int
    started_at: datetime | None
    lease_until: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    worker: str | None
    progress_current: int | None
    progress_total: int | None
    progress_message: str | None
    result: dict[str, Any] | None
    error_code: str | None
    error_message: str | None
    schedule: str | None
    scheduled_for: datetime | None
    no_worker_knows_it: bool

    @property
    def is_final(self) -> bool:
        """Whether it will never change again."""
        return self.state in FINAL_STATES


@dataclass(frozen=True, slots=True)
class Page:
    """Newest tasks first; ``next_cursor`` is the next call's ``before``, None on the last page."""

    items: tuple[TaskView, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Hint:
    """What the message of a waiting task carries."""

    id: str
    name: str
    queue: str
    published_at: datetime
    request_id: str | None


@dataclass(frozen=True, slots=True)
class _ChildrenProgress:
    current: int
    total: int


def get(session: Session, task_id: str) -> TaskView:
    """The task, or ``NotFound``."""
    row = session.execute(select(*PUBLIC).where(tasks.c.id == task_id)).first() if can_be_an_id(task_id) else None
    if row is None:
        raise not_found(task_id)
    return views_of(session, [row])[0]


def not_found(task_id: str) -> NotFound:
    """The error that says so of a task."""
    return NotFound(
        f"there is no task {task_id[:100]}",
        remedy="Look for it in the list of tasks; what has ended is deleted after SICARGABOX_TASK_RETENTION_DAYS.",
    )


def found(session: Session, ids: Sequence[str]) -> tuple[TaskView, ...]:
    """The tasks of ``ids`` that there are; nothing is said of what is not, or is not an id."""
    rows = session.execute(select(*PUBLIC).where(tasks.c.id.in_([one for one in ids if can_be_an_id(one)]))).all()
    return views_of(session, rows)


def traceback_of(session: Session, task_id: str) -> str | None:
    """The traceback of the last error, for the people who run the system."""
    return session.execute(select(tasks.c.traceback).where(tasks.c.id == task_id)).scalar()


def list_tasks(
    session: Session,
    *,
    states: Iterable[str] = (),
    names: Iterable[str] = (),
    queues: Iterable[str] = (),
    initiated_by: str | None = None,
    parent_id: str | None = None,
    error_codes: Iterable[str] = (),
    dead: bool = False,
    since: datetime | None = None,
    until: datetime | None = None,
    id_prefix: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> Page:
    """Tasks that meet every condition given, newest first. ``since`` is inclusive, ``until`` exclusive.

    ``states`` may hold PROGRESS. ``dead``: only dead letters, that is tasks (not parts of one) that ended in FAILURE
    and that nobody repeated. Raises ``InvalidInput`` for an unknown state, a bad ``before``, ``id_prefix`` or
    ``limit``.
    """
    if not 1 <= limit <= PAGE_MOST:
        raise InvalidInput(f"{limit} is out of range", field="limit", remedy=f"Use 1 to {PAGE_MOST}.")
    conditions: list[ColumnElement[bool]] = []
    alternatives: list[ColumnElement[bool]] = []
    if wanted := list(states):
        conditions.append(_in_states(wanted))
    for column, values in (
        (tasks.c.name, list(dict.fromkeys(names))),
        (tasks.c.queue, list(dict.fromkeys(queues))),
        (tasks.c.initiated_by, [] if initiated_by is None else [initiated_by]),
        (tasks.c.parent_id, [] if parent_id is None else [parent_id]),
        (tasks.c.error_code, list(error_codes)),
    ):
        if any("\x00" in value for value in values):
            raise InvalidInput("it holds a NUL character", field=column.name, remedy="Leave it out.")
        if len(values) == 1:
            conditions.append(column == values[0])
        elif values and not alternatives and column.name in ("name", "queue") and len(values) <= _BRANCHES_MOST:
            alternatives = [column == value for value in values]
        elif values:
            conditions.append(column.in_(values))
    if dead:
        conditions.append(dead_letters())
    if since is not None:
        conditions.append(tasks.c.created_at >= since)
    if until is not None:
        conditions.append(tasks.c.created_at < until)
    if id_prefix:
        conditions.append(tasks.c.id.between(*_id_range(id_prefix)))
    if before is not None:
        conditions.append(tuple_(tasks.c.created_at, tasks.c.id) < _read_cursor(before))
    if alternatives:
        rows = _newest_of_each(session, conditions, alternatives, limit + 1)
    else:
        rows = session.execute(_newest(PUBLIC, conditions, limit + 1)).all()
    items = views_of(session, rows[:limit])
    return Page(items=items, next_cursor=_cursor(items[-1]) if len(rows) > limit else None)


def _newest(columns: Sequence[Column[Any]], conditions: Sequence[ColumnElement[bool]], most: int) -> Select[Any]:
    newest_first = (tasks.c.created_at.desc(), tasks.c.id.desc())
    return select(*columns).where(*conditions).order_by(*newest_first).limit(most)


def _newest_of_each(
    session: Session, conditions: Sequence[ColumnElement[bool]], alternatives: Sequence[ColumnElement[bool]], most: int
) -> Sequence[Row[Any]]:
    """Each alternative by itself, since no index has several names in the order of time; then the newest of all."""
    place = [tasks.c.created_at, tasks.c.id]
    each = [select(_newest(place, [*conditions, one], most).subquery()) for one in alternatives]
    newest = sorted((tuple(row) for row in session.execute(union_all(*each))), reverse=True)[:most]
    ids = [task_id for _, task_id in newest]
    rows = {row.id: row for row in session.execute(select(*PUBLIC).where(tasks.c.id.in_(ids)))}
    return [rows[task_id] for task_id in ids if task_id in rows]


def dead_letters() -> ColumnElement[bool]:
    """Tasks that ended in FAILURE and that nobody repeated."""
    again = tasks.alias()
    return and_(FAILED, ~select(again.c.id).where(again.c.retried_from == tasks.c.id).exists())


def dead_letters_by_task(session: Session) -> dict[str, int]:
    """How many dead letters there are, by the task's name; of more than 10,000 the newest 10,000 are counted."""
    newest = (
        select(tasks.c.name)
        .where(dead_letters())
        .order_by(tasks.c.created_at.desc(), tasks.c.id.desc())
        .limit(DEAD_LETTERS_COUNTED)
        .subquery()
    )
    rows = session.execute(select(newest.c.name, func.count().label("dead")).group_by(newest.c.name))
    return {row.name: row.dead for row in rows}


def hints(session: Session, ids: Sequence[str]) -> list[Hint]:
    """What to publish for ``ids``: those still waiting, oldest stamp first; the others need no message any more."""
    if not ids:
        return []
    rows = session.execute(
        select(*HINT)
        .where(tasks.c.id.in_(ids), of_row(*WAITING_STATES), tasks.c.published_at.is_not(None))
        .order_by(tasks.c.published_at, tasks.c.id)
    )
    return [Hint(*row) for row in rows]


def views_of(session: Session, rows: Sequence[Row[Any]]) -> tuple[TaskView, ...]:
    """Views of rows of the ``PUBLIC`` columns; one more statement when parents are among them."""
    parents = [row.id for row in rows if row.children_total is not None]
    sums = _children_progress(session, parents) if parents else {}
    return tuple(_view(row, sums.get(row.id)) for row in rows)


def view_of(row: Row[Any]) -> TaskView:
    """The view of one row of the ``PUBLIC`` columns that is no parent."""
    return _view(row, None)


def _view(row: Row[Any], children: _ChildrenProgress | None) -> TaskView:
    values = dict(row._mapping)
    state = values["state"] = State(values["state"])
    if children is not None:
        values["progress_current"], values["progress_total"] = children.current, children.total
    if state not in FINAL_STATES:
        values["result"] = None  # a waiting parent keeps its own part there
    with_progress = state is State.STARTED and values["progress_current"] is not None
    offered_in_vain = row.publish_count >= UNCLAIMED_AFTER or row.error_code == UNKNOWN_TASK
    return TaskView(
        **values,
        shown_state=PROGRESS if with_progress else state.value,
        no_worker_knows_it=state in WAITING_STATES and offered_in_vain,
    )


def _children_progress(session: Session, parents: Sequence[str]) -> Mapping[str, _ChildrenProgress]:
    child = tasks.alias()
    rows = session.execute(
        select(
            child.c.parent_id,
            func.count().label("children"),
            func.count(child.c.progress_total).label("measured"),
            func.count(child.c.finished_at).label("finished"),
            func.sum(func.coalesce(child.c.progress_current, 0)).label("current"),
            func.sum(child.c.progress_total).label("total"),
        )
        .where(child.c.parent_id.in_(parents))
        .group_by(child.c.parent_id)
    )
    sums = {}
    for row in rows:
        # Only when every child has said how much it has to do is their sum a measure; else the children are counted.
        measured = row.measured == row.children and int(row.total) <= INTEGER_MAX
        sums[row.parent_id] = (
            _ChildrenProgress(int(row.current), int(row.total))
            if measured
            else _ChildrenProgress(row.finished, row.children)
        )
    return sums


def _in_states(wanted: Sequence[str]) -> Any:
    with_progress = and_(STARTED, or_(tasks.c.progress_current.is_not(None), tasks.c.children_open.is_not(None)))
    plain = [state for state in wanted if state != PROGRESS]
    unknown = sorted(set(plain) - set(State))
    if unknown:
        raise InvalidInput(
            f"{unknown[0]!r} is not a state", field="state", remedy=f"Use {', '.join([*State, PROGRESS])}."
        )
    exactly = [_in(plain)] if plain else []
    condition = or_(*exactly, with_progress) if PROGRESS in wanted else exactly[0]
    # Said once more, word for word as a partial index has it, so that the few are found without reading the history.
    if not FINAL_STATES.intersection(plain):
        return and_(OPEN, condition)
    return and_(ENDED_BADLY, condition) if {State.FAILURE, State.REVOKED}.issuperset(wanted) else condition


def _in(states: Sequence[str]) -> ColumnElement[bool]:
    if len(states) == 1:
        return tasks.c.state == literal_column(f"'{State(states[0])}'")
    return in_states(*map(State, states))


def _id_range(prefix: str) -> tuple[str, str]:
    # Whole ids on both sides: texts of one shape compare alike under every collation, and the primary key serves.
    shape = "________-____-____-____-____________"
    prefix = prefix.lower()
    pattern = "".join("-" if place == "-" else "[0-9a-f]" for place in shape[: len(prefix)])
    if len(prefix) > len(shape) or not re.fullmatch(pattern, prefix):
        raise InvalidInput(
            "not the beginning of a task's id", field="id_prefix", remedy="Copy it from the id, with its dashes."
        )
    rest = shape[len(prefix) :]
    return prefix + rest.replace("_", "0"), prefix + rest.replace("_", "f")


def _cursor(task: TaskView) -> str:
    return base64.urlsafe_b64encode(f"{task.created_at.isoformat()} {task.id}".encode()).decode()


def _read_cursor(text: str) -> ColumnElement[Any]:
    try:
        moment, _, task_id = base64.urlsafe_b64decode(text.encode()).decode().rpartition(" ")
        created_at = datetime.fromisoformat(moment)
        if created_at.tzinfo is None or len(task_id) != 36:
            raise ValueError("not one of our cursors")
        created_at = created_at.astimezone(UTC)
    except (ValueError, OverflowError, binascii.Error) as error:
        raise InvalidInput(
            "not a cursor", field="before", remedy="Pass next_cursor of the page before, unchanged."
        ) from error
    return tuple_(literal(created_at, tasks.c.created_at.type), literal(task_id))
