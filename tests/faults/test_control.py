"""The control: Celery by itself, on the same Redis and with the same settings, loses work where the product must not.

If it loses none, the fault does nothing, and the suite's zeros say nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from tests.faults.bare import QUEUE, TASK, make_bare
from tests.faults.installation import CHILDREN
from tests.faults.ledger import Reader
from tests.faults.redis_nodes import RedisNodes
from tests.faults.told import TOLD
from tests.servers.ports import wait_until
from tests.settings import REPOSITORY

FAILOVERS = 4
PRODUCERS = 4
# Somewhat more than the four children can do, so that a queue has something in it when it is struck.
A_SECOND = 100
STEADY_SECONDS = 2.0
BEFORE_THE_NEXT_SECONDS = 5.0
QUIET_SECONDS = 8.0
# As patient as a producer can sensibly be.
_RETRY = {"max_retries": 60, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 1}


class Bare:
    """Two workers, and producers that count what ``send_task`` took without an error."""

    def __init__(self, redis: RedisNodes, folder: Path) -> None:
        self.redis = redis
        self.accepted: set[int] = set()
        self._numbers = iter(range(10**9))
        self._lock = threading.Lock()
        self._over = threading.Event()
        executions = folder / "executions.jsonl"
        self._executions = Reader(executions)
        self.executed: list[int] = []
        environment = os.environ | redis.environment("worker")
        environment |= {"FAULTS_EXECUTIONS": str(executions), "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}
        self._workers = []
        for number in range(2):
            command = [sys.executable, "-m", "celery", "-A", "tests.faults.bare", "worker", "-Q", QUEUE]
            command += ["-c", str(CHILDREN), "-n", f"bare{number}@%h", "--without-gossip", "--without-mingle"]
            with (folder / f"bare{number}.log").open("ab") as log:
                started = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
            self._workers.append(started)
        self._app = make_bare(redis.settings("api"))
        self._threads = [threading.Thread(target=self._produce) for _ in range(PRODUCERS)]

    def start(self) -> None:
        """Returns once tasks are executed."""
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.read(), seconds=60, what="the workers execute", interval=0.2)

    def _produce(self) -> None:
        pause = PRODUCERS / A_SECOND
        while not self._over.wait(pause):
            with self._lock:
                number = next(self._numbers)
            try:
                self._app.send_task(TASK, args=[number], queue=QUEUE, retry=True, retry_policy=_RETRY)
            except (KombuError, RedisError, OSError):
                continue  # not accepted: its caller knows
            with self._lock:
                self.accepted.add(number)

    def read(self) -> int:
        """Takes in what was executed; returns how many executions there were."""
        self.executed += [line["number"] for line in self._executions.fresh()]
        return len(self.executed)

    def settle(self) -> int:
        """Ends producing, waits until nothing waits and nothing more is executed; returns what Redis still holds."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        quiet = time.monotonic()
        last = self.read()
        deadline = time.monotonic() + 120
        # What a worker took and never acknowledged stays for an hour; it is counted as not lost.
        while time.monotonic() < deadline and (self._waiting() or time.monotonic() - quiet < QUIET_SECONDS):
            time.sleep(0.5)
            now = self.read()
            if now != last:
                last, quiet = now, time.monotonic()
        return self._held()

    def _waiting(self) -> int:
        with self.redis.operator(self.redis.primary) as client:
            return int(client.llen(QUEUE))

    def _held(self) -> int:
        with self.redis.operator(self.redis.primary) as client:
            return self._waiting() + int(client.hlen("unacked"))

    def stop(self) -> None:
        """Ends everything."""
        self._over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(60)
        for worker in self._workers:
            worker.kill()
            worker.wait()
        self._app.close()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Bare]:
    redis = RedisNodes()
    try:
        redis.start()
        bare = Bare(redis, tmp_path)
        try:
            bare.start()
            yield bare
        finally:
            bare.stop()
    finally:
        redis.stop()


@pytest.mark.timeout(600)
def test_celery_by_itself_loses_accepted_work_in_unprepared_failovers(
    bare: Bare, request: pytest.FixtureRequest
) -> None:
    redis = bare.redis
    for _ in range(FAILOVERS):
        time.sleep(STEADY_SECONDS)
        old = redis.primary
        with redis.sentinel(redis.sentinel_ports[0]) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", "mymaster")
        redis.wait_promoted(old)
        redis.wait_whole()
        time.sleep(BEFORE_THE_NEXT_SECONDS)
    left = bare.settle()
    lost = len(bare.accepted - set(bare.executed)) - left
    twice = len(bare.executed) - len(set(bare.executed))
    request.config.stash[TOLD].append(
        f"Celery by itself, {FAILOVERS} unprepared failovers: {len(bare.accepted)} accepted, at least {lost} lost,"
        f" {twice} executed again, {left} left in Redis"
    )
    assert lost > 0
