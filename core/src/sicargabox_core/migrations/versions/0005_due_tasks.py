"""What is due in one queue is counted without looking at other queues, at what is put off or at the history"""

from __future__ import annotations

from sicargabox_core.migrations.online import create_index, drop_index

revision = "0005"
down_revision = "0004"

_DUE = "finished_at IS NULL AND state IN ('PENDING', 'RETRY') AND waits_for IS NULL"


def upgrade() -> None:
    create_index("ix_tasks_due", "tasks", ["queue", "run_at"], _DUE)


def downgrade() -> None:
    drop_index("ix_tasks_due", "tasks")
