"""The shipped redis.conf is what a server really runs with, and it keeps queues through memory pressure and a crash."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.servers.valkey import ValkeyServer


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("maxmemory", str(256 * 1024 * 1024)),
        ("maxmemory-policy", "volatile-lru"),
        ("save", "900 1 300 10 60 10000"),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("databases", "16"),
    ],
)
def test_the_server_runs_with_the_shipped_configuration(redis_url: str, name: str, value: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        answer: Any = client.config_get(name)
    assert answer[name] == value


def test_under_memory_pressure_results_go_and_queues_stay(private_valkey: ValkeyServer) -> None:
    with private_valkey.client(db=0) as broker, private_valkey.client(db=1) as results:
        broker.config_set("maxmemory", "8mb")
        broker.lpush("elasticsearch", *(f"{number}" + "m" * 1000 for number in range(500)))
        pipe = results.pipeline(transaction=False)
        for number in range(20_000):
            pipe.set(f"celery-task-meta-{number}", "r" * 900, ex=3600)
        pipe.execute()
        assert broker.llen("elasticsearch") == 500
        assert int(results.dbsize()) < 20_000


def test_a_killed_server_comes_back_with_its_queues(private_valkey: ValkeyServer) -> None:
    with private_valkey.client() as client:
        client.lpush("learning", "message")
    private_valkey.kill()
    private_valkey.start()
    with private_valkey.client() as client:
        assert client.lrange("learning", 0, -1) == [b"message"]
