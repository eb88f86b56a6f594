"""Tables of tasks, catalogue and accounts"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from sicargabox_core.db import ExactDecimal, Json, UtcDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("scopes", Json, nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("last_used_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("name", name=op.f("uq_api_tokens_name")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_tokens_token_hash")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("action", sa.String(length=60), nullable=False),
        sa.Column("object_type", sa.String(length=40), nullable=False),
        sa.Column("object_id", sa.String(length=100), nullable=False),
        sa.Column("before", Json, nullable=True),
        sa.Column("after", Json, nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index("ix_audit_at", ["at"], unique=False)
        batch_op.create_index("ix_audit_object", ["object_type", "object_id"], unique=False)

    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "schedules",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("last_due", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedules")),
    )
    op.create_table(
        "search_log",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("query", sa.String(length=200), nullable=False),
        sa.Column("normalized", sa.String(length=200), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("first_code", sa.String(length=12), nullable=True),
        sa.Column("took_ms", sa.Integer(), nullable=False),
        sa.Column("engine", sa.String(length=20), nullable=False),
        sa.Column("degraded", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_log")),
    )
    with op.batch_alter_table("search_log", schema=None) as batch_op:
        batch_op.create_index("ix_search_log_created", ["created_at"], unique=False)

    op.create_table(
        "sign_in_attempts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_attempts")),
    )
    with op.batch_alter_table("sign_in_attempts", schema=None) as batch_op:
        batch_op.create_index("ix_sign_in_attempts_subject", ["subject", "at"], unique=False)

    op.create_table(
        "tariff_lines",
        sa.Column("code", sa.String(length=12), nullable=False),
        sa.Column("level", sa.String(length=10), nullable=False),
        sa.Column("parent_code", sa.String(length=12), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("description_es", sa.Text(), nullable=False),
        sa.Column("description_en", sa.Text(), nullable=True),
        sa.Column("declarable", sa.Boolean(), nullable=False),
        sa.Column("dai", ExactDecimal(), nullable=True),
        sa.Column("isc", ExactDecimal(), nullable=True),
        sa.Column("ispc", ExactDecimal(), nullable=True),
        sa.Column("isv", ExactDecimal(), nullable=True),
        sa.Column("courier_category", sa.String(length=10), nullable=False),
        sa.Column("courier_rule", sa.String(length=50), nullable=True),
        sa.Column("courier_reason_es", sa.String(length=500), nullable=True),
        sa.Column("courier_reason_en", sa.String(length=500), nullable=True),
        sa.Column("source", sa.String(length=10), nullable=False),
        sa.Column("retired_at", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint(
            "courier_category IN ('ALLOWED', 'RESTRICTED', 'PROHIBITED')", name=op.f("ck_tariff_lines_courier_category")
        ),
        sa.CheckConstraint("level IN ('CHAPTER', 'HEADING', 'SUBHEADING', 'LINE')", name=op.f("ck_tariff_lines_level")),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_tariff_lines")),
    )
    with op.batch_alter_table("tariff_lines", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tariff_lines_parent_code"), ["parent_code"], unique=False)

    op.create_table(
        "tasks",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("queue", sa.String(length=50), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("payload", Json, nullable=False),
        sa.Column("initiated_by", sa.String(length=100), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("idempotency_key", sa.String(length=200), nullable=True),
        sa.Column("payload_hash", sa.String(length=64), nullable=False),
        sa.Column("exclusive_key", sa.String(length=200), nullable=True),
        sa.Column("data_version", sa.Integer(), nullable=True),
        sa.Column("waits_for", sa.String(length=36), nullable=True),
        sa.Column("retried_from", sa.String(length=36), nullable=True),
        sa.Column("parent_id", sa.String(length=36), nullable=True),
        sa.Column("children_open", sa.Integer(), nullable=True),
        sa.Column("children_total", sa.Integer(), nullable=True),
        sa.Column("children_failed", sa.Integer(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("run_at", UtcDateTime(), nullable=False),
        sa.Column("published_at", UtcDateTime(), nullable=True),
        sa.Column("publish_count", sa.Integer(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.Column("cancel_requested_at", UtcDateTime(), nullable=True),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("progress_current", sa.Integer(), nullable=True),
        sa.Column("progress_total", sa.Integer(), nullable=True),
        sa.Column("progress_message", sa.String(length=500), nullable=True),
        sa.Column("result", Json, nullable=True),
        sa.Column("error_code", sa.String(length=50), nullable=True),
        sa.Column("error_message", sa.String(length=2000), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("schedule", sa.String(length=100), nullable=True),
        sa.Column("scheduled_for", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.create_index("ix_tasks_created", ["created_at", "id"], unique=False)
        batch_op.create_index(
            "ix_tasks_finished",
            ["finished_at"],
            unique=False,
            sqlite_where=sa.text("finished_at IS NOT NULL"),
            postgresql_where=sa.text("finished_at IS NOT NULL"),
        )
        batch_op.create_index(
            "ix_tasks_lease",
            ["lease_until"],
            unique=False,
            sqlite_where=sa.text("state = 'STARTED'"),
            postgresql_where=sa.text("state = 'STARTED'"),
        )
        batch_op.create_index("ix_tasks_parent", ["parent_id"], unique=False)
        batch_op.create_index(
            "ix_tasks_unfinished",
            ["queue", "state", "run_at"],
            unique=False,
            sqlite_where=sa.text("state IN ('PENDING', 'RETRY', 'STARTED')"),
            postgresql_where=sa.text("state IN ('PENDING', 'RETRY', 'STARTED')"),
        )
        batch_op.create_index(
            "ix_tasks_waits_for",
            ["waits_for"],
            unique=False,
            sqlite_where=sa.text("waits_for IS NOT NULL"),
            postgresql_where=sa.text("waits_for IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_tasks_exclusive",
            ["exclusive_key"],
            unique=True,
            sqlite_where=sa.text("exclusive_key IS NOT NULL AND state IN ('PENDING', 'RETRY', 'STARTED')"),
            postgresql_where=sa.text("exclusive_key IS NOT NULL AND state IN ('PENDING', 'RETRY', 'STARTED')"),
        )
        batch_op.create_index(
            "uq_tasks_idempotency",
            ["initiated_by", "name", "idempotency_key"],
            unique=True,
            sqlite_where=sa.text("idempotency_key IS NOT NULL"),
            postgresql_where=sa.text("idempotency_key IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_tasks_schedule",
            ["schedule", "scheduled_for"],
            unique=True,
            sqlite_where=sa.text("schedule IS NOT NULL"),
            postgresql_where=sa.text("schedule IS NOT NULL"),
        )

    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(length=60), nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("disabled_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint("role IN ('viewer', 'reviewer', 'operator', 'admin')", name=op.f("ck_users_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("username", name=op.f("uq_users_username")),
    )
    op.create_table(
        "keywords",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("line_code", sa.String(length=12), nullable=False),
        sa.Column("language", sa.String(length=2), nullable=False),
        sa.Column("text", sa.String(length=120), nullable=False),
        sa.Column("normalized", sa.String(length=120), nullable=False),
        sa.Column("source", sa.String(length=10), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("evidence", Json, nullable=True),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("decided_by", sa.String(length=100), nullable=True),
        sa.Column("decided_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["line_code"], ["tariff_lines.code"], name=op.f("fk_keywords_line_code_tariff_lines")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keywords")),
        sa.UniqueConstraint(
            "line_code", "language", "normalized", name=op.f("uq_keywords_line_code_language_normalized")
        ),
    )
    with op.batch_alter_table("keywords", schema=None) as batch_op:
        batch_op.create_index("ix_keywords_state", ["state", "id"], unique=False)

    op.create_table(
        "selections",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("line_code", sa.String(length=12), nullable=False),
        sa.Column("query", sa.String(length=200), nullable=False),
        sa.Column("normalized_query", sa.String(length=200), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=True),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("staff", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("undone_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["line_code"], ["tariff_lines.code"], name=op.f("fk_selections_line_code_tariff_lines")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_selections")),
    )
    with op.batch_alter_table("selections", schema=None) as batch_op:
        batch_op.create_index("ix_selections_query", ["normalized_query", "line_code"], unique=False)

    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("last_seen_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_sessions")),
    )
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sessions_user_id"), ["user_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sessions_user_id"))

    op.drop_table("sessions")
    with op.batch_alter_table("selections", schema=None) as batch_op:
        batch_op.drop_index("ix_selections_query")

    op.drop_table("selections")
    with op.batch_alter_table("keywords", schema=None) as batch_op:
        batch_op.drop_index("ix_keywords_state")

    op.drop_table("keywords")
    op.drop_table("users")
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_tasks_schedule",
            sqlite_where=sa.text("schedule IS NOT NULL"),
            postgresql_where=sa.text("schedule IS NOT NULL"),
        )
        batch_op.drop_index(
            "uq_tasks_idempotency",
            sqlite_where=sa.text("idempotency_key IS NOT NULL"),
            postgresql_where=sa.text("idempotency_key IS NOT NULL"),
        )
        batch_op.drop_index(
            "uq_tasks_exclusive",
            sqlite_where=sa.text("exclusive_key IS NOT NULL AND state IN ('PENDING', 'RETRY', 'STARTED')"),
            postgresql_where=sa.text("exclusive_key IS NOT NULL AND state IN ('PENDING', 'RETRY', 'STARTED')"),
        )
        batch_op.drop_index(
            "ix_tasks_waits_for",
            sqlite_where=sa.text("waits_for IS NOT NULL"),
            postgresql_where=sa.text("waits_for IS NOT NULL"),
        )
        batch_op.drop_index(
            "ix_tasks_unfinished",
            sqlite_where=sa.text("state IN ('PENDING', 'RETRY', 'STARTED')"),
            postgresql_where=sa.text("state IN ('PENDING', 'RETRY', 'STARTED')"),
        )
        batch_op.drop_index("ix_tasks_parent")
        batch_op.drop_index(
            "ix_tasks_lease", sqlite_where=sa.text("state = 'STARTED'"), postgresql_where=sa.text("state = 'STARTED'")
        )
        batch_op.drop_index(
            "ix_tasks_finished",
            sqlite_where=sa.text("finished_at IS NOT NULL"),
            postgresql_where=sa.text("finished_at IS NOT NULL"),
        )
        batch_op.drop_index("ix_tasks_created")

    op.drop_table("tasks")
    with op.batch_alter_table("tariff_lines", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tariff_lines_parent_code"))

    op.drop_table("tariff_lines")
    with op.batch_alter_table("sign_in_attempts", schema=None) as batch_op:
        batch_op.drop_index("ix_sign_in_attempts_subject")

    op.drop_table("sign_in_attempts")
    with op.batch_alter_table("search_log", schema=None) as batch_op:
        batch_op.drop_index("ix_search_log_created")

    op.drop_table("search_log")
    op.drop_table("schedules")
    op.drop_table("counters")
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_index("ix_audit_object")
        batch_op.drop_index("ix_audit_at")

    op.drop_table("audit")
    op.drop_table("api_tokens")
