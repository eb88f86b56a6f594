"""The settings of the Celery application that a law depends on, and the guards around faults of Celery and kombu."""

from __future__ import annotations

import signal
import ssl
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.utils.functional import noop
from redis.exceptions import ConnectionError as RedisConnectionError

from sicargabox_core.settings import load_settings
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.contracts import TASKS, Queue
from tests.servers.valkey import ValkeyServer
from tests.task_system.probe_specs import ACT
from tests.task_system.system import TaskSystem


@pytest.fixture
def celery(redis_url: str) -> Iterator[Celery]:
    celery = make_celery(load_settings(redis_url=redis_url), "tests")
    yield celery
    celery.close()


def test_asking_a_collected_connection_for_its_address_is_a_connection_error(celery: Celery) -> None:
    # Celery 5.7.0 asks when it closes what it has collected. An AttributeError there ends the worker.
    with celery.connection_for_write() as connection:
        channel = connection.default_channel
        transport, channel.connection = channel.connection, SimpleNamespace(client=None)
        try:
            with pytest.raises(RedisConnectionError):
                channel._connparams()
        finally:
            channel.connection = transport


@pytest.mark.parametrize("poison", [b"not json", b"[]", b"3", b"{}", b"[" * 100_000], ids=lambda poison: poison[:8])
def test_what_is_no_message_is_thrown_away(celery: Celery, redis_url: str, poison: bytes) -> None:
    with celery.connection_for_write() as connection:
        channel = connection.default_channel
        channel.client.lpush("celery", poison)
        channel.basic_consume("celery", no_ack=False, callback=noop, consumer_tag="test")
        channel.client.connection = channel.client.connection_pool.get_connection()
        channel._brpop_start(timeout=1)
        with pytest.raises(Empty):
            channel._brpop_read()
        assert channel.client.llen("celery") == 0


def test_only_json_is_accepted(celery: Celery) -> None:
    assert list(celery.conf.accept_content) == ["json"]
    assert list(celery.conf.result_accept_content) == ["json"]


def test_every_task_has_the_queue_of_its_spec(celery: Celery) -> None:
    assert {queue.name for queue in celery.conf.task_queues} == {queue.value for queue in Queue}
    assert celery.conf.task_routes == {name: {"queue": spec.queue.value} for name, spec in TASKS.items()}


def test_sentinels_and_passwords_reach_broker_and_results() -> None:
    settings = load_settings(
        redis_url="sentinel://a:1;sentinel://b:2",
        redis_password="p/w",
        redis_sentinel_username="reader",
        redis_sentinel_password="s",
    )
    celery = make_celery(settings, "tests")
    assert celery.conf.broker_url == "sentinel://:p%2Fw@a:1/0;sentinel://:p%2Fw@b:2/0"
    assert celery.conf.result_backend == "sentinel://:p%2Fw@a:1/1;sentinel://:p%2Fw@b:2/1"
    assert celery.conf.broker_transport_options["master_name"] == "mymaster"
    assert celery.conf.broker_transport_options["sentinel_kwargs"]["password"] == "s"
    assert celery.conf.result_backend_transport_options["sentinel_kwargs"]["username"] == "reader"


def test_tls_reaches_broker_results_and_sentinels() -> None:
    settings = load_settings(redis_url="sentinel://a:1", redis_tls=True, redis_tls_ca_file=__file__)
    conf = make_celery(settings, "tests").conf
    for options in (conf.broker_use_ssl, conf.redis_backend_use_ssl):
        assert options["ssl_ca_certs"] == __file__
        assert options["ssl_cert_reqs"] == ssl.CERT_REQUIRED
        assert options["ssl_check_hostname"] is True
    assert conf.broker_transport_options["sentinel_kwargs"]["ssl"] is True
    assert conf.broker_transport_options["sentinel_kwargs"]["ssl_ca_certs"] == __file__


def test_a_worker_outlives_many_losses_of_its_broker(
    private_valkey: ValkeyServer, sqlite_url: str, tmp_path: Path
) -> None:
    system = TaskSystem(sqlite_url, private_valkey, tmp_path)
    try:
        system.start_scheduler()
        worker = system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
        ids = []
        for _ in range(3):
            ids += [system.submit(ACT, how="sleep", seconds=0.5) for _ in range(4)]
            system.wait_begun(ids[-4])
            private_valkey.kill()
            private_valkey.start()
        assert all(system.wait_final(one, 60).state == "SUCCESS" for one in ids)
        assert worker.process.poll() is None, worker.log[-3000:]
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    finally:
        system.close()
