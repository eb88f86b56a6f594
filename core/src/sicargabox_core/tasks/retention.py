"""Deleting tasks that ended long ago. An unfinished task is never deleted, a child only together with its parent."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from sicargabox_core.db import Database
from sicargabox_core.tasks.rows import UNFINISHED, at, tasks

_DAY_SECONDS = 24 * 3600


def delete_finished(database: Database, *, older_than_days: int, batch: int = 100) -> int:
    """Deletes tasks that ended more than ``older_than_days`` ago, with their children, and returns how many.

    One short transaction for each ``batch`` of tasks without a parent, so that no accept waits long behind it.
    """
    deleted = 0
    while True:
        with database.write() as session:
            roots = session.scalars(
                select(tasks.c.id)
                .where(tasks.c.finished_at < at(-older_than_days * _DAY_SECONDS), tasks.c.parent_id.is_(None))
                .order_by(tasks.c.finished_at)
                .limit(batch)
                .with_for_update(skip_locked=True)
            ).all()
            deleted += _delete_with_children(session, list(roots))
        if len(roots) < batch:
            return deleted


def _delete_with_children(session: Session, ids: list[str]) -> int:
    if not ids:
        return 0
    children = session.scalars(select(tasks.c.id).where(tasks.c.parent_id.in_(ids))).all()
    below = _delete_with_children(session, list(children))
    gone = session.execute(delete(tasks).where(tasks.c.id.in_(ids), ~UNFINISHED).returning(tasks.c.id))
    return below + len(gone.all())
