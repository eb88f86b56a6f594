"""The scheduler's loop outlives what it needs and stops when told."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from sicargabox_core.db import Database
from sicargabox_core.scheduler import BACK_OFF_MOST_SECONDS, Job, Scheduler
from sicargabox_core.search import evaluation
from sicargabox_core.search.evaluate import Labelled, Outcome
from sicargabox_core.settings import Settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import NO_OP, NoOp, State
from tests.servers.ports import wait_until
from tests.servers.valkey import ValkeyServer
from tests.task_system.system import TaskSystem

SCHEDULER = (
    "from sicargabox_core.scheduler import run_scheduler\n"
    "from sicargabox_core.settings import load_settings\n"
    "run_scheduler(load_settings())"
)


def test_a_job_that_fails_is_tried_again_later_and_later_and_never_raises() -> None:
    outcomes = [OSError("away")] * 8

    def run() -> None:
        if outcomes:
            raise outcomes.pop()

    job = Job("probe", 0.5, run)
    pauses = []
    for _ in range(8):
        job.step(100.0)
        pauses.append(job.due - 100.0)
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert pauses[-1] == BACK_OFF_MOST_SECONDS
    job.step(100.0)
    assert (job.failures, job.due) == (0, 100.5)


def test_a_slow_job_is_not_hurried_by_its_failures() -> None:
    job = Job("slow", 30.0, lambda: 1 / 0)
    job.step(100.0)
    assert job.due == 130.0


def test_it_reconciles_while_redis_is_away_and_stops_on_sigterm(
    sqlite_url: str, private_valkey: ValkeyServer, tmp_path: Path
) -> None:
    private_valkey.kill()
    system = TaskSystem(sqlite_url, private_valkey, tmp_path)
    database = Database(sqlite_url)
    with database.write() as session:
        task_id = store.submit(session, NO_OP, NoOp(), initiated_by="user:test").task.id
    store.claim(database, task_id, worker="gone", lease_seconds=0.1, known={NO_OP.name: NO_OP})
    with (tmp_path / "scheduler.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", SCHEDULER], env=system.environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: system.task(task_id).state is State.RETRY, seconds=30, what="the expired lease is noticed")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        database.dispose()
        system.close()
    assert "Traceback" not in (tmp_path / "scheduler.log").read_text()


def test_the_last_measurement_of_the_search_is_told_and_none_before_there_is_one(
    sqlite_url: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, database_url=sqlite_url)
    scheduler = Scheduler(settings)
    (job,) = [job for job in scheduler.jobs if job.name == "search quality"]
    told = "sicargabox_search_quality_ratio"
    try:
        job.run()
        assert REGISTRY.get_sample_value(told, {"measure": "hit5"}) is None
        counted = [one for one in (Labelled(f"query {n}", frozenset({"8518"})) for n in range(40)) if one.counted]
        outcomes = [Outcome(one, 1 if at % 2 else None, at % 2, None) for at, one in enumerate(counted[:10])]
        made = evaluation.evaluated("tantivy", outcomes, left_out=0, before=None)
        with scheduler.database.write() as session:
            evaluation.keep(session, "00000000-0000-7000-8000-000000000001", made, most=10)
        job.run()
        shares = {name: REGISTRY.get_sample_value(told, {"measure": name}) for name in ("hit1", "hit5", "none", "mrr")}
        assert shares == {"hit1": 0.5, "hit5": 0.5, "none": 0.5, "mrr": 0.5}
        assert REGISTRY.get_sample_value("sicargabox_search_quality_losses", {"set": "own"}) == 0
        moment = REGISTRY.get_sample_value("sicargabox_search_quality_timestamp_seconds", {"set": "own"})
        assert moment == pytest.approx(scheduler.database.now().timestamp(), abs=60)
    finally:
        scheduler.database.dispose()
