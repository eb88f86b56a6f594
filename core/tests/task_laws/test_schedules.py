"""A schedule's run is one row for one due instant, however many schedulers ask and however long none did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from core.tests.task_laws.world import EXCLUSIVE, PLAIN, Work, World, at_once
from sqlalchemy import select, update

from sicargabox_core.settings import Settings
from sicargabox_core.tasks.contracts import EVALUATE, TASKS
from sicargabox_core.tasks.models import ScheduleRow
from sicargabox_core.tasks.schedules import SCHEDULES, Recurring, make_due, schedules_of
from sicargabox_core.tasks.submission import Submission

ZONE = "America/Tegucigalpa"
NIGHTLY = Recurring("law.nightly", PLAIN, Work(size=3), hour=2, minute=0)


@pytest.fixture
def ask(world: World) -> Any:
    """Asks for what is due; the first time is the installation."""
    call = partial(make_due, world.database, ZONE, [NIGHTLY])
    assert call() == []
    return call


def missed(world: World, days: float, name: str = NIGHTLY.name) -> None:
    """The last run was ``days`` before the one that is due now."""
    with world.database.write() as session:
        row = session.execute(select(ScheduleRow).where(ScheduleRow.name == name)).scalar_one()
        assert row.last_due is not None
        row.last_due = row.last_due - timedelta(days=days)


def test_a_fresh_installation_has_missed_nothing(world: World, ask: Any) -> None:
    assert ask() == []
    assert world.count() == 0


def test_a_due_schedule_makes_one_task_for_its_instant(world: World, ask: Any) -> None:
    missed(world, 1)
    (submission,) = ask()
    task = submission.task
    assert submission.created
    assert submission.due == (task.id,)
    assert (task.name, task.payload["size"], task.initiated_by) == ("law.plain", 3, "schedule:law.nightly")
    assert task.schedule == "law.nightly"
    assert task.scheduled_for is not None
    local = task.scheduled_for.astimezone(ZoneInfo(ZONE))
    assert (local.hour, local.minute, local.second) == (2, 0, 0)
    assert timedelta(0) <= world.now() - task.scheduled_for < timedelta(days=1)
    assert ask() == []


def test_after_a_long_downtime_only_the_last_missed_run_is_made(world: World, ask: Any) -> None:
    missed(world, 30)
    (submission,) = ask()
    assert world.now() - submission.task.scheduled_for < timedelta(days=1)
    assert ask() == []
    assert world.count() == 1


def test_schedulers_that_ask_at_the_same_moment_make_one_row(world: World, ask: Any) -> None:
    missed(world, 1)
    answers = at_once(*[ask] * 4)
    assert sum(len(answer) for answer in answers) == 1
    assert world.count() == 1


def test_the_unique_index_holds_even_when_the_schedules_memory_is_lost(world: World, ask: Any) -> None:
    missed(world, 1)
    (first,) = ask()
    missed(world, 1)
    again: list[Submission] = ask()
    assert [(one.task.id, one.created) for one in again] == [(first.task.id, False)]
    assert world.count() == 1


def test_a_disabled_schedule_makes_nothing(world: World, ask: Any) -> None:
    missed(world, 1)
    with world.database.write() as session:
        session.execute(update(ScheduleRow).values(enabled=False))
    assert ask() == []


def test_a_run_of_an_exclusive_task_that_is_unfinished_is_answered_by_it(world: World) -> None:
    schedule = Recurring("law.exclusive", EXCLUSIVE, Work(), hour=2, minute=0)
    make_due(world.database, ZONE, [schedule])
    missed(world, 1, schedule.name)
    running = world.running(EXCLUSIVE)
    (answer,) = make_due(world.database, ZONE, [schedule])
    assert (answer.task.id, answer.created) == (running.id, False)


def test_a_run_hindered_by_another_payload_is_made_when_that_one_has_ended(world: World) -> None:
    schedule = Recurring("law.exclusive", EXCLUSIVE, Work(), hour=2, minute=0)
    make_due(world.database, ZONE, [schedule])
    missed(world, 1, schedule.name)
    running = world.running(EXCLUSIVE, payload=Work(size=9))
    assert make_due(world.database, ZONE, [schedule]) == []
    world.finish(running)
    (answer,) = make_due(world.database, ZONE, [schedule])
    assert answer.created


@pytest.mark.parametrize(
    ("zone", "moment", "due"),
    [
        (ZONE, "2026-11-23T07:59:59", "2026-11-22T08:00:00"),
        (ZONE, "2026-11-23T08:00:00", "2026-11-23T08:00:00"),
        (ZONE, "2026-11-23T23:30:00", "2026-11-23T08:00:00"),
        ("UTC", "2026-03-01T01:00:00", "2026-02-28T02:00:00"),
        # Clocks go back on this day: 02:00 comes twice, the first counts.
        ("Europe/Berlin", "2026-10-25T00:30:00", "2026-10-25T00:00:00"),
        ("Europe/Berlin", "2026-10-25T01:30:00", "2026-10-25T00:00:00"),
        # Clocks go forward: there is no 02:00, it is due an hour later by the clock.
        ("Europe/Berlin", "2026-03-29T00:59:00", "2026-03-28T01:00:00"),
        ("Europe/Berlin", "2026-03-29T01:00:00", "2026-03-29T01:00:00"),
    ],
)
def test_due_instants_are_reckoned_in_the_products_zone(zone: str, moment: str, due: str) -> None:
    asked = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    assert NIGHTLY.latest(asked, ZoneInfo(zone)) == datetime.fromisoformat(due).replace(tzinfo=UTC)


def test_only_tasks_that_exist_are_scheduled_each_under_its_own_name() -> None:
    assert len({schedule.name for schedule in SCHEDULES}) == len(SCHEDULES)
    for schedule in SCHEDULES:
        assert TASKS[schedule.spec.name] is schedule.spec
        assert isinstance(schedule.payload, schedule.spec.payload)
    assert [(one.spec.name, one.hour, one.minute) for one in SCHEDULES] == [
        ("learning.analyse_selections", 2, 0),
        ("housekeeping.delete_expired", 3, 10),
    ]


def _local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE))


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2026-11-22 03:59:59", "2026-11-15 04:00"),
        ("2026-11-22 04:00:00", "2026-11-22 04:00"),
        ("2026-11-23 01:00:00", "2026-11-22 04:00"),
        ("2026-11-28 23:59:59", "2026-11-22 04:00"),
    ],
)
def test_a_weekly_schedule_is_due_on_its_weekday_alone(now: str, due: str) -> None:
    weekly = Recurring("law.weekly", PLAIN, Work(), hour=4, minute=0, weekday=6)
    assert weekly.latest(_local(now), ZoneInfo(ZONE)) == _local(due)


def test_the_search_is_measured_when_the_setting_says_and_never_when_it_is_empty() -> None:
    (weekly,) = set(schedules_of(Settings(evaluation_schedule="Friday 9:05"))) - set(SCHEDULES)
    assert (weekly.spec, weekly.weekday, weekly.hour, weekly.minute) == (EVALUATE, 4, 9, 5)
    assert schedules_of(Settings(evaluation_schedule="")) == SCHEDULES
