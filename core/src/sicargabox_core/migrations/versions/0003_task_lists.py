"""Lists of tasks, of dead letters and of what repeats one are found without reading the history"""

from __future__ import annotations

from sicargabox_core.migrations.online import create_index, drop_index

revision = "0003"
down_revision = "0002"

_UNFINISHED = "state IN ('PENDING', 'RETRY', 'STARTED')"
_NEW: dict[str, tuple[list[str], str | None]] = {
    "ix_tasks_failed": (["created_at", "id"], "state = 'FAILURE' AND parent_id IS NULL"),
    "ix_tasks_retried_from": (["retried_from"], "retried_from IS NOT NULL"),
    "ix_tasks_open": (["created_at", "id"], _UNFINISHED),
    "ix_tasks_ended_badly": (["state", "created_at", "id"], "state IN ('FAILURE', 'REVOKED')"),
    "ix_tasks_name": (["name", "created_at", "id"], None),
    "ix_tasks_queue": (["queue", "created_at", "id"], None),
    "ix_tasks_initiated_by": (["initiated_by", "created_at", "id"], None),
}


def upgrade() -> None:
    for name, (columns, where) in _NEW.items():
        create_index(name, "tasks", columns, where)
    # What asked for it finds its rows by ix_tasks_open, in the release before as well.
    drop_index("ix_tasks_unfinished", "tasks")


def downgrade() -> None:
    create_index("ix_tasks_unfinished", "tasks", ["queue", "state", "run_at"], _UNFINISHED)
    for name in _NEW:
        drop_index(name, "tasks")
