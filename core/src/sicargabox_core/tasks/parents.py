"""Handing out children: rows inserted in the transaction in which their parent finishes its own part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import case, insert, null, update
from sqlalchemy.orm import Session

from sicargabox_core.tasks.contracts import Payload, State, TaskSpec
from sicargabox_core.tasks.endings import REFUSED, Transition
from sicargabox_core.tasks.rows import published_now, running, storable_count, tasks
from sicargabox_core.tasks.submission import payload_hash, storable_payload

# More children than a publisher takes at once are left to the reconciler, 500 a pass.
PUBLISHED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Child:
    """A task that a parent hands out when it finishes. ``size`` is what its progress will count up to, if known."""

    spec: TaskSpec[Any, Any]
    payload: Payload
    size: int | None = None

    def __post_init__(self) -> None:
        if self.spec.exclusive is not None:
            raise ValueError(f"{self.spec.name} is exclusive, so it cannot be a child")


def hand_out(
    session: Session, task_id: str, attempt: int, result: dict[str, Any], children: Sequence[Child]
) -> Transition:
    """Inserts the children and leaves the parent STARTED without a lease, until the last of them has ended."""
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
            **_columns(task_id, number, child),
            "initiated_by": parent.initiated_by,
            "request_id": parent.request_id,
        }
        for number, child in enumerate(children)
    ]
    # Children of a cancelled parent are never offered: the reconciler revokes them in its next pass.
    return Transition(True, State.STARTED, due=insert_children(session, rows, offer=parent.cancel_requested_at is None))


def insert_children(session: Session, rows: Sequence[dict[str, Any]], *, offer: bool) -> tuple[str, ...]:
    """Inserts children; returns the ids that are stamped and to be published after the commit."""
    offered = list(rows[:PUBLISHED_AT_ONCE]) if offer else []
    left = rows[len(offered) :]
    if offered:
        session.execute(insert(tasks).values(state=State.PENDING, **published_now()), offered)
    if left:
        session.execute(insert(tasks).values(state=State.PENDING), list(left))
    return tuple(row["id"] for row in offered)


def child_id(parent_id: str, number: int) -> str:
    """The id of a parent's ``number``-th child follows from both, so it can be inserted only once."""
    return str(uuid5(UUID(parent_id), str(number)))


def _columns(parent_id: str, number: int, child: Child) -> dict[str, Any]:
    return {
        "id": child_id(parent_id, number),
        "name": child.spec.name,
        "version": child.spec.version,
        "queue": child.spec.queue.value,
        "payload": storable_payload(child.payload),
        "payload_hash": payload_hash(child.payload),
        "max_attempts": child.spec.max_attempts,
        "parent_id": parent_id,
        "progress_total": storable_count(child.size),
    }
