"""The reconciler finds rows without a message, and those with an old one, without reading the backlog"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_WAITING = "state IN ('PENDING', 'RETRY')"


def upgrade() -> None:
    op.create_index(
        "ix_tasks_publish",
        "tasks",
        ["queue", "published_at", "run_at"],
        sqlite_where=sa.text(_WAITING),
        postgresql_where=sa.text(_WAITING),
    )


def downgrade() -> None:
    op.drop_index("ix_tasks_publish", table_name="tasks")
