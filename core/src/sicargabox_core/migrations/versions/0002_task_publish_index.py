"""The reconciler finds rows without a message, those with an old one, and children, without reading the rest"""

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
    op.drop_index("ix_tasks_parent", table_name="tasks")
    op.create_index(
        "ix_tasks_parent",
        "tasks",
        ["parent_id"],
        sqlite_where=sa.text("parent_id IS NOT NULL"),
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_tasks_parent", table_name="tasks")
    op.create_index("ix_tasks_parent", "tasks", ["parent_id"])
    op.drop_index("ix_tasks_publish", table_name="tasks")
