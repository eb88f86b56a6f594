"""What an empty data folder needs before it is useful: tables, the starter catalogue, an administrator, an index.

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
from sicargabox_core.db import Database, migrate
from sicargabox_core.search.service import make_engine
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.contracts import REBUILD_INDEX, RebuildIndex
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.service import TaskService

ADMINISTRATOR = "admin"
_ACTOR = "system:first-start"


@dataclass(frozen=True)
class Prepared:
    """What was made just now: the schema's version, starter lines loaded, the administrator's password if new."""

    schema: int
    lines: int
    password: str | None


def prepare(database: Database) -> Prepared:
    """Migrates, loads the starter catalogue into an empty table and makes the first administrator."""
    schema, lines = migrate(database), load_starter(database)
    apply_rules(database)
    return Prepared(schema, lines, _first_administrator(database))


def _first_administrator(database: Database) -> str | None:
    with database.write() as session:
        if session.scalar(select(func.count()).select_from(User)):
            return None
        password = secrets.token_urlsafe(12)
        create_user(session, ADMINISTRATOR, password, Role.ADMIN, by=_ACTOR)
        return password


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
