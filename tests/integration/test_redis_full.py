"""A Redis that is full of what may not be evicted, under running workers: accepts go on, nothing is lost, all drains.

On a real redis-server, the machine's own, with the product's configuration and a few megabytes.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from sicargabox_core import observability
from sicargabox_core.db import Database
from sicargabox_core.doctor import redis as doctor
from sicargabox_core.doctor.findings import Finding, Status
from sicargabox_core.redis_report import memory_report
from sicargabox_core.redis_server import BUDGETS, Db, connect
from sicargabox_core.tasks.contracts import Queue, State
from sicargabox_core.tasks.queues import queue_figures
from sicargabox_core.tasks.results import KEY_PREFIX
from tests.servers.ports import wait_until
from tests.servers.secured_redis import program
from tests.servers.valkey import ValkeyServer
from tests.task_system.probe_specs import ACT
from tests.task_system.system import TaskSystem

MEGABYTES = 8
DEADLINE = 60.0
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def system(postgres_url: str, tmp_path: Path) -> Iterator[TaskSystem]:
    """A small installation on a Redis of 8 MB, with a worker and a scheduler."""
    server = ValkeyServer("--maxmemory", f"{MEGABYTES}mb", "--appendonly", "no", program=program())
    try:
        server.start()
        with TaskSystem.running(postgres_url, server, tmp_path) as system:
            yield system
    finally:
        server.stop()


class Filler:
    """Somebody else's keys that never expire; whatever room there is, is taken until ``free``."""

    def __init__(self, server: ValkeyServer) -> None:
        self._client = server.client(db=5)
        self._stop = threading.Event()
        self._once()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _once(self) -> None:
        for size in (64_000, 4_000, 100):
            with contextlib.suppress(redis.exceptions.OutOfMemoryError):
                while not self._stop.is_set():
                    self._client.set(f"foreign:{os.urandom(8).hex()}", b"x" * size)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self._once()

    def free(self) -> None:
        """Everything of theirs is gone, and nothing more comes."""
        self._stop.set()
        self._thread.join()
        self._client.flushdb()
        self._client.close()


def gauge(metric: object, *labels: str) -> float:
    return float(metric.labels(*labels)._value.get())  # type: ignore[attr-defined]  # a Gauge's own value


def without_message(system: TaskSystem) -> int:
    with connect(system.settings, Db.BROKER) as broker:
        return sum(one.without_message or 0 for one in queue_figures(system.database, broker))


def findings(database: Database, system: TaskSystem) -> dict[str, Finding]:
    found = [*doctor.server(system.settings), *doctor.processes(system.settings, database)]
    return {one.check: one for one in found}


def test_a_redis_that_fills_up_under_a_running_worker_delays_tasks_and_loses_none(system: TaskSystem) -> None:
    worker = system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
    before = [system.submit(ACT, how="sleep", seconds=0.05, note=f"b{number}") for number in range(40)]
    filler = Filler(system.valkey)
    # The last of the backlog is taken while Redis is full already: what it has popped it cannot note as taken.
    during = [system.submit(ACT, note=f"d{number}") for number in range(60)]
    assert len(set(during)) == 60, "accepting does not ask Redis"

    wait_until(lambda: system.publisher.refusing, seconds=DEADLINE, what="the publishing breaker opens")
    assert gauge(observability.BREAKER_OPEN, "publish") == 1
    wait_until(
        lambda: gauge(observability.REDIS_REFUSING, "memory") == 1, seconds=DEADLINE, what="the metric says it refuses"
    )
    wait_until(
        lambda: gauge(observability.QUEUE_WITHOUT_MESSAGE, ACT.queue.value) > 0,
        seconds=DEADLINE,
        what="the metric says that tasks wait without a message",
    )
    report = memory_report(system.settings)
    (fault,) = [one for one in report.faults if one.about == "writes"]
    assert (fault.code, fault.grave) == ("memory_full", True)
    said = findings(system.database, system)
    assert said["redis writes"].status is Status.FAULT
    assert "raise maxmemory" in (said["redis writes"].remedy or "")
    # Their presence may be evicted, and cannot be told anew: that is no reason to start another worker.
    assert said[f"queue {ACT.queue.value}"].status in (Status.OK, Status.UNKNOWN)

    filler.free()
    for task_id in (*before, *during):
        assert system.wait_final(task_id, DEADLINE).state is State.SUCCESS
    assert [system.effects(f"d{number}") for number in range(60)] == [1] * 60
    assert [system.effects(f"b{number}") for number in range(40)] == [1] * 40
    assert worker.process.poll() is None, "the worker outlived it"
    assert findings(system.database, system)["redis writes"].status is Status.OK
    wait_until(lambda: without_message(system) == 0, seconds=DEADLINE, what="nothing waits without a message")
    # Somebody publishes again: the breaker of this process learns of it by its own next try.
    last = system.submit(ACT, note="last")
    assert system.wait_final(last, DEADLINE).state is State.SUCCESS
    assert gauge(observability.REDIS_REFUSING, "memory") == 0 or wait_until(
        lambda: gauge(observability.REDIS_REFUSING, "memory") == 0, seconds=DEADLINE, what="the metric is 0 again"
    )


def test_a_queue_is_never_evicted_and_the_scheduler_tries_one_row_a_queue(system: TaskSystem) -> None:
    waiting = [system.submit(ACT, note=f"w{number}") for number in range(50)]
    assert system.publisher.flush()
    with system.valkey.client() as client:
        published = client.llen(ACT.queue.value)
    filler = Filler(system.valkey)
    more = [system.submit(ACT, note=f"m{number}") for number in range(200)]
    wait_until(
        lambda: gauge(observability.REDIS_REFUSING, "memory") == 1, seconds=DEADLINE, what="the scheduler notices"
    )
    stamped = {task_id: system.task(task_id).publish_count for task_id in more}
    with system.valkey.client() as client:
        assert client.llen(ACT.queue.value) >= published, "no message was evicted"
    # Were they all stamped again and again, each would wait for up to five minutes once there is room.
    assert sum(count > 2 for count in stamped.values()) < len(more) / 4
    filler.free()
    system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
    for task_id in (*waiting, *more):
        assert system.wait_final(task_id, DEADLINE).state is State.SUCCESS


def test_a_worker_that_starts_while_redis_is_full_waits_and_works_when_there_is_room(system: TaskSystem) -> None:
    filler = Filler(system.valkey)
    task_id = system.submit(ACT, note="early")
    worker = system.start_worker(Queue.ELASTICSEARCH, ready=False)
    wait_until(
        lambda: "OOM" in worker.log or "maxmemory" in worker.log or worker.process.poll() is not None,
        seconds=DEADLINE,
        what="the worker meets the full Redis",
    )
    assert worker.process.poll() is None, worker.log[-2000:]
    filler.free()
    assert system.wait_final(task_id, DEADLINE).state is State.SUCCESS
    assert worker.process.poll() is None


def test_bytes_of_a_database_are_estimated_near_what_they_are(system: TaskSystem) -> None:
    with system.valkey.client() as client:
        client.config_set("maxmemory", "128mb")
        start = int(client.info("memory")["used_memory"])
        with client.pipeline(transaction=False) as pipe:
            for number in range(3_000):
                pipe.lpush("learning", b"%04d" % number + b"m" * 1_000)
            # So many small keys that a sample of keys alone would mostly miss the one that counts.
            for number in range(2_000):
                pipe.set(f"small:{number}", b"s")
            pipe.execute()
        grown = int(client.info("memory")["used_memory"]) - start
    broker = memory_report(system.settings).databases[Db.BROKER]
    assert abs(broker.bytes - grown) < 0.15 * grown
    with system.valkey.client() as client, client.pipeline(transaction=False) as pipe:
        for _ in range(BUDGETS[Db.BROKER] // 60_000 + 1):
            pipe.lpush("learning", b"m" * 64_000)
        pipe.execute()
    report = memory_report(system.settings)
    assert [one.code for one in report.faults if one.about == "memory"] == ["over_budget_broker"]


def test_a_part_that_succeeds_leaves_no_entry_and_its_parent_does(system: TaskSystem) -> None:
    system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
    parent = system.submit(ACT, how="parent", children=5, note="family")
    assert system.wait_final(parent).state is State.SUCCESS
    with connect(system.settings, Db.RESULTS) as client:
        wait_until(lambda: client.exists(KEY_PREFIX + parent), seconds=DEADLINE, what="the parent's entry")
        keys = list(client.scan_iter(KEY_PREFIX + "*"))
    assert keys == [(KEY_PREFIX + parent).encode()]
