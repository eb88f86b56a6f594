"""What an autoscaler may read of the tasks: the columns that tell how many are due or running, and nothing else.

It asks PostgreSQL itself, from another namespace and with a role of its own, so that it counts what Redis has lost and
what a worker holds now. The statement stands in the chart; a test compares its answer with ``queues.queue_figures``.
"""

from __future__ import annotations

from sqlalchemy import text

from sicargabox_core.db import Database
from sicargabox_core.errors import InvalidInput

# No payload, result or name of a person is among them.
LOAD_COLUMNS = ("queue", "state", "run_at", "waits_for", "lease_until", "finished_at")


def let_read_load(database: Database, role: str) -> None:
    """Grants ``role`` these columns of ``tasks``; safe to repeat.

    Raises ``InvalidInput`` when there is no such role, or no roles at all (SQLite).
    """
    if database.is_sqlite:
        raise InvalidInput("SQLite has no roles", field="role", remedy="Autoscaling needs PostgreSQL.")
    with database.write() as session:
        known = session.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).first()
        if known is None:
            raise InvalidInput(
                f"there is no role {role!r}", field="role", remedy="CREATE ROLE it, with LOGIN and a password, first."
            )
        quoted = database.engine.dialect.identifier_preparer.quote_identifier(role)
        # A name cannot be a parameter; it is quoted, and known to be a role's.
        session.execute(text(f"GRANT SELECT ({', '.join(LOAD_COLUMNS)}) ON tasks TO {quoted}"))
