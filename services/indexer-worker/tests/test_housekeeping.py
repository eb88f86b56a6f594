"""Retention: what is old enough goes, nothing else does."""

from __future__ import annotations

from sqlalchemy import func, insert, select, text

from sicargabox_core.accounts.models import User, UserSession
from sicargabox_core.catalogue.models import SearchLog
from sicargabox_core.db import Database, db_now
from sicargabox_core.settings import load_settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import NO_OP, NoOp, Nothing
from sicargabox_indexer.housekeeping import DAY_SECONDS, delete_expired

SEARCH = {"query": "q", "normalized": "q", "total": 0, "took_ms": 1, "engine": "embedded", "degraded": False}


def test_only_what_is_old_enough_is_deleted(database: Database) -> None:
    settings = load_settings(task_retention_days=10, search_log_retention_days=20)
    with database.write() as session:
        for days, number in ((21, 2500), (19, 3)):
            old = session.scalar(select(db_now(-days * float(DAY_SECONDS))))
            session.execute(insert(SearchLog), [SEARCH | {"created_at": old} for _ in range(number)])
        user = User(username="ana", password_hash="x", role="viewer")
        session.add(user)
        session.flush()
        for token, seconds in (("expired", -1.0), ("valid", 60.0)):
            session.execute(insert(UserSession).values(token_hash=token, user_id=user.id, expires_at=db_now(seconds)))
        ended = [store.submit(session, NO_OP, NoOp(), initiated_by="user:test").task.id for _ in range(2)]
        waiting = store.submit(session, NO_OP, NoOp(), initiated_by="user:test").task.id
    for task_id in ended:
        store.request_cancel(database, task_id, by="user:test")
    with database.write() as session:
        old = session.scalar(select(db_now(-11.0 * DAY_SECONDS)))
        session.execute(
            text("UPDATE tasks SET finished_at = :old WHERE id = :id").bindparams(id=ended[0]),
            {"old": old if not database.is_sqlite else f"{old:%Y-%m-%d %H:%M:%S}.000"},
        )
    context = TaskContext(settings=settings, database=database, task_id="t", name="n", attempt=1, request_id=None)
    result = delete_expired(Nothing(), context)
    assert (result.tasks, result.searches, result.sessions) == (1, 2500, 1)
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(SearchLog)) == 3
        assert session.scalars(select(UserSession.token_hash)).all() == ["valid"]
        assert {task.id for task in store.list_tasks(session).items} == {ended[1], waiting}
    again = delete_expired(Nothing(), context)
    assert (again.tasks, again.searches, again.sessions) == (0, 0, 0)
