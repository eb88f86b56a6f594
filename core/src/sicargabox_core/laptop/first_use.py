"""What an empty database needs before it is useful: tables, the starter catalogue, an administrator, an index.

Each step does nothing when it was done before, so a start that was interrupted is finished by the next one.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import func, select

from sicargabox_core.accounts.models import Role, User
from sicargabox_core.accounts.users import create_user
from sicargabox_core.catalogue.courier import apply_rules
from sicargabox_core.catalogue.starter_catalogue import load_starter
from sicargabox_core.db import Database, expected_schema_version, migrate
from sicargabox_core.search.service import make_engine
from sicargabox_core.settings import Settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.contracts import REBUILD_INDEX, RebuildIndex
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.models import TaskRow
from sicargabox_core.tasks.service import TaskService

ADMINISTRATOR = "admin"
_ACTOR = "system:first-start"


@dataclass(frozen=True)
class Prepared:
    """What was made just now: the schema's version, starter lines loaded, the administrator's password if new."""

    schema: int
    lines: int
    password: str | None


def prepare(database: Database, administrator: str = ADMINISTRATOR, password: str | None = None) -> Prepared:
    """Migrates, loads the starter catalogue into an empty table and makes the first administrator.

    ``password``: the administrator's; without it one is generated. A database that a newer release has migrated is left
    alone. Raises ``InvalidInput`` for a name or password that cannot be.
    """
    schema = migrate(database)
    if schema > expected_schema_version():
        return Prepared(schema, 0, None)
    lines = load_starter(database)
    apply_rules(database)
    return Prepared(schema, lines, _first_administrator(database, administrator, password))


def _first_administrator(database: Database, name: str, password: str | None) -> str | None:
    with database.write() as session:
        if session.scalar(select(func.count()).select_from(User)):
            return None
        password = password or secrets.token_urlsafe(12)
        create_user(session, name, password, Role.ADMIN, by=_ACTOR)
        return password


def rebuild_if_never_asked(database: Database) -> str | None:
    """Asks for the first rebuild without asking Redis or the engine, which may start later; returns the task's id.

    Not stamped as published: the scheduler sends it.
    """
    with database.write() as session:
        if session.scalar(select(TaskRow.id).where(TaskRow.name == REBUILD_INDEX.name).limit(1)) is not None:
            return None
        return store.submit(session, REBUILD_INDEX, RebuildIndex(), initiated_by=_ACTOR, run_at=database.now()).task.id


def rebuild_if_no_index(database: Database, settings: Settings) -> str | None:
    """Asks for a rebuild when nothing can be searched yet; returns the task's id."""
    if make_engine(settings).status().ready:
        return None
    publisher = Publisher(settings, make_celery(settings, "run"))
    try:
        tasks = TaskService(database, publisher)
        return tasks.submit(REBUILD_INDEX, RebuildIndex(), initiated_by=_ACTOR).task.id
    finally:
        publisher.stop()
