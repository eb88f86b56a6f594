"""The fixtures every test folder can use: ``redis_url``, ``private_valkey``, ``postgres_url``, ``empty_postgres_url``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.postgres import PostgresCluster, find_programs
from tests.servers.valkey import ValkeyServer
from tests.settings import absent


@pytest.fixture(scope="session")
def _valkey() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis_url(_valkey: ValkeyServer) -> str:
    """Address (no database number) of a real server, emptied for this test. It needs nothing installed."""
    with _valkey.client() as client:
        client.flushall()
    return _valkey.url


@pytest.fixture
def private_valkey() -> Iterator[ValkeyServer]:
    """A running server of this test alone, which may be killed and started again."""
    server = ValkeyServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def _postgres() -> Iterator[PostgresCluster]:
    programs = find_programs()
    if programs is None:
        absent("PostgreSQL", "install postgresql-15 (only its programs are used, no service)")
    cluster = PostgresCluster(programs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def postgres_url(_postgres: PostgresCluster) -> Iterator[str]:
    """URL of a migrated PostgreSQL database of this test alone."""
    url = _postgres.create()
    yield url
    _postgres.drop(url)


@pytest.fixture
def empty_postgres_url(_postgres: PostgresCluster) -> Iterator[str]:
    """URL of an empty PostgreSQL database of this test alone."""
    url = _postgres.create(migrated=False)
    yield url
    _postgres.drop(url)
