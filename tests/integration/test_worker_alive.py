"""A worker's /healthz is the word of the loop that takes messages: for a cluster to end what only looks alive."""

from __future__ import annotations

import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.contracts import Queue, State
from tests.servers.ports import free_port, wait_until
from tests.servers.valkey import ValkeyServer
from tests.task_system.probe_specs import ACT
from tests.task_system.system import TaskSystem

# As in tests/task_system/still.py.
STILL_SECONDS = 10.0


@pytest.fixture
def system(sqlite_url: str, private_valkey: ValkeyServer, tmp_path: Path) -> Iterator[TaskSystem]:
    with TaskSystem.running(sqlite_url, private_valkey, tmp_path) as system:
        yield system


def _start(system: TaskSystem) -> int:
    port = free_port()
    system.start_worker(
        Queue.ELASTICSEARCH, app="tests.task_system.still", environment={"SICARGABOX_WORKER_PORT": str(port)}
    )
    return port


def _order(system: TaskSystem, order: str, **arguments: float) -> None:
    celery = make_celery(system.settings, "tests")
    # It takes messages a moment before it takes orders.
    ordered: Any = celery.control
    wait_until(
        lambda: ordered.broadcast("ping", reply=True, timeout=1),
        seconds=30,
        what="it takes orders",
    )
    ordered.broadcast(order, arguments=arguments)
    celery.close()


def _healthz(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return f"{error.code}: {error.read().decode()}"


def _alive(port: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    told = set()
    while time.monotonic() < until:
        told.add(_healthz(port))
        time.sleep(0.5)
    assert told == {"ok\n"}


def test_a_loop_that_stands_still_is_told_and_forgotten_when_it_goes_on(system: TaskSystem) -> None:
    port = _start(system)
    assert _healthz(port) == "ok\n"
    _order(system, "stand_still", seconds=STILL_SECONDS + 8)
    wait_until(lambda: _healthz(port).startswith("503: the loop"), seconds=40, what="it is told")
    wait_until(lambda: _healthz(port) == "ok\n", seconds=40, what="it goes on")
    assert system.wait_final(system.submit(ACT), 60).state is State.SUCCESS


def test_a_worker_that_waits_for_redis_is_alive_all_the_while(system: TaskSystem) -> None:
    port = _start(system)
    system.valkey.kill()
    _alive(port, 2 * STILL_SECONDS)
    system.valkey.start()
    assert system.wait_final(system.submit(ACT), 60).state is State.SUCCESS


def test_a_worker_that_was_about_to_tell_of_itself_when_redis_went_is_alive_too(system: TaskSystem) -> None:
    """What is due comes before what the connection says: stopped for longer than two heartbeats are apart, it tells
    of itself before it can know that nobody listens."""
    port = free_port()
    worker = system.start_worker(
        Queue.ELASTICSEARCH, app="tests.task_system.still", environment={"SICARGABOX_WORKER_PORT": str(port)}
    )
    worker.process.send_signal(signal.SIGSTOP)
    system.valkey.kill()
    time.sleep(3)
    worker.process.send_signal(signal.SIGCONT)
    _alive(port, STILL_SECONDS + 3)
    system.valkey.start()
    assert system.wait_final(system.submit(ACT), 60).state is State.SUCCESS


def test_a_worker_that_went_deaf_connects_anew_and_takes_what_waits(system: TaskSystem) -> None:
    worker = system.start_worker(Queue.ELASTICSEARCH, app="tests.task_system.deaf")
    _order(system, "go_deaf")
    wait_until(lambda: "connects anew" in worker.log, seconds=30, what="it notices")
    assert system.wait_final(system.submit(ACT), 30).state is State.SUCCESS
    assert worker.process.poll() is None


def test_a_worker_with_nothing_to_do_or_with_a_long_task_is_not_taken_for_deaf(system: TaskSystem) -> None:
    worker = system.start_worker(Queue.ELASTICSEARCH, app="tests.task_system.deaf")
    # Each three times as long as it takes a deaf one to notice.
    time.sleep(6)
    assert system.wait_final(system.submit(ACT, how="sleep", seconds=6.0), 60).state is State.SUCCESS
    assert "connects anew" not in worker.log
