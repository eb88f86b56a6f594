"""Alembic's entry: runs the migrations on the engine that ``sicargabox_core.db.migrate`` hands over."""

from __future__ import annotations

from alembic import context

import sicargabox_core.accounts.models
import sicargabox_core.catalogue.models
import sicargabox_core.tasks.models  # noqa: F401  # the imports fill Base.metadata
from sicargabox_core.db import Base

with context.config.attributes["engine"].connect() as connection:
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
