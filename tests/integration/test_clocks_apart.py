"""Hosts whose clocks are hours apart: leases, retries and schedules go by the database's clock and by nothing else."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from sicargabox_core.redis_server import Db, connect
from sicargabox_core.tasks.contracts import Queue, State
from sicargabox_core.tasks.presence import last_pass_of_scheduler
from sicargabox_core.tasks.schedules import schedules_of
from tests.servers.ports import wait_until
from tests.servers.valkey import ValkeyServer
from tests.settings import absent
from tests.task_system.probe_specs import ACT, ACT_AI, ACT_LEARNING
from tests.task_system.system import SHORT, TaskSystem

HOURS = (5, 0, -5)
LEASE = SHORT["task_lease_seconds"]


# The library (0.9.10) takes Python's sleep, until a moment of the clock that it should leave alone, for a wrong one.
_SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds)
"""


def _clock(system: TaskSystem, hours: int) -> dict[str, str]:
    """The variables under which a process sees another time of day; its waits and time-outs stay as they are."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        absent("faketime", "install the package faketime")
    if not hours:
        return {}
    (system.folder / "sitecustomize.py").write_text(_SLEEP)
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME": f"{hours:+d}h",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": os.pathsep.join([str(system.folder), system.environment["PYTHONPATH"]]),
    }


def _hours_off(clock: float) -> int:
    return round((clock - time.time()) / 3600)


@pytest.fixture
def system(postgres_url: str, private_valkey: ValkeyServer, tmp_path: Path) -> Iterator[TaskSystem]:
    """Three schedulers, each on a host of its own time; tests start the workers."""
    system = TaskSystem(postgres_url, private_valkey, tmp_path)
    try:
        for hours in HOURS:
            system.start_scheduler_process(_clock(system, hours))
        yield system
    finally:
        system.close()


def test_workers_hours_apart_keep_their_leases_and_run_each_task_once(system: TaskSystem) -> None:
    for hours in HOURS:
        system.start_worker(Queue.ELASTICSEARCH, environment=_clock(system, hours))
    # One for each worker, since each has one child, and several leases long.
    long = [system.submit(ACT, how="sleep", seconds=4 * LEASE, note=f"long-{number}") for number in range(len(HOURS))]
    for task_id in long:
        system.wait_begun(task_id)
    short = [system.submit(ACT, how="sleep", seconds=0.1, note=f"short-{number}") for number in range(20)]
    for task_id in [*long, *short]:
        task = system.wait_final(task_id, 60)
        assert (task.state, task.attempt, task.failures) == (State.SUCCESS, 1, 0), task.error_message
        assert len(system.runs(task_id)) == 1
    assert {_hours_off(run["clock"]) for run in itertools.chain(*map(system.runs, long))} == set(HOURS)
    assert {system.effects(f"long-{number}") for number in range(len(HOURS))} == {1}


def test_an_end_of_a_lease_and_a_retry_come_by_the_databases_clock(system: TaskSystem) -> None:
    for queue, hours in zip((Queue.ELASTICSEARCH, Queue.AI_GENERATION, Queue.LEARNING), HOURS, strict=True):
        system.start_worker(queue, environment=_clock(system, hours))
    for spec, hours in zip((ACT, ACT_AI, ACT_LEARNING), HOURS, strict=True):
        before = system.database.now()
        later = system.submit(spec, how="retry", seconds=3.0, note=f"later-{hours}")
        dies = system.submit(spec, how="die_once", note=f"dies-{hours}")
        task, revived = system.wait_final(later), system.wait_final(dies)
        after = system.database.now()
        assert (task.state, task.attempt, task.failures) == (State.SUCCESS, 2, 1)
        assert (revived.state, revived.attempt, revived.failures) == (State.SUCCESS, 2, 1)
        assert {_hours_off(run["clock"]) for run in (*system.runs(later), *system.runs(dies))} == {hours}
        for one, pause in ((task, 3.0), (revived, 0.0)):
            assert one.started_at is not None
            assert one.finished_at is not None
            assert before <= one.created_at <= one.run_at <= one.started_at <= one.finished_at <= after
            assert one.run_at - one.created_at >= timedelta(seconds=pause)


def test_schedulers_hours_apart_make_one_run_for_each_due_instant(
    postgres_url: str, private_valkey: ValkeyServer, tmp_path: Path
) -> None:
    system = TaskSystem(postgres_url, private_valkey, tmp_path)
    # It is an hour before midnight: the nightly runs of today are long made, and those of tomorrow are due for a
    # scheduler whose clock is five hours ahead. One that is five hours behind lives in the same afternoon.
    zone = 23 - datetime.now(UTC).hour
    zone = zone if zone <= 14 else zone - 24
    system.environment["SICARGABOX_TIMEZONE"] = f"Etc/GMT{-zone:+d}"
    expected = {schedule.name for schedule in schedules_of(system.settings)}
    try:
        due: dict[str, datetime] = {}
        # The one that is ahead begins alone: what it makes nobody else can have made.
        for hours in HOURS:
            system.start_scheduler_process(_clock(system, hours))
            wait_until(lambda: _last_due(system).keys() == expected, seconds=30, what="the schedules are met")
            due = _last_due(system)
            assert all(moment <= system.database.now() for moment in due.values())
            with system.database.write() as session:
                session.execute(text("UPDATE schedules SET last_due = last_due - interval '1 day'"))
            wait_until(partial(_is_due, system, due), seconds=30, what="what is due was made")
        with system.database.read() as session:
            made = session.execute(text("SELECT schedule, scheduled_for FROM tasks WHERE schedule IS NOT NULL")).all()
        assert {row.schedule: row.scheduled_for for row in made} == due
        assert len(made) == len(expected)
    finally:
        system.close()


def _is_due(system: TaskSystem, due: dict[str, datetime]) -> bool:
    return _last_due(system) == due


def _last_due(system: TaskSystem) -> dict[str, datetime]:
    with system.database.read() as session:
        return {row.name: row.last_due for row in session.execute(text("SELECT name, last_due FROM schedules"))}


@pytest.mark.parametrize("hours", [5, -5])
def test_a_scheduler_tells_of_its_last_pass_by_the_databases_clock(
    hours: int, postgres_url: str, private_valkey: ValkeyServer, tmp_path: Path
) -> None:
    system = TaskSystem(postgres_url, private_valkey, tmp_path)
    try:
        before = system.database.now()
        system.start_scheduler_process(_clock(system, hours))
        with connect(system.settings, Db.BROKER) as broker:
            told = wait_until(lambda: last_pass_of_scheduler(broker), seconds=30, what="the scheduler tells of itself")
        assert before <= told <= system.database.now()
    finally:
        system.close()
