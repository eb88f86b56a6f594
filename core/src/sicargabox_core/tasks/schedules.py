"""Recurring tasks: which there are, and the rows they make when they are due.

A run is one row of ``tasks`` per (schedule, due instant), held by a unique index, so any number of schedulers may ask
at once. After a downtime only the last missed run is made. Never Celery beat, countdown or eta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Table, select, update
from sqlalchemy.orm import Session

from sicargabox_core.db import Database, insert_if_new
from sicargabox_core.errors import AlreadyRunning
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.contracts import (
    ANALYSE_SELECTIONS,
    DELETE_EXPIRED,
    EVALUATE,
    AnalyseSelections,
    Evaluate,
    Nothing,
    Payload,
    TaskSpec,
)
from sicargabox_core.tasks.models import ScheduleRow
from sicargabox_core.tasks.submission import Submission, submit

log = structlog.get_logger(__name__)
_schedules = cast(Table, ScheduleRow.__table__)
_WEEK_DAYS = 7


@dataclass(frozen=True)
class Recurring:
    """One task a day, or one a week, at ``hour:minute`` of the product's time zone. ``weekday``: 0 is Monday."""

    name: str
    spec: TaskSpec[Any, Any]
    payload: Payload
    hour: int
    minute: int
    weekday: int | None = None

    def latest(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """The last instant (UTC) at or before ``moment`` at which it was due."""
        local = moment.astimezone(zone)
        due = local.replace(hour=self.hour, minute=self.minute, second=0, microsecond=0, fold=0)
        if self.weekday is not None:
            due -= timedelta(days=(due.weekday() - self.weekday) % _WEEK_DAYS)
        # Compared in UTC: between two local times, Python ignores a change of the clocks.
        if due.astimezone(UTC) > moment:
            due -= timedelta(days=1 if self.weekday is None else _WEEK_DAYS)
        return due.astimezone(UTC)


SCHEDULES: tuple[Recurring, ...] = (
    # By night, when nobody waits for the learning queue, and before the first staff looks at suggestions.
    Recurring("learning.nightly", ANALYSE_SELECTIONS, AnalyseSelections(), hour=2, minute=0),
    Recurring("housekeeping.nightly", DELETE_EXPIRED, Nothing(), hour=3, minute=10),
)


def schedules_of(settings: Settings) -> tuple[Recurring, ...]:
    """Every schedule that these settings ask for."""
    when = settings.evaluation_time
    if when is None:
        return SCHEDULES
    weekday, hour, minute = when
    return (*SCHEDULES, Recurring("learning.weekly", EVALUATE, Evaluate(), hour=hour, minute=minute, weekday=weekday))


def make_due(database: Database, timezone: str, schedules: Sequence[Recurring] = SCHEDULES) -> list[Submission]:
    """Accepts a task for every schedule whose last due instant has none yet; publish their ``due`` afterwards.

    A schedule met for the first time begins with its next instant: a fresh installation has missed nothing. A run
    whose exclusive task is still unfinished is answered by that one, and not made up for.
    """
    zone = ZoneInfo(timezone)
    moment = database.now()
    with database.read() as session:
        last = {row.name: row for row in session.execute(select(_schedules))}
    made = []
    for schedule in schedules:
        due = schedule.latest(moment, zone)
        row = last.get(schedule.name)
        if row is None:
            with database.write() as session:
                session.execute(
                    insert_if_new(session, _schedules).values(name=schedule.name, enabled=True, last_due=due)
                )
        elif row.enabled and (row.last_due is None or row.last_due < due):
            try:
                with database.write() as session:
                    submission = _make(session, schedule, due)
            except AlreadyRunning as error:
                # With another payload than ours: tried again in the next pass, until that one has ended.
                log.debug("a scheduled task waits for its like", schedule=schedule.name, task_id=error.task_id)
                continue
            if submission is not None:
                log.info("a schedule was due", schedule=schedule.name, due=due, task_id=submission.task.id)
                made.append(submission)
    return made


def _make(session: Session, schedule: Recurring, due: datetime) -> Submission | None:
    """Moves the schedule to ``due`` and accepts its task in one transaction; None when another scheduler was first."""
    moved = session.execute(
        update(_schedules)
        .where(
            _schedules.c.name == schedule.name,
            _schedules.c.enabled,
            _schedules.c.last_due.is_(None) | (_schedules.c.last_due < due),
        )
        .values(last_due=due)
        .returning(_schedules.c.name)
    ).first()
    if moved is None:
        return None
    return submit(
        session,
        schedule.spec,
        schedule.payload,
        initiated_by=f"schedule:{schedule.name}",
        schedule=schedule.name,
        scheduled_for=due,
    )
