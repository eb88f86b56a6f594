"""The test servers keep their promises; other tests lean on them."""

from __future__ import annotations

from sqlalchemy import text

from sicargabox_core.db import Database, expected_schema_version, schema_version


def test_each_test_gets_a_migrated_database_of_its_own(postgres_url: str) -> None:
    database = Database(postgres_url)
    try:
        assert schema_version(database) == expected_schema_version()
        with database.write() as session:
            session.execute(text("CREATE TABLE left_behind (n int)"))
    finally:
        database.dispose()


def test_what_one_test_leaves_behind_no_other_test_sees(postgres_url: str) -> None:
    database = Database(postgres_url)
    try:
        with database.read() as session:
            assert session.scalar(text("SELECT to_regclass('left_behind')")) is None
    finally:
        database.dispose()


def test_commits_are_synchronous_as_in_production(postgres_url: str) -> None:
    database = Database(postgres_url)
    try:
        with database.read() as session:
            assert session.scalar(text("SHOW synchronous_commit")) == "on"
    finally:
        database.dispose()


def test_an_empty_database_has_no_schema(empty_postgres_url: str) -> None:
    database = Database(empty_postgres_url)
    try:
        assert schema_version(database) == 0
    finally:
        database.dispose()


def test_one_test_runs_on_both_kinds_of_database(database: Database) -> None:
    assert schema_version(database) == expected_schema_version()
