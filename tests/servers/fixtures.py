"""The fixtures every test folder can use.

``database`` (on SQLite and, where there is one, on PostgreSQL), ``sqlite_url``, ``postgres_url``,
``empty_postgres_url``, ``redis_url``, ``private_valkey`` and ``sentinels``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from sicargabox_core.db import Database, migrate
from sicargabox_core.settings import Settings
from tests.servers.elasticsearch import ElasticsearchServer, remove_indexes
from tests.servers.postgres import PostgresCluster, required_programs
from tests.servers.sentinels import SentinelInstallation
from tests.servers.valkey import ValkeyServer
from tests.settings import machine


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


@pytest.fixture
def sentinels() -> Iterator[SentinelInstallation]:
    """A primary, a replica and three Sentinels of this test alone."""
    installation = SentinelInstallation()
    try:
        installation.start()
        yield installation
    finally:
        installation.stop()


@pytest.fixture(scope="session")
def _postgres() -> Iterator[PostgresCluster]:
    cluster = PostgresCluster(required_programs())
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


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Migrated once and copied: a migration costs 0.2 s, a copy 1 ms.
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    template = Database(f"sqlite:///{path}")
    migrate(template)
    template.dispose()
    return path


@pytest.fixture
def sqlite_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """URL of a migrated SQLite file of this test alone."""
    path = tmp_path / "sicargabox.db"
    shutil.copyfile(_sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A migrated, empty database of this test alone; the test runs once on each kind."""
    database = Database(request.getfixturevalue(f"{request.param}_url"))
    yield database
    database.dispose()


@pytest.fixture(scope="session")
def elasticsearch_url() -> Iterator[str]:
    """Address of a real Elasticsearch that all tests share: use an alias of your own, and stop it never."""
    if machine().search_url:
        yield machine().search_url
        return
    server = ElasticsearchServer()
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="module")
def elasticsearch_settings(elasticsearch_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings that lead to that server, with an alias of this module alone and patience for a busy machine."""
    alias = f"test-{uuid4().hex[:12]}"
    yield Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        search_url=elasticsearch_url,
        search_index=alias,
        search_timeout_seconds=10,
    )
    remove_indexes(elasticsearch_url, alias)
