"""Accepting tasks: one committed INSERT is the whole of it.

Holds the three rules of what a second request means: the same Idempotency-Key, the same exclusive key, the same due
instant of a schedule. The unique indexes decide, so two requests at the same moment get the same answer as two in turn.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import uuid_utils
from sqlalchemy import ColumnElement, Executable, null, select, update
from sqlalchemy.orm import Session

from sicargabox_core.db import Database, db_now, engine_of, insert_if_new
from sicargabox_core.errors import AlreadyRunning, Conflict, IdempotencyMismatch, InvalidInput
from sicargabox_core.tasks.contracts import Payload, State, TaskSpec
from sicargabox_core.tasks.rows import DATA_COUNTER, UNFINISHED, WAITING, counters, has_nul, tasks
from sicargabox_core.tasks.views import PUBLIC, TaskView, view_of, views_of

PAYLOAD_BYTES = 512 * 1024
# A waiting follow-up keeps its place in the unique index under this name until it takes over its predecessor's key.
FOLLOW_UP_SUFFIX = "#next"
# Each round means that the task in our way ended between our INSERT and our SELECT.
_ROUNDS = 20
_NOW = db_now()
_OFFERED_NOW: dict[str, Any] = {"published_at": _NOW, "publish_count": 1}
_OFFERINGS: dict[str, Executable] = {}


@dataclass(frozen=True, slots=True)
class Submission:
    """The task that answers a request.

    ``created``: this request made it. ``already_running``: an unfinished one of the same exclusive key answers.
    ``follow_up``: it begins when the one of the same exclusive key ends, because data changed since that one began or
    because that is another kind of task. ``due``: ids to publish after the commit.
    """

    task: TaskView
    created: bool
    already_running: bool = False
    follow_up: bool = False
    due: tuple[str, ...] = ()


def submit(
    session: Session,
    spec: TaskSpec[Any, Any],
    payload: Payload,
    *,
    initiated_by: str,
    request_id: str | None = None,
    idempotency_key: str | None = None,
    run_at: datetime | None = None,
    schedule: str | None = None,
    scheduled_for: datetime | None = None,
    data_version: int | None = None,
    retried_from: str | None = None,
) -> Submission:
    """Accepts a task inside the caller's ``Database.write()``; it is accepted when that commits. Publish after it.

    ``data_version``: the counter of changed data; read here when not given. A row without ``run_at`` is stamped as
    published and is in ``due``.

    Raises ``InvalidInput`` (a name or key too long, a payload too large or with NUL), ``IdempotencyMismatch`` (the
    key was used with another payload), ``AlreadyRunning`` (an exclusive task with another payload is unfinished).
    """
    values = columns(spec, payload, initiated_by=initiated_by, request_id=request_id)
    values |= {"schedule": schedule, "scheduled_for": scheduled_for, "retried_from": retried_from}
    values |= _idempotency(idempotency_key)
    values |= _OFFERED_NOW if run_at is None else {"run_at": run_at}
    return accept(session, spec, values, data_version=data_version)


def submit_alone(
    database: Database,
    spec: TaskSpec[Any, Any],
    payload: Payload,
    *,
    initiated_by: str,
    request_id: str | None = None,
    idempotency_key: str | None = None,
) -> Submission:
    """``submit`` in a transaction of its own, which one INSERT is unless another row stands in its way.

    It is accepted when this returns. Raises as ``submit`` does.
    """
    values = columns(spec, payload, initiated_by=initiated_by, request_id=request_id)
    values |= _idempotency(idempotency_key) | _OFFERED_NOW
    row = database.at_once(_offering(database), _without_stamp(values))
    if row is None:
        with database.write() as session:
            return accept(session, spec, values)
    created = view_of(row)
    return Submission(created, created=True, due=(created.id,))


def accept(
    session: Session, spec: TaskSpec[Any, Any], values: dict[str, Any], *, data_version: int | None = None
) -> Submission:
    """Inserts ``values``, or finds the row that stands for them by one of the three rules."""
    for _ in range(_ROUNDS):
        created = insert(session, values)
        if created is not None:
            due = (created.id,) if created.state is State.PENDING and created.published_at is not None else ()
            return Submission(created, created=True, due=due)
        answer = _answer(session, spec, values, data_version)
        if answer is not None:
            return answer
    raise Conflict(f"{spec.name} is started and ended by others faster than this request", remedy="Try again.")


def insert(session: Session, values: dict[str, Any]) -> TaskView | None:
    """The new row, or None when a unique index holds such a row already."""
    if values.get("published_at") is _NOW:
        row = session.execute(_offering(session), _without_stamp(values)).first()
    else:
        row = session.execute(insert_if_new(session, tasks).values(**values).returning(*PUBLIC)).first()
    return None if row is None else views_of(session, [row])[0]


def _offering(target: Session | Database) -> Executable:
    # What every request inserts is built once: putting forty columns together anew costs 0.5 ms of each.
    kind = (target.engine if isinstance(target, Database) else engine_of(target)).dialect.name
    if kind not in _OFFERINGS:
        _OFFERINGS[kind] = insert_if_new(target, tasks).values(published_at=_NOW).returning(*PUBLIC)
    return _OFFERINGS[kind]


def key_is_known(session: Session, spec: TaskSpec[Any, Any], initiated_by: str, key: str) -> bool:
    """Whether a task was made with this Idempotency-Key."""
    return session.execute(select(tasks.c.id).where(*_same_key(spec, initiated_by, key))).first() is not None


def _same_key(spec: TaskSpec[Any, Any], initiated_by: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return tasks.c.initiated_by == initiated_by, tasks.c.name == spec.name, tasks.c.idempotency_key == key


def _without_stamp(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "published_at"}


def _idempotency(key: str | None) -> dict[str, str]:
    return {} if key is None else {"idempotency_key": _short(key, "Idempotency-Key", 200)}


def columns(spec: TaskSpec[Any, Any], payload: Payload, *, initiated_by: str, request_id: str | None) -> dict[str, Any]:
    """The columns of a new PENDING row."""
    return {
        "id": str(uuid_utils.uuid7()),
        "name": spec.name,
        "version": spec.version,
        "queue": spec.queue.value,
        "state": State.PENDING,
        "payload": storable_payload(payload),
        "payload_hash": payload_hash(payload),
        "exclusive_key": exclusive_key(spec, payload),
        "max_attempts": spec.max_attempts,
        "initiated_by": _short(initiated_by, "initiated_by", 100),
        "request_id": None if request_id is None else _short(request_id, "X-Request-ID", 64),
    }


def exclusive_key(spec: TaskSpec[Any, Any], payload: Payload) -> str | None:
    """The key under which only one unfinished task may exist."""
    if spec.exclusive is None:
        return None
    return _short(spec.exclusive(payload), "exclusive", 200 - len(FOLLOW_UP_SUFFIX))


def payload_hash(payload: Payload) -> str:
    """SHA-256 of what the caller meant: fields left at their default do not count, so a new field changes no hash."""
    meant = payload.model_dump(mode="json", exclude_defaults=True)
    text = json.dumps(meant, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def storable_payload(payload: Payload) -> dict[str, Any]:
    """The payload as JSON; raises ``InvalidInput`` for what a database cannot keep."""
    data = payload.model_dump(mode="json")
    encoded = json.dumps(data, ensure_ascii=False).encode()
    if len(encoded) > PAYLOAD_BYTES:
        raise InvalidInput(
            f"{len(encoded)} bytes are too many", field="payload", remedy=f"Send at most {PAYLOAD_BYTES} bytes."
        )
    if has_nul(encoded):
        raise InvalidInput("it holds a NUL character", field="payload", remedy="Leave it out.")
    return data


def _short(text: str, field: str, characters: int) -> str:
    if not text or len(text) > characters or "\x00" in text:
        raise InvalidInput("empty, too long or with a NUL character", field=field, remedy=f"Use 1 to {characters}.")
    return text


# --- what a second request means -------------------------------------------------------------------------------------
def _answer(
    session: Session, spec: TaskSpec[Any, Any], values: dict[str, Any], data_version: int | None
) -> Submission | None:
    """The answer of the row in the way; None when it is gone by now."""
    if (key := values.get("idempotency_key")) is not None:
        same_key = _same_key(spec, values["initiated_by"], key)
        row = session.execute(select(*PUBLIC, tasks.c.payload_hash).where(*same_key)).first()
        if row is not None:
            if row.payload_hash != values["payload_hash"]:
                raise IdempotencyMismatch(
                    f"this Idempotency-Key belongs to task {row.id}, which has another payload",
                    field="Idempotency-Key",
                    remedy="Use a new key for a new request.",
                )
            return Submission(_existing(session, row.id), created=False)
    if values.get("schedule") is not None:
        same_instant = (tasks.c.schedule == values["schedule"], tasks.c.scheduled_for == values["scheduled_for"])
        found = session.execute(select(tasks.c.id).where(*same_instant)).scalar()
        if found is not None:
            return Submission(_existing(session, found), created=False)
    if values.get("exclusive_key") is not None:
        return _exclusive_answer(session, spec, values, data_version)
    return None


def _exclusive_answer(
    session: Session, spec: TaskSpec[Any, Any], values: dict[str, Any], data_version: int | None
) -> Submission | None:
    # The lock holds the running one's end back until our follow-up is there to be released by it.
    row = session.execute(
        select(tasks.c.id, tasks.c.name, tasks.c.state, tasks.c.payload_hash, tasks.c.data_version)
        .where(tasks.c.exclusive_key == values["exclusive_key"], UNFINISHED)
        .with_for_update()
    ).first()
    if row is None:
        return None
    # A repeated parent begins with its children at once, so it cannot stand behind the running one.
    may_follow = spec.follow_up and values["state"] == State.PENDING
    if row.name != spec.name:
        # Whoever changed data and asks for a rebuild must not fail because an index is being deleted.
        if may_follow:
            return _follow_up(session, row.id, values)
        raise AlreadyRunning(f"{row.name} is {row.state}, and {spec.name} cannot run beside it", task_id=row.id)
    if row.payload_hash != values["payload_hash"]:
        raise AlreadyRunning(f"{spec.name} is already {row.state} with another payload", task_id=row.id)
    if may_follow and row.state == State.STARTED:
        current = counter(session) if data_version is None else data_version
        if current > (row.data_version or 0):
            return _follow_up(session, row.id, values)
    return Submission(_existing(session, row.id), created=False, already_running=True)


def _follow_up(session: Session, predecessor: str, values: dict[str, Any]) -> Submission | None:
    waiting = values | {
        "exclusive_key": values["exclusive_key"] + FOLLOW_UP_SUFFIX,
        "waits_for": predecessor,
        "published_at": null(),
        "publish_count": 0,
    }
    created = insert(session, waiting)
    if created is not None:
        return Submission(created, created=True, follow_up=True)
    found = session.execute(
        select(tasks.c.id).where(tasks.c.exclusive_key == waiting["exclusive_key"], WAITING)
    ).scalar()
    if found is None:
        return None
    return Submission(_existing(session, found), created=False, already_running=True, follow_up=True)


def _existing(session: Session, task_id: str) -> TaskView:
    row = session.execute(select(*PUBLIC).where(tasks.c.id == task_id)).one()
    return views_of(session, [row])[0]


# --- the counter of changed data -------------------------------------------------------------------------------------
def counter(session: Session, name: str = DATA_COUNTER) -> int:
    """The counter's value; 0 when it was never raised."""
    return session.execute(select(counters.c.value).where(counters.c.name == name)).scalar() or 0


def bump_counter(session: Session, name: str = DATA_COUNTER) -> int:
    """Raises the counter in the transaction of the change it counts, and returns it.

    PostgreSQL holds the counter's row until the commit: call it last in a long transaction.
    """
    raised = update(counters).where(counters.c.name == name).values(value=counters.c.value + 1)
    value = session.execute(raised.returning(counters.c.value)).scalar()
    if value is None:
        session.execute(insert_if_new(session, counters).values(name=name, value=0))
        value = session.execute(raised.returning(counters.c.value)).scalar_one()
    return int(value)
