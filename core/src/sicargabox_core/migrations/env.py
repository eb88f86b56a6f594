"""Alembic's entry: runs the migrations on the engine that ``sicargabox_core.db.migrate`` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

import sicargabox_core.accounts.models
import sicargabox_core.catalogue.models
import sicargabox_core.search.models
import sicargabox_core.tasks.models  # noqa: F401  # the imports fill Base.metadata
from sicargabox_core.db import Base


def _run(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # A lock that is asked for stops everyone who comes later, whoever it waits for; `migrate` tries again.
        connection.execute(text("SET statement_timeout = 0; SET lock_timeout = '1s'"))
        connection.commit()
        # An index of millions of rows takes minutes, and a server that is away is the operator's to notice.
        connection.connection.driver_connection.answer_seconds = float("inf")  # type: ignore[union-attr]
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=True,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


with context.config.attributes["engine"].connect() as opened:
    try:
        _run(opened)
    finally:
        if opened.dialect.name == "postgresql":
            # Nobody else is to have this connection with those settings.
            opened.invalidate()
