"""Each search of the reconciler has one index that can answer it; dead versions of tasks are vacuumed sooner"""

from __future__ import annotations

from alembic import op

from sicargabox_core.migrations.online import create_index, drop_index

revision = "0004"
down_revision = "0003"

_UNFINISHED = "state IN ('PENDING', 'RETRY', 'STARTED')"
_OPEN = "finished_at IS NULL"
_CANCELLING = f"cancel_requested_at IS NOT NULL AND {_UNFINISHED}"

# A task is three versions of its row and leaves two of them dead. The default waits for a fifth of the table: with ten
# million rows of history for a million tasks, whose dead entries lie in the small indexes of what is not done.
_STORAGE = {
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_insert_scale_factor": "0.02",
    "autovacuum_analyze_scale_factor": "0.01",
    "autovacuum_analyze_threshold": "1000",
    # Five times the default pace: what a long foreign transaction held back is gone within seconds after it.
    "autovacuum_vacuum_cost_limit": "1000",
}


def upgrade() -> None:
    create_index("ix_tasks_cancel", "tasks", ["cancel_requested_at"], _CANCELLING)
    create_index("ix_tasks_not_final", "tasks", ["created_at", "id"], _OPEN)
    drop_index("ix_tasks_open", "tasks")
    if op.get_bind().dialect.name == "postgresql":
        options = ", ".join(f"{name} = {value}" for name, value in _STORAGE.items())
        op.execute(f"ALTER TABLE tasks SET ({options})")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE tasks RESET ({', '.join(_STORAGE)})")
    create_index("ix_tasks_open", "tasks", ["created_at", "id"], _UNFINISHED)
    drop_index("ix_tasks_not_final", "tasks")
    drop_index("ix_tasks_cancel", "tasks")
