"""Workers whose broker dies again and again: the same processes go on, and nothing they held is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sicargabox_core.tasks.contracts import Queue, State, TaskSpec
from tests.servers.ports import wait_until
from tests.servers.sentinels import SentinelInstallation
from tests.servers.valkey import ValkeyServer
from tests.task_system.probe_specs import ACT, ACT_AI, Act, Acted
from tests.task_system.system import DEADLINE, TaskSystem, Worker

UNGUARDED = "tests.task_system.unguarded"
KILLS = 5


@pytest.fixture
def plain(sqlite_url: str, private_valkey: ValkeyServer, tmp_path: Path) -> Iterator[TaskSystem]:
    with TaskSystem.running(sqlite_url, private_valkey, tmp_path) as system:
        yield system


@pytest.fixture
def watched(sqlite_url: str, sentinels: SentinelInstallation, tmp_path: Path) -> Iterator[TaskSystem]:
    with TaskSystem.running(sqlite_url, sentinels, tmp_path) as system:
        yield system


def _at_work(system: TaskSystem, spec: TaskSpec[Act, Acted], note: str) -> str:
    """A task that its worker is at, with other children free: the state in which the unguarded one exits."""
    task_id = system.submit(spec, how="sleep", seconds=2.0, note=note)
    wait_until(lambda: system.runs(task_id), seconds=60, what="the worker takes messages again")
    return task_id


def _exits(worker: Worker) -> bool:
    return "'NoneType' object has no attribute 'hostname'" in worker.log


def test_a_worker_outlives_a_broker_that_dies_again_and_again(plain: TaskSystem) -> None:
    guarded = plain.start_worker(Queue.ELASTICSEARCH, concurrency=3)
    unguarded = plain.start_worker(Queue.AI_GENERATION, concurrency=3, app=UNGUARDED)
    accepted = []
    for number in range(KILLS):
        accepted.append(_at_work(plain, ACT, f"held-{number}"))
        if not _exits(unguarded):
            _at_work(plain, ACT_AI, "control")
        plain.valkey.kill()
        accepted.append(plain.submit(ACT, note=f"meanwhile-{number}"))
        _notices(guarded, number + 1)
        plain.valkey.start()
    assert {plain.wait_final(one, 60).state for one in accepted} == {State.SUCCESS}
    assert {plain.effects(f"held-{number}") for number in range(KILLS)} == {1}
    assert guarded.process.poll() is None, guarded.log[-3000:]
    assert _exits(unguarded), "the unguarded worker lives: is the guard needed any more?"
    assert unguarded.wait() == 1


def test_a_worker_outlives_primaries_that_die_one_after_the_other(
    watched: TaskSystem, sentinels: SentinelInstallation
) -> None:
    worker = watched.start_worker(Queue.ELASTICSEARCH, concurrency=3)
    accepted = []
    for number in range(2):
        accepted.append(_at_work(watched, ACT, f"held-{number}"))
        accepted += _fail_over(watched, sentinels, number)
    assert {watched.wait_final(one, 60).state for one in accepted} == {State.SUCCESS}
    assert {watched.effects(f"held-{number}") for number in range(2)} == {1}
    assert worker.process.poll() is None, worker.log[-3000:]


def _notices(worker: Worker, times: int) -> None:
    lost = "Connection to broker lost"
    wait_until(lambda: worker.log.count(lost) >= times, seconds=DEADLINE, what="the worker notices")


def _fail_over(system: TaskSystem, sentinels: SentinelInstallation, number: int) -> list[str]:
    """Kills the primary and returns what was accepted meanwhile, when tasks run again and it is back as a replica."""
    dead = sentinels.primary
    dead.kill()
    accepted = [system.submit(ACT, note=f"meanwhile-{number}-{one}") for one in range(10)]
    wait_until(lambda: sentinels.primary is not dead, seconds=60, what="the Sentinels promote the replica")
    dead.start()
    accepted.append(_at_work(system, ACT, f"resumed-{number}"))
    with dead.client() as client:
        wait_until(
            lambda: client.info()["role"] == "slave" and client.info()["master_link_status"] == "up",
            seconds=90,
            what="what was the primary is a replica now",
        )
    return accepted
