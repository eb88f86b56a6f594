"""Workers that Redis does not let in: they say what to do about it, seldom, and work as soon as it is done."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sicargabox_core.tasks.contracts import Queue, State
from tests.servers.ports import free_port, wait_until
from tests.servers.valkey import ValkeyServer
from tests.task_system.probe_specs import ACT
from tests.task_system.system import TaskSystem, Worker

_SAYS = "no messages can be taken"


@pytest.fixture
def system(sqlite_url: str, private_valkey: ValkeyServer, tmp_path: Path) -> Iterator[TaskSystem]:
    with TaskSystem.running(sqlite_url, private_valkey, tmp_path) as system:
        yield system


def _user(valkey: ValkeyServer, *rules: str) -> None:
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "worker", "reset", "on", *rules)


def _start(system: TaskSystem, **more: str) -> tuple[Worker, int]:
    port = free_port()
    of_worker = {
        "SICARGABOX_REDIS_USERNAME": "worker",
        "SICARGABOX_REDIS_PASSWORD": "sesame",
        "SICARGABOX_WORKER_PORT": str(port),
    }
    return system.start_worker(Queue.ELASTICSEARCH, ready=False, environment=of_worker | more), port


def _readyz(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
        return str(answer.read().decode())


def _moments(worker: Worker) -> list[str]:
    """When it said so, to the second."""
    return [line[:19] for line in worker.log.splitlines() if _SAYS in line]


def _says(worker: Worker, port: int, *words: str) -> None:
    """It says what is wrong and what to do in its log, each time later than the last, and in its /readyz."""
    wait_until(lambda: len(_moments(worker)) >= 4, seconds=60, what="it has tried four times")
    assert worker.process.poll() is None
    moments = _moments(worker)
    assert len(set(moments)) == len(moments), "no two in one second"
    told = next(line for line in worker.log.splitlines() if _SAYS in line)
    body = _readyz(port)
    for word in words:
        assert word in told
        assert word in body
    assert "sesame" not in worker.log, "no password is told"
    assert "mistyped" not in worker.log, "no password is told"


def _works(system: TaskSystem, port: int) -> None:
    wait_until(lambda: _readyz(port) == "ready\n", seconds=60, what="it takes messages")
    assert system.wait_final(system.submit(ACT), 60).state is State.SUCCESS


def test_a_worker_with_a_wrong_password_says_so_and_works_once_it_is_right(system: TaskSystem) -> None:
    _user(system.valkey, ">sesame", "~*", "&*", "+@all")
    worker, port = _start(system, SICARGABOX_REDIS_PASSWORD="mistyped")
    _says(worker, port, "invalid username-password", "SICARGABOX_REDIS_PASSWORD")
    _user(system.valkey, ">mistyped", "~*", "&*", "+@all")
    _works(system, port)


def test_a_worker_without_its_rights_says_so_seldom_and_works_once_it_has_them(system: TaskSystem) -> None:
    _user(system.valkey, ">sesame", "~*", "&*", "+ping", "+select", "+info", "+brpop")
    worker, port = _start(system)
    _says(worker, port, "has no permissions", "redis/users.acl")
    _user(system.valkey, ">sesame", "~*", "&*", "+@all")
    _works(system, port)


def test_a_worker_that_may_not_read_its_queue_says_so_seldom(system: TaskSystem) -> None:
    _user(system.valkey, ">sesame", "~_kombu*", "~unacked*", "~*.pidbox*", "~sicargabox:*", "&*", "+@all")
    worker, port = _start(system)
    _says(worker, port, "redis/users.acl")


def test_a_worker_that_reaches_no_redis_says_so(system: TaskSystem) -> None:
    worker, port = _start(system, SICARGABOX_REDIS_URL=f"redis://127.0.0.1:{free_port()}")
    _says(worker, port, "Connection refused", "SICARGABOX_REDIS_URL")
