"""Reaching Redis and reading what it holds."""

from __future__ import annotations

import pytest

from sicargabox_core.errors import InvalidSetting, Unavailable
from sicargabox_core.redis_report import memory_report
from sicargabox_core.redis_server import BUDGETS, Db, connect, parse_address
from sicargabox_core.settings import load_settings
from tests.servers.valkey import ValkeyServer


def test_each_database_is_its_own(redis_url: str) -> None:
    settings = load_settings(redis_url=redis_url)
    with connect(settings, Db.BROKER) as broker, connect(settings, Db.CACHE) as cache:
        broker.set("key", "broker")
        assert cache.get("key") is None


@pytest.mark.parametrize(
    ("url", "db", "expected"),
    [
        ("redis://h", 0, "redis://h:6379/0"),
        ("redis://h:1/", 1, "redis://h:1/1"),
        ("rediss://u:p%40ss@h:1", 0, "rediss://u:p%40ss@h:1/0"),
        ("redis://[::1]:7000", 2, "redis://[::1]:7000/2"),
        ("sentinel://a:1;sentinel://b", 1, "sentinel://a:1/1;sentinel://b:26379/1"),
    ],
)
def test_an_address_gets_its_database_number(url: str, db: int, expected: str) -> None:
    assert parse_address(load_settings(redis_url=url)).url(db) == expected


def test_a_password_of_the_settings_wins_and_is_quoted() -> None:
    address = parse_address(load_settings(redis_url="redis://u:old@h", redis_password="n:e/w"))
    assert address.url(0) == "redis://u:n%3Ae%2Fw@h:6379/0"
    assert "n:e/w" not in repr(address)


@pytest.mark.parametrize(
    "url",
    ["h:1", "http://h", "redis://", "redis://h:port", "redis://h/3", "redis://a;redis://b", "redis://a;sentinel://b"],
)
def test_a_wrong_address_names_the_variable(url: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        parse_address(load_settings(redis_url=url))
    assert raised.value.field == "SICARGABOX_REDIS_URL"


def test_memory_is_told_against_the_budget_of_each_database(redis_url: str) -> None:
    settings = load_settings(redis_url=redis_url)
    with connect(settings, Db.RESULTS) as client:
        for number in range(50):
            client.set(f"celery-task-meta-{number}", "x" * 1000, ex=60)
    report = memory_report(settings)
    results = report.databases[Db.RESULTS]
    assert (results.name, results.keys, results.expiring) == ("results", 50, 50)
    assert 50 * 1000 < results.bytes < 50 * 2500
    assert results.budget == BUDGETS[Db.RESULTS] == 100 * 1024 * 1024
    assert report.policy == "volatile-lru"
    assert report.maximum == 256 * 1024 * 1024
    assert report.role == "master"


def test_many_keys_are_estimated_from_a_sample(redis_url: str) -> None:
    settings = load_settings(redis_url=redis_url)
    with connect(settings, Db.RESULTS) as client, client.pipeline(transaction=False) as pipe:
        for number in range(3000):
            pipe.set(f"key-{number:05}", "x" * 500)
        pipe.execute()
    assert 3000 * 500 < memory_report(settings).databases[Db.RESULTS].bytes < 3000 * 900


def test_the_slow_log_tells_commands_and_keys_but_no_values(redis_url: str) -> None:
    settings = load_settings(redis_url=redis_url)
    with connect(settings, Db.CACHE) as client:
        before = client.config_get("slowlog-log-slower-than")
        client.config_set("slowlog-log-slower-than", 0)
        client.set("key", "secret")
        client.config_set("slowlog-log-slower-than", before["slowlog-log-slower-than"])
    commands = [entry.command for entry in memory_report(settings).slow]
    assert "SET key" in commands
    assert not any("secret" in command for command in commands)


def test_a_server_that_is_away_is_unavailable(private_valkey: ValkeyServer) -> None:
    private_valkey.kill()
    with pytest.raises(Unavailable):
        memory_report(load_settings(redis_url=private_valkey.url))
