"""Deleting tasks that ended long ago. An unfinished task is never deleted, a child only together with its parent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, select
from sqlalchemy.orm import Session

from sicargabox_core.db import Database
from sicargabox_core.tasks.rows import UNFINISHED, at, tasks

_DAY_SECONDS = 24 * 3600
# Others work as long as a batch took before the next begins, but deleting a million rows must not take days.
_PAUSE_MOST_SECONDS = 0.5


def delete_finished(
    database: Database, *, older_than_days: float, batch: int = 500, between: Callable[[], None] = lambda: None
) -> int:
    """Deletes tasks that ended more than ``older_than_days`` ago, with their children, and returns how many.

    One short transaction for each ``batch`` of rows (or one task with all its children), and a pause as long as it
    took, in which others work; ``between`` is called there and may raise to stop. Several may run at once: each skips
    what another has in hand.
    """
    deleted = 0
    since: datetime | None = None
    while True:
        began = time.monotonic()
        with database.write() as session:
            found = session.execute(_roots(older_than_days, since, batch)).all()
            roots = _as_many(found, batch)
            deleted += _delete_with_children(session, [row.id for row in roots])
        if not found or (len(found) < batch and len(roots) == len(found)):
            return deleted
        # Not from the beginning each time: what was deleted stays in the index until somebody's old snapshot ends.
        since = roots[-1].finished_at
        between()
        time.sleep(min(_PAUSE_MOST_SECONDS, time.monotonic() - began))


def _roots(older_than_days: float, since: datetime | None, most: int) -> Select[Any]:
    statement = (
        select(tasks.c.id, tasks.c.finished_at, tasks.c.children_total)
        .where(tasks.c.finished_at < at(-older_than_days * _DAY_SECONDS), tasks.c.parent_id.is_(None))
        .order_by(tasks.c.finished_at)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    return statement if since is None else statement.where(tasks.c.finished_at >= since)


def _as_many(found: Sequence[Row[Any]], most: int) -> Sequence[Row[Any]]:
    """The first of ``found`` that make ``most`` rows with their children, at least one."""
    rows = 0
    for place, root in enumerate(found):
        rows += 1 + (root.children_total or 0)
        if rows > most and place:
            return found[:place]
    return found


def _delete_with_children(session: Session, ids: list[str]) -> int:
    if not ids:
        return 0
    children = session.scalars(select(tasks.c.id).where(tasks.c.parent_id.in_(ids))).all()
    below = _delete_with_children(session, list(children))
    gone = session.execute(delete(tasks).where(tasks.c.id.in_(ids), ~UNFINISHED).returning(tasks.c.id))
    return below + len(gone.all())
