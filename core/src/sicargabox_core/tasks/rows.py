"""Words in which every statement on ``tasks`` is written: the table, the states' conditions, what may be stored.

No statement is executed here.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

from sqlalchemy import BindParameter, ColumnElement, ScalarSelect, Table, and_, case, func, literal_column, select

from sicargabox_core.db import db_now
from sicargabox_core.errors import InvalidResult, ResultTooLarge
from sicargabox_core.tasks.contracts import State
from sicargabox_core.tasks.models import CounterRow, TaskRow

tasks = cast(Table, TaskRow.__table__)
counters = cast(Table, CounterRow.__table__)

# The counter of changed data; a task with `follow_up` compares it with the value at its claim.
DATA_COUNTER = "catalogue"

RESULT_BYTES = 64 * 1024
ERROR_CHARACTERS = 2000
TRACEBACK_BYTES = 20 * 1024
INTEGER_MAX = 2**31 - 1

RESEND_FIRST_SECONDS = 5
RESEND_MOST_SECONDS = 300
# Published so often without a claim (5 + 10 + 20 + 40 s), a row is shown as one that no worker knows.
UNCLAIMED_AFTER = 5

CANCELLED = "cancelled"
CHILDREN_FAILED = "children_failed"
INVALID_PAYLOAD = "invalid_payload"
LEASE_EXPIRED = "lease_expired"
UNKNOWN_TASK = "unknown_task"

_TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# An escaped NUL, but not an escaped backslash before the letters u0000.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def in_states(*states: State) -> ColumnElement[bool]:
    """One of ``states``, as literals and word for word as in the partial indexes.

    SQLite plans before it knows what is bound, and would read the whole table.
    """
    return tasks.c.state.in_([literal_column(f"'{state}'") for state in states])


WAITING = in_states(State.PENDING, State.RETRY)
UNFINISHED = in_states(State.PENDING, State.RETRY, State.STARTED)
ENDED_BADLY = in_states(State.FAILURE, State.REVOKED)
# UNFINISHED by other words, those of the index for lists. It shall not be able to answer what asks for states.
OPEN = tasks.c.finished_at.is_(None)
STARTED = tasks.c.state == literal_column(f"'{State.STARTED}'")


# Word for word as in the partial index; a failed part is its parent's matter.
FAILED = and_(tasks.c.state == literal_column(f"'{State.FAILURE}'"), tasks.c.parent_id.is_(None))


def of_row(*states: State) -> ColumnElement[bool]:
    """One of ``states``, of a row that is named by its id or its parent: in a form that no partial index answers.

    A planner takes an index of nothing but dead entries for empty and likes it better than the primary key: while a
    snapshot was held for 90 s, the end of each task read 1,400 pages of ix_tasks_lease, and more with every second.
    """
    return func.coalesce(tasks.c.state, "").in_([literal_column(f"'{state}'") for state in sorted(states)])


def now() -> ScalarSelect[Any]:
    """The database's clock for comparisons: read once per statement, so that an index on the time can be used.

    PostgreSQL's ``clock_timestamp()`` is volatile and would be called, and the index passed by, for every row.
    """
    return select(db_now()).scalar_subquery()


def at(offset_seconds: float) -> ScalarSelect[Any]:
    """The same, ``offset_seconds`` away."""
    return select(db_now(offset_seconds)).scalar_subquery()


def can_be_an_id(task_id: str) -> bool:
    """Whether ``task_id`` can be one: anything else is simply not found (PostgreSQL even refuses to look for a NUL)."""
    return _TASK_ID.fullmatch(task_id) is not None


def running(task_id: str | BindParameter[str], attempt: int | BindParameter[int]) -> ColumnElement[bool]:
    """The fence of every write by a worker: this attempt still holds the row.

    A parent that waits for its children is STARTED too, but no attempt holds it any more.
    """
    held = of_row(State.STARTED)
    return and_(tasks.c.id == task_id, tasks.c.attempt == attempt, held, tasks.c.children_open.is_(None))


def resend_delay(count: ColumnElement[int]) -> ColumnElement[int]:
    """Seconds a row waits after its ``count``-th publication: 5, 10, 20 … 300."""
    steps = []
    seconds, published = RESEND_FIRST_SECONDS, 1
    while seconds < RESEND_MOST_SECONDS:
        steps.append((count <= published, seconds))
        seconds, published = seconds * 2, published + 1
    return case(*steps, else_=RESEND_MOST_SECONDS)


def data_version() -> ColumnElement[int]:
    """The counter of changed data, as SQL."""
    value = select(counters.c.value).where(counters.c.name == DATA_COUNTER).scalar_subquery()
    return func.coalesce(value, 0)


def storable(text: str, characters: int) -> str:
    """``text`` as both databases take it, cut to ``characters``: no NUL (PostgreSQL refuses it), no half surrogate."""
    clean = text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= characters else clean[: characters - 1] + "…"


def storable_traceback(text: str) -> str:
    """``text`` cut to 20 kB; its end is kept, since the error itself stands there."""
    clean = storable(text, len(text) + 1)
    encoded = clean.encode("utf-8")
    return clean if len(encoded) <= TRACEBACK_BYTES else encoded[-TRACEBACK_BYTES:].decode("utf-8", "ignore")


def storable_count(value: int | None) -> int | None:
    """``value`` within what an integer column holds on both databases."""
    return None if value is None else max(0, min(int(value), INTEGER_MAX))


def has_nul(encoded: bytes) -> bool:
    """Whether JSON holds a NUL character, which PostgreSQL's JSONB refuses."""
    return _NUL.search(encoded) is not None


def storable_result(result: dict[str, Any]) -> dict[str, Any]:
    """``result`` unchanged, if both databases can keep it.

    Raises ``ResultTooLarge`` above 64 kB of JSON, ``InvalidResult`` for what is not JSON (also NaN and NUL).
    """
    try:
        encoded = json.dumps(result, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise InvalidResult(f"the result is not JSON: {error}") from error
    if has_nul(encoded):
        raise InvalidResult("the result holds a NUL character")
    if len(encoded) > RESULT_BYTES:
        raise ResultTooLarge(f"the result has {len(encoded)} bytes of JSON, more than {RESULT_BYTES}")
    return result


def published_now() -> dict[str, Any]:
    """The stamp of a row whose message is sent right after the commit."""
    return {"published_at": db_now(), "publish_count": 1}


def first_request() -> ColumnElement[Any]:
    """When a cancel was first asked for: now, unless it was before."""
    return func.coalesce(tasks.c.cancel_requested_at, db_now())
