"""The tasks of the default queue, which this worker serves too: they belong to no worker type."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import InstrumentedAttribute

from sicargabox_core.accounts.models import UserSession
from sicargabox_core.catalogue.models import SearchLog
from sicargabox_core.db import db_now
from sicargabox_core.tasks import store
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import DELETE_EXPIRED, NO_OP, DeleteExpiredResult, Nothing
from sicargabox_core.tasks.trial import no_op
from sicargabox_core.tasks.worker import handles
from sicargabox_indexer.app import app

DAY_SECONDS = 24 * 3600
BATCH = 1000


handles(app, NO_OP)(no_op)


@handles(app, DELETE_EXPIRED)
def delete_expired(_payload: Nothing, ctx: TaskContext) -> DeleteExpiredResult:
    """Deletes what the settings say is old enough, in short transactions; run again, it finds nothing more."""
    settings = ctx.settings
    searches = _delete_old(ctx, SearchLog.id, SearchLog.created_at < _days_ago(settings.search_log_retention_days))
    sessions = _delete_old(ctx, UserSession.token_hash, UserSession.expires_at < db_now())
    tasks = store.delete_finished(
        ctx.database, older_than_days=settings.task_retention_days, between=ctx.check_cancelled
    )
    return DeleteExpiredResult(tasks=tasks, searches=searches, sessions=sessions)


def _days_ago(days: int) -> ColumnElement[Any]:
    # In a sub-query: the clock is else asked for every row, and no index on the time is used.
    return select(db_now(-float(days * DAY_SECONDS))).scalar_subquery()


def _delete_old(ctx: TaskContext, key: InstrumentedAttribute[Any], old: ColumnElement[bool]) -> int:
    """A thousand rows a transaction: a customer's search is logged by the same table and must not wait."""
    deleted = 0
    while True:
        ctx.check_cancelled()
        with ctx.database.write() as session:
            keys = session.scalars(select(key).where(old).limit(BATCH)).all()
            if keys:
                session.execute(delete(key.class_).where(key.in_(keys)))
        deleted += len(keys)
        if len(keys) < BATCH:
            return deleted
