"""The shipped users, Sentinels and replication on real servers: each process can do its work and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.result import AsyncResult
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from sicargabox_api.rate_limits import RateLimits, RouteClass
from sicargabox_core.errors import TooManyRequests
from sicargabox_core.redis_report import memory_report
from sicargabox_core.redis_server import Db, RedisError, connect, sentinel_options
from sicargabox_core.settings import Settings, load_settings
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.contracts import Queue, State
from sicargabox_core.tasks.queues import RedisBroker, queue_figures, queue_messages
from tests.servers.ports import wait_until
from tests.servers.secured_redis import SecuredRedis
from tests.task_system.probe_specs import ACT
from tests.task_system.system import TaskSystem

PROCESSES = ("api", "scheduler", "worker", "flower")
_NO_FILES = {"redis_tls_ca_file": "", "redis_tls_cert_file": "", "redis_tls_key_file": ""}


@pytest.fixture(scope="module", params=["plain", "tls"])
def secured(request: pytest.FixtureRequest) -> Iterator[SecuredRedis]:
    installation = SecuredRedis(tls=request.param == "tls")
    try:
        installation.start()
        yield installation
    finally:
        installation.stop()


@pytest.fixture
def system(secured: SecuredRedis, sqlite_url: str, tmp_path: Path) -> Iterator[TaskSystem]:
    with TaskSystem.running(sqlite_url, secured, tmp_path) as system:
        yield system


def test_a_task_is_accepted_run_and_seen_by_processes_with_users_of_their_own(
    system: TaskSystem, secured: SecuredRedis
) -> None:
    worker = system.start_worker(Queue.ELASTICSEARCH)
    ids = [system.submit(ACT, how=how, note=f"{how}-{uuid.uuid4()}", children=2) for how in ("return", "parent")]
    assert {system.wait_final(one).state for one in ids} == {State.SUCCESS}
    # A message never acknowledged, or a scheduler that could not say that it lives, would be told nowhere else.
    with connect(system.settings, Db.BROKER) as broker:
        assert [one.published for one in queue_figures(system.database, broker)] == [0, 0, 0, 0]
        assert queue_messages(broker, Queue.ELASTICSEARCH) == []
        wait_until(lambda: broker.get("sicargabox:scheduler"), seconds=20, what="the scheduler tells that it lives")
    assert memory_report(system.settings).role == "master"
    flower = make_celery(secured.settings("flower"), "flower")
    wait_until(
        lambda: AsyncResult(ids[0], app=flower).state == State.SUCCESS, seconds=20, what="Flower reads the entry"
    )
    answers: Any = flower.control.inspect(timeout=3).ping()
    assert list(answers.values()) == [{"ok": "pong"}], worker.log[-2000:]
    assert _lengths_in_flower(secured) == {"elasticsearch": 0}
    flower.close()
    assert secured.denied() == []


def _lengths_in_flower(secured: SecuredRedis) -> dict[str, int]:
    """As Flower's page of the broker asks for them; in a process of its own, since Flower closes no Sentinel."""
    script = (
        "import asyncio, json\n"
        "from flower.utils.broker import Broker\n"
        "from sicargabox_api.flower_app import app\n"
        "broker = Broker(app.connection().as_uri(include_password=True),\n"
        "    broker_options=app.conf.broker_transport_options, broker_use_ssl=app.conf.broker_use_ssl)\n"
        "found = asyncio.run(broker.queues(['elasticsearch']))\n"
        "print(json.dumps({one['name']: one['messages'] for one in found}))\n"
    )
    environment = os.environ | secured.environment("flower")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lengths: dict[str, int] = json.loads(done.stdout)
    return lengths


def test_limits_are_counted_with_the_user_of_the_api(secured: SecuredRedis) -> None:
    settings = load_settings(**secured.options("api"), rate_limit_public="2/hour")
    address = str(uuid.uuid4())
    # Two processes share one count only when Redis took it. A first answer may come after its 50 ms, hence the tries.
    first, second = RateLimits(settings), RateLimits(settings)
    try:

        def shared() -> bool:
            with connect(settings, Db.CACHE) as cache:
                first.check(RouteClass.STAFF, address)
                return bool(list(cache.scan_iter("limit*")))

        wait_until(shared, seconds=20, what="a limit is counted in Redis")
        with pytest.raises(TooManyRequests):
            for _ in range(20):
                second.check(RouteClass.PUBLIC, address)
    finally:
        first.close()
        second.close()
    assert secured.denied() == []


@pytest.mark.parametrize("user", [*PROCESSES, "exporter"])
def test_no_user_may_do_what_its_process_never_does(secured: SecuredRedis, user: str) -> None:
    commands: list[tuple[object, ...]] = [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "SET", "maxmemory", "1mb"),
        ("CONFIG", "GET", "masterauth"),
        ("KEYS", "*"),
        ("SHUTDOWN",),
        ("MONITOR",),
        ("ACL", "LIST"),
        ("REPLICAOF", "NO", "ONE"),
        ("SWAPDB", "0", "1"),
        ("MIGRATE", "h", "1", "k", "0", "1"),
        # Nothing of ours: another product's key, which a user of ours can neither read nor write.
        ("GET", "session"),
        ("SET", "session", "v"),
        ("LPUSH", "session", "v"),
        ("PUBLISH", "__sentinel__:hello", "v"),
    ]
    if user in ("flower", "exporter"):
        commands += [("LPUSH", "elasticsearch", "m"), ("SET", "celery-task-meta-x", "v")]
    if user != "api":
        commands += [("SET", "limit", "v"), ("RENAME", "limit", "limit2")]
    if user != "worker":
        commands += [("BRPOP", "elasticsearch", 1)]
    with secured.server(secured.primary, user) as client:
        for command in commands:
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)


def test_replication_and_sentinels_have_passwords_that_open_nothing_else(secured: SecuredRedis) -> None:
    for user in ("replication", "sentinel"):
        with secured.server(secured.primary, user) as client:
            for command in (("GET", "celery-task-meta-x"), ("FLUSHALL",), ("LPUSH", "celery", "m")):
                with pytest.raises(NoPermissionError):
                    client.execute_command(*command)


def test_without_a_users_password_nobody_gets_in(secured: SecuredRedis) -> None:
    for changed in (
        {"redis_username": "nobody"},
        {"redis_username": ""},
        # The default user may do everything, for the server's own sake, and nobody is he.
        {"redis_username": "", "redis_password_file": ""},
        {"redis_sentinel_username": "nobody"},
    ):
        settings = load_settings(**secured.options("api") | changed)
        with connect(settings, Db.BROKER) as client, pytest.raises(RedisError) as raised:
            client.ping()
        assert isinstance(raised.value, AuthenticationError | ResponseError | redis.ConnectionError)


def test_readers_of_the_sentinels_cannot_order_them(secured: SecuredRedis) -> None:
    options = sentinel_options(secured.settings("api"), 2)
    with redis.Redis(host="localhost", port=secured.sentinel_ports[0], **options) as reader:
        for command in ("SENTINEL FAILOVER", "SENTINEL REMOVE"):
            with pytest.raises(NoPermissionError):
                reader.execute_command(command, "mymaster")


def test_the_hand_over_orders_a_failover_and_nothing_else(secured: SecuredRedis) -> None:
    options = sentinel_options(secured.settings("api"), 2)
    options |= {"username": "hand-over", "password": secured.password("hand-over", "sentinels")}
    with redis.Redis(host="localhost", port=secured.sentinel_ports[0], **options) as hook:
        # The right is there: it is the name that nobody watches.
        with pytest.raises(ResponseError, match="No such master"):
            hook.execute_command("SENTINEL FAILOVER", "nobody")
        for command in (("SENTINEL REMOVE", "mymaster"), ("SENTINEL SET", "mymaster", "quorum", "1"), ("SHUTDOWN",)):
            with pytest.raises(NoPermissionError):
                hook.execute_command(*command)


def test_a_server_with_a_certificate_of_somebody_else_is_refused(secured: SecuredRedis) -> None:
    options = secured.options("api")
    if "redis_tls" not in options:
        pytest.skip("speaks plain text")
    # The system's authorities know nothing of the test's.
    with connect(load_settings(**options | {"redis_tls_ca_file": ""}), Db.BROKER) as client, pytest.raises(RedisError):
        client.ping()
    plain = load_settings(**options | {"redis_tls": False, **_NO_FILES})
    with connect(plain, Db.BROKER) as client, pytest.raises(RedisError):
        client.ping()
    assert memory_report(secured.settings("api")).role == "master"


def test_views_measure_on_a_replica_and_the_reconciler_asks_the_primary(secured: SecuredRedis) -> None:
    settings = secured.settings("scheduler")
    queue = Queue.LEARNING.value
    with connect(settings, Db.BROKER) as broker:
        broker.lpush(queue, "no message")
        broker.set("celery-task-meta-there", "v", ex=60)
    with connect(settings, Db.BROKER, replica_ok=True) as replica:
        wait_until(lambda: replica.llen(queue) == 1, seconds=20, what="the replica has the message")
        assert replica.info("replication")["role"] == "slave"
        assert [one.readable for one in queue_messages(replica, queue)] == [False]
    before = _calls(secured, secured.primary)
    report = memory_report(settings)
    assert (report.role, len(report.replicas)) == ("master", 2)
    view = RedisBroker(settings)
    assert view.oldest_message_published_at(queue) is None
    after = _calls(secured, secured.primary)
    assert after.get("cmdstat_memory|usage") == before.get("cmdstat_memory|usage")
    assert after["cmdstat_lindex"] == before.get("cmdstat_lindex", 0) + 1
    assert sum(_calls(secured, port).get("cmdstat_memory|usage", 0) for port in secured.replicas) > 0
    with secured.server(secured.primary, "worker") as worker:
        worker.delete(queue)


def _calls(secured: SecuredRedis, port: int) -> dict[str, int]:
    with secured.server(port, "exporter") as client:
        return {name: value["calls"] for name, value in client.info("commandstats").items()}


def test_the_primary_dies_and_the_last_two_then_refuse_what_no_replica_would_have() -> None:
    secured = SecuredRedis()
    try:
        secured.start()
        settings = secured.settings("api")
        dead, others = secured.primary, secured.replicas
        secured.kill(dead)
        promoted = wait_until(lambda: secured.primary if secured.primary != dead else None, seconds=60, what="promoted")
        wait_until(lambda: _pushed(settings), seconds=60, what="the other replica follows, and messages are taken")
        secured.kill(next(port for port in others if port != promoted))
        wait_until(lambda: not _pushed(settings), seconds=60, what="a primary without a replica refuses messages")
    finally:
        secured.stop()


def _pushed(settings: Settings) -> bool:
    with connect(settings, Db.BROKER) as client:
        try:
            return bool(client.lpush("celery", "m"))
        except RedisError:
            return False
