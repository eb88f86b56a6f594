"""The ``tasks`` table, which is the truth about every task, and ``schedules``.

A row is the task; the message in Redis is a hint that it is there. Who may write which column is decided in
``store``; nothing else writes here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from sicargabox_core.db import Base, Json, UtcDateTime, db_now

WAITING = "state IN ('PENDING', 'RETRY')"
UNFINISHED = "state IN ('PENDING', 'RETRY', 'STARTED')"
OPEN = "finished_at IS NULL"
DUE = f"{OPEN} AND {WAITING} AND waits_for IS NULL"
CANCELLING = f"cancel_requested_at IS NOT NULL AND {UNFINISHED}"
BAD = "state IN ('FAILURE', 'REVOKED')"
FAILED = "state = 'FAILURE' AND parent_id IS NULL"


class TaskRow(Base):
    """One accepted task. ``attempt`` is the fencing token of every write made while it runs."""

    __tablename__ = "tasks"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, doc="UUIDv7, also Celery's task id.")
    name: Mapped[str] = mapped_column(String(100))
    version: Mapped[int] = mapped_column(Integer, default=1, doc="TaskSpec.version it was accepted with.")
    queue: Mapped[str] = mapped_column(String(50))
    state: Mapped[str] = mapped_column(String(10))
    payload: Mapped[dict[str, Any]] = mapped_column(Json)

    initiated_by: Mapped[str] = mapped_column(String(100), doc="Principal: user:NAME, token:NAME, schedule:NAME, cli.")
    request_id: Mapped[str | None] = mapped_column(String(64))
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    payload_hash: Mapped[str] = mapped_column(String(64), doc="SHA-256 of the canonical payload.")
    exclusive_key: Mapped[str | None] = mapped_column(String(200))
    data_version: Mapped[int | None] = mapped_column(
        Integer, doc="Counter of changed data when the running attempt began; decides whether a follow-up is needed."
    )
    waits_for: Mapped[str | None] = mapped_column(String(36), doc="A follow-up becomes due when this task is final.")
    retried_from: Mapped[str | None] = mapped_column(String(36))

    parent_id: Mapped[str | None] = mapped_column(String(36))
    children_open: Mapped[int | None] = mapped_column(Integer, doc="Children not final yet; null: not a parent.")
    children_total: Mapped[int | None] = mapped_column(Integer)
    children_failed: Mapped[int | None] = mapped_column(Integer)

    attempt: Mapped[int] = mapped_column(Integer, default=0, doc="Claims so far; the fencing token.")
    failures: Mapped[int] = mapped_column(
        Integer, default=0, doc="Errors and expired leases; compared to max_attempts."
    )
    max_attempts: Mapped[int] = mapped_column(Integer)

    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=db_now())
    run_at: Mapped[datetime] = mapped_column(UtcDateTime, default=db_now(), doc="Not before this time.")
    published_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    publish_count: Mapped[int] = mapped_column(Integer, default=0)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="Of the newest attempt.")
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    worker: Mapped[str | None] = mapped_column(String(200))

    progress_current: Mapped[int | None] = mapped_column(Integer)
    progress_total: Mapped[int | None] = mapped_column(Integer)
    progress_message: Mapped[str | None] = mapped_column(String(500))

    result: Mapped[dict[str, Any] | None] = mapped_column(Json)
    error_code: Mapped[str | None] = mapped_column(String(50))
    error_message: Mapped[str | None] = mapped_column(String(2000))
    traceback: Mapped[str | None] = mapped_column(Text, doc="Kept here only, never in Redis or an answer to customers.")

    schedule: Mapped[str | None] = mapped_column(String(100))
    scheduled_for: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        # Two requests with one key insert one row, whichever commits first.
        Index(
            "uq_tasks_idempotency",
            "initiated_by",
            "name",
            "idempotency_key",
            unique=True,
            sqlite_where=text("idempotency_key IS NOT NULL"),
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index(
            "uq_tasks_exclusive",
            "exclusive_key",
            unique=True,
            sqlite_where=text(f"exclusive_key IS NOT NULL AND {UNFINISHED}"),
            postgresql_where=text(f"exclusive_key IS NOT NULL AND {UNFINISHED}"),
        ),
        Index(
            "uq_tasks_schedule",
            "schedule",
            "scheduled_for",
            unique=True,
            sqlite_where=text("schedule IS NOT NULL"),
            postgresql_where=text("schedule IS NOT NULL"),
        ),
        # The conditions of this index and of the next three do not imply each other, so a search has one of them to
        # choose: a planner that took this one for empty read it from end to end for an expired lease.
        # What is unfinished: history may grow without slowing its lists and figures. In the order of lists, so
        # that no planner with old statistics goes through the history for the few that are left of a backlog.
        Index("ix_tasks_not_final", "created_at", "id", sqlite_where=text(OPEN), postgresql_where=text(OPEN)),
        # Rows without a message and those with an old one are read by themselves; a pass that
        # goes through the whole backlog, twice a second, slows its draining.
        Index(
            "ix_tasks_publish",
            "queue",
            "published_at",
            "run_at",
            sqlite_where=text(WAITING),
            postgresql_where=text(WAITING),
        ),
        # For the autoscaler's question, which names OPEN beside WAITING: no other statement does, so none can take this
        # index in place of its own.
        Index("ix_tasks_due", "queue", "run_at", sqlite_where=text(DUE), postgresql_where=text(DUE)),
        Index(
            "ix_tasks_lease",
            "lease_until",
            sqlite_where=text("state = 'STARTED'"),
            postgresql_where=text("state = 'STARTED'"),
        ),
        # Mostly empty: the search for cancels that nobody noticed reads no entry of any other task.
        Index(
            "ix_tasks_cancel",
            "cancel_requested_at",
            sqlite_where=text(CANCELLING),
            postgresql_where=text(CANCELLING),
        ),
        Index(
            "ix_tasks_waits_for",
            "waits_for",
            sqlite_where=text("waits_for IS NOT NULL"),
            postgresql_where=text("waits_for IS NOT NULL"),
        ),
        # Partial: most tasks have no parent, and an index of nulls makes a planner distrust it.
        Index(
            "ix_tasks_parent",
            "parent_id",
            sqlite_where=text("parent_id IS NOT NULL"),
            postgresql_where=text("parent_id IS NOT NULL"),
        ),
        Index("ix_tasks_created", "created_at", "id"),
        # One for each filter of a list: without them a name that occurs once in ten million rows is looked for in all.
        # Together they cost a task 1 kB of write-ahead log and no time that could be measured. With the id, for the
        # whole order of a list: SQLite else prefers ix_tasks_created, which has it.
        Index("ix_tasks_name", "name", "created_at", "id"),
        Index("ix_tasks_queue", "queue", "created_at", "id"),
        Index("ix_tasks_initiated_by", "initiated_by", "created_at", "id"),
        Index("ix_tasks_ended_badly", "state", "created_at", "id", sqlite_where=text(BAD), postgresql_where=text(BAD)),
        # Dead letters: a few failed rows among millions, less those that another row repeats.
        Index("ix_tasks_failed", "created_at", "id", sqlite_where=text(FAILED), postgresql_where=text(FAILED)),
        Index(
            "ix_tasks_retried_from",
            "retried_from",
            sqlite_where=text("retried_from IS NOT NULL"),
            postgresql_where=text("retried_from IS NOT NULL"),
        ),
        Index(
            "ix_tasks_finished",
            "finished_at",
            sqlite_where=text("finished_at IS NOT NULL"),
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
    )


class ScheduleRow(Base):
    """When a schedule was last made due; the run itself is a row of ``tasks``."""

    __tablename__ = "schedules"

    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    last_due: Mapped[datetime | None] = mapped_column(UtcDateTime)


class CounterRow(Base):
    """Named counters; `catalogue` rises with every change of what the index holds."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    value: Mapped[int] = mapped_column(Integer, default=0)
