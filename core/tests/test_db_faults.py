"""What PostgreSQL may do to us: freeze, refuse, be full, be migrated under running claims. Each on a real server."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator

import psycopg2
import pytest
from alembic import command
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import OperationalError

from sicargabox_core import db
from sicargabox_core.db import Database, Limits, expected_schema_version, migrate, patience, schema_version
from sicargabox_core.errors import Unavailable
from tests.servers.ports import wait_until
from tests.servers.postgres import PostgresCluster, required_programs

SMALL = {"max_connections": 12, "superuser_reserved_connections": 0}


@pytest.fixture
def at_postgres(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    yield database
    database.dispose()


@pytest.fixture
def small_server() -> Iterator[PostgresCluster]:
    cluster = PostgresCluster(required_programs(), settings=SMALL)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def test_a_frozen_server_is_waited_for_no_longer_than_the_patience(at_postgres: Database) -> None:
    with at_postgres.read() as session:
        process = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        os.kill(process, signal.SIGSTOP)
        try:
            with pytest.raises(OperationalError, match="does not answer"), patience(0.5):
                session.execute(text("SELECT 1"))
        finally:
            os.kill(process, signal.SIGCONT)
    # The connection was given up with it: nobody gets an answer that was meant for another.
    with at_postgres.read() as session:
        assert session.execute(text("SELECT 2, pg_backend_pid()")).one() != (2, process)


def test_without_patience_the_wait_ends_a_moment_after_the_servers_own_limit(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "SILENCE_SECONDS", 0.5)
    database = Database(postgres_url, limits=Limits(statement_seconds=0.5))
    with database.read() as session:
        process = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        os.kill(process, signal.SIGSTOP)
        try:
            with pytest.raises(OperationalError, match="does not answer"):
                session.execute(text("SELECT 1"))
        finally:
            os.kill(process, signal.SIGCONT)
    database.dispose()


def test_the_inner_patience_is_never_longer_than_the_outer(at_postgres: Database) -> None:
    refused = pytest.raises(OperationalError, match="does not answer")
    with at_postgres.read() as session, refused, patience(0.2), patience(3600.0):
        session.execute(text("SELECT pg_sleep(60)"))


def test_a_server_that_accepts_and_says_nothing_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        database = Database(f"postgresql://nobody@127.0.0.1:{mute.getsockname()[1]}/none")
        with pytest.raises(Unavailable):
            database.ping()


def test_the_limits_are_the_connections(postgres_url: str) -> None:
    limits = Limits(statement_seconds=7, lock_seconds=2.5, idle_transaction_seconds=11)
    database = Database(postgres_url, limits=limits)
    with database.read() as session:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        told = [session.execute(text(f"SHOW {name}")).scalar_one() for name in names]
    database.dispose()
    assert told == ["7s", "2500ms", "11s"]


def test_a_server_without_a_free_connection_is_away_until_one_is_free(small_server: PostgresCluster) -> None:
    url = small_server.create()
    held: list[psycopg2.extensions.connection] = []
    with pytest.raises(psycopg2.OperationalError, match=r"too many clients|remaining connection slots"):
        held.extend(psycopg2.connect(url) for _ in range(50))
    database = Database(url)
    with pytest.raises(Unavailable):
        database.ping()
    for one in held:
        one.close()

    def answers() -> bool:
        try:
            database.ping()
        except Unavailable:
            return False
        return True

    wait_until(answers, seconds=20, what="a connection is free again")
    database.dispose()


def test_a_ping_of_a_frozen_server_says_that_it_is_away(at_postgres: Database) -> None:
    with at_postgres.read() as session:
        process = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
    frozen = threading.Event()

    @event.listens_for(at_postgres.engine, "before_cursor_execute")
    def freeze(*_: object) -> None:
        os.kill(process, signal.SIGSTOP)
        frozen.set()

    try:
        with pytest.raises(Unavailable):
            at_postgres.ping()
    finally:
        os.kill(process, signal.SIGCONT)
    assert frozen.is_set()


# --- migrations beside the previous release --------------------------------------------------------------------------
PREVIOUS = "0002"


def _at_previous(url: str) -> Database:
    database = Database(url)
    command.upgrade(db._alembic(database), PREVIOUS)
    return database


def test_a_migration_takes_nothing_away_from_the_release_before(empty_postgres_url: str) -> None:
    database = _at_previous(empty_postgres_url)
    before = {
        table: inspect(database.engine).get_columns(table) for table in inspect(database.engine).get_table_names()
    }
    migrate(database)
    seen = inspect(database.engine)
    for table, columns in before.items():
        after = {column["name"]: column for column in seen.get_columns(table)}
        for column in columns:
            assert str(after[column["name"]]["type"]) == str(column["type"])
            assert after[column["name"]]["nullable"] or not column["nullable"]
        for name in after.keys() - {column["name"] for column in columns}:
            # The release before inserts rows without it.
            assert after[name]["nullable"] or after[name]["default"] is not None, (table, name)
    database.dispose()


def test_claims_go_on_while_a_migration_waits_for_a_foreign_transaction(empty_postgres_url: str) -> None:
    database = _at_previous(empty_postgres_url)
    insert = text(
        "INSERT INTO tasks (id, name, version, queue, state, payload, initiated_by, payload_hash, attempt, failures,"
        " max_attempts, created_at, run_at, publish_count) VALUES (:id, 'x', 1, 'celery', 'PENDING', '{}', 'cli', '',"
        " 0, 0, 5, now(), now(), 0)"
    )
    claim = text("UPDATE tasks SET state = 'STARTED', attempt = attempt + 1, lease_until = now() WHERE id = :id")
    foreign = psycopg2.connect(empty_postgres_url)
    with foreign.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tasks")  # and stays open, as a backup's does
    migration = threading.Thread(target=migrate, args=(Database(empty_postgres_url),))
    migration.start()
    try:
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INDEX%'")

        def waits() -> bool:
            with database.read() as session:
                return bool(session.execute(waiting).scalar_one())

        wait_until(waits, seconds=30, what="the migration waits for the foreign transaction")
        for number in range(20):
            with database.write() as session:
                session.execute(text("SET LOCAL lock_timeout = '2s'"))
                session.execute(insert, {"id": str(number)})
                session.execute(claim, {"id": str(number)})
        assert waits()
    finally:
        foreign.close()
        migration.join(60)
    assert schema_version(database) == expected_schema_version()
    with database.read() as session:
        broken = session.execute(text("SELECT count(*) FROM pg_index WHERE NOT indisvalid")).scalar_one()
    assert broken == 0
    database.dispose()


def test_an_index_that_was_left_half_made_is_made_anew(empty_postgres_url: str) -> None:
    database = _at_previous(empty_postgres_url)
    with database.write() as session:
        session.execute(text("CREATE INDEX ix_tasks_name ON tasks (name)"))
        session.execute(text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_tasks_name'::regclass"))
    migrate(database)
    with database.read() as session:
        made = session.execute(text("SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_tasks_name'")).scalar_one()
    assert "(name, created_at, id)" in made
    database.dispose()
