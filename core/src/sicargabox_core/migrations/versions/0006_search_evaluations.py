"""What measurements of the search came to is kept, so that its development can be seen"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from sicargabox_core.db import Json, UtcDateTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "search_evaluations",
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("engine", sa.String(length=40), nullable=False),
        sa.Column("queries_sha256", sa.String(length=64), nullable=False),
        sa.Column("left_out", sa.Integer(), nullable=False),
        sa.Column("cells", Json, nullable=False),
        sa.Column("places", Json, nullable=False),
        sa.Column("changes", Json, nullable=False),
        sa.Column("misses", Json, nullable=False),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_search_evaluations")),
    )
    op.create_index("ix_search_evaluations_created_at", "search_evaluations", ["created_at"])


def downgrade() -> None:
    op.drop_table("search_evaluations")
