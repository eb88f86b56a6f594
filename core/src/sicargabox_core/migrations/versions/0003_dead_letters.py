"""Dead letters are found without reading the history, and so is the task that repeats one"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_FAILED = "state = 'FAILURE' AND parent_id IS NULL"
_REPEATS = "retried_from IS NOT NULL"


def upgrade() -> None:
    op.create_index(
        "ix_tasks_failed",
        "tasks",
        ["created_at", "id"],
        sqlite_where=sa.text(_FAILED),
        postgresql_where=sa.text(_FAILED),
    )
    op.create_index(
        "ix_tasks_retried_from",
        "tasks",
        ["retried_from"],
        sqlite_where=sa.text(_REPEATS),
        postgresql_where=sa.text(_REPEATS),
    )


def downgrade() -> None:
    op.drop_index("ix_tasks_retried_from", table_name="tasks")
    op.drop_index("ix_tasks_failed", table_name="tasks")
