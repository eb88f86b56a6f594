"""Durable tasks on Sentinel: the primary dies under load, and nothing accepted is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sicargabox_core.redis_report import memory_report
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.tasks.contracts import Queue, State
from tests.servers.ports import wait_until
from tests.servers.sentinels import SentinelInstallation
from tests.task_system.probe_specs import ACT
from tests.task_system.system import TaskSystem


@pytest.fixture
def system(sentinels: SentinelInstallation, postgres_url: str, tmp_path: Path) -> Iterator[TaskSystem]:
    with TaskSystem.running(postgres_url, sentinels, tmp_path) as system:
        yield system


def test_the_primary_dies_under_load_and_the_same_workers_go_on(
    system: TaskSystem, sentinels: SentinelInstallation
) -> None:
    workers = [system.start_worker(Queue.ELASTICSEARCH, concurrency=2) for _ in range(2)]
    # Unacknowledged messages on the dying connection are what made a worker of Celery 5.7.0 exit.
    ids = [system.submit(ACT, how="sleep", seconds=0.2, note=f"load-{number}") for number in range(60)]
    system.wait_begun(ids[0])
    dead = sentinels.primary
    dead.kill()
    ids += [system.submit(ACT, note=f"meanwhile-{number}") for number in range(20)]
    wait_until(lambda: sentinels.primary is not dead, seconds=30, what="the Sentinels promote the replica")
    assert {system.wait_final(one, 90).state for one in ids} == {State.SUCCESS}
    assert {system.effects(f"load-{number}") for number in range(60)} == {1}
    assert [worker.process.poll() for worker in workers] == [None, None], "a worker exited and was not restarted"


def test_reading_may_use_a_replica_and_the_report_names_it(system: TaskSystem, sentinels: SentinelInstallation) -> None:
    with connect(system.settings, Db.CACHE) as primary, connect(system.settings, Db.CACHE, replica_ok=True) as replica:
        primary.set("key", "value")
        wait_until(lambda: replica.get("key") == b"value", seconds=20, what="the replica has it")
    report = memory_report(system.settings)
    assert report.role == "master"
    assert [one.state for one in report.replicas] == ["online"]
