"""The database: reachable, its schema, whether a commit is durable, its clock, and what must be in it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from sicargabox_core.accounts.models import Role, User
from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.db import Database, connections, durability, expected_schema_version, schema_version
from sicargabox_core.doctor.findings import Finding, fault, ok, warning
from sicargabox_core.errors import Unavailable
from sicargabox_core.settings import ENV_PREFIX, Settings

# What each opens at most at once: a task's effects, its heartbeat, what is told to Redis from its row.
CHILD_CONNECTIONS = 3
SCHEDULER_CONNECTIONS = 3
WORKER_TYPES = 3
_CONNECTIONS_HIGH = 0.8
# Rows carry the database's time and log lines the machine's: apart by more, they cannot be read together.
_CLOCKS_APART_SECONDS = 2.0


def reachable(settings: Settings, database: Database) -> Generator[Finding, None, bool]:
    """Whether the database answers and has this release's tables; returns whether it can be used."""
    where = make_url(settings.effective_database_url).render_as_string(hide_password=True)
    if database.is_sqlite and not _file_exists(database):
        yield fault("database", f"{where} does not exist yet", "Run `sicargabox migrate` (or `sicargabox run`).")
        return False
    try:
        database.ping()
        found = schema_version(database)
    except (Unavailable, SQLAlchemyError) as error:
        refused = error.__cause__ or error
        cause = str(getattr(refused, "orig", refused)).strip().splitlines()[0]
        yield fault("database", f"{where}: {cause}", f"Start it, or correct {ENV_PREFIX}DATABASE_URL.")
        return False
    yield ok("database", f"{where} answers")
    expected = expected_schema_version()
    if found < expected:
        yield fault("schema", f"version {found}, this release needs {expected}", "Run `sicargabox migrate`.")
        return False
    if found > expected:
        yield warning(
            "schema", f"version {found} is newer than this release's {expected}", "Use the release that made it."
        )
    else:
        yield ok("schema", f"version {found}")
    return True


def capacity(settings: Settings, database: Database) -> Iterator[Finding]:
    """Whether PostgreSQL has room for the connections of one process of each kind, the smallest installation."""
    found = connections(database)
    if found is None:
        return
    web = 2 * settings.database_pool_size
    needed = web + SCHEDULER_CONNECTIONS + WORKER_TYPES * CHILD_CONNECTIONS
    detail = (
        f"{found.open} of {found.most} are open; API and staff may open {web} (2 x {settings.database_pool_size}),"
        f" a scheduler {SCHEDULER_CONNECTIONS}, each child of a worker {CHILD_CONNECTIONS}"
    )
    remedy = (
        f"Raise max_connections, lower {ENV_PREFIX}DATABASE_POOL_SIZE, or put a pooler before it; "
        "docs/operations.md has the sum."
    )
    if found.most < needed:
        yield fault("connections", f"{detail}: {needed} at least are needed", remedy)
    elif found.open > _CONNECTIONS_HIGH * found.most:
        yield warning("connections", detail, remedy)
    else:
        yield ok("connections", detail)


def contents(database: Database) -> Iterator[Finding]:
    """Durability, clock, catalogue and administrator."""
    found = durability(database)
    settings = ", ".join(f"{name}={value}" for name, value in found.settings.items())
    if found.remedy:
        yield fault("durability", f"a committed task may be lost ({settings})", found.remedy)
    else:
        yield ok("durability", settings)

    apart = abs((database.now() - datetime.now(UTC)).total_seconds())
    if apart > _CLOCKS_APART_SECONDS:
        yield warning("clock", f"{apart:.1f} s from the database's", "Let both machines follow a time server.")
    else:
        yield ok("clock", f"{apart * 1000:.0f} ms from the database's")

    with database.read() as session:
        lines = session.scalar(
            select(func.count())
            .select_from(TariffLine)
            .where(TariffLine.declarable.is_(True), TariffLine.retired_at.is_(None))
        )
        sources = session.scalars(select(TariffLine.source).where(TariffLine.retired_at.is_(None)).distinct()).all()
        administrators = session.scalar(
            select(func.count()).select_from(User).where(User.role == Role.ADMIN, User.disabled_at.is_(None))
        )
    if lines:
        yield ok("catalogue", f"{lines:,} lines that can be declared ({', '.join(sorted(sources))})")
    else:
        yield fault("catalogue", "no tariff line", "Run `sicargabox import tariff FILE`.")
    if administrators:
        yield ok("administrator", f"{administrators}")
    else:
        yield fault("administrator", "nobody may administer", "Run `sicargabox users create NAME --role admin`.")


def _file_exists(database: Database) -> bool:
    # Connecting would make an empty file, and a doctor changes nothing.
    name = database.engine.url.database
    return not name or name == ":memory:" or Path(name).exists()
