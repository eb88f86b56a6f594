"""Laws of the database module, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

import sicargabox_core.accounts.models
import sicargabox_core.catalogue.models
import sicargabox_core.tasks.models  # noqa: F401  # they fill Base.metadata
from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.db import Base, Database, db_now, expected_schema_version, migrate, schema_version
from sicargabox_core.errors import InvalidSetting, Unavailable
from sicargabox_core.tasks.models import CounterRow


def _line(**values: object) -> TariffLine:
    return TariffLine(
        **{
            "code": "0101210000",
            "level": "LINE",
            "position": 1,
            "description_es": "x",
            "declarable": True,
            "source": "starter",
            **values,
        }
    )


def test_the_migrations_make_exactly_the_declared_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_write_is_kept_and_a_read_is_not(database: Database) -> None:
    with database.write() as session:
        session.add(CounterRow(name="kept", value=1))
    with database.read() as session:
        session.add(CounterRow(name="dropped", value=1))
        session.flush()
    with database.read() as session:
        assert list(session.scalars(select(CounterRow.name))) == ["kept"]


def test_a_write_that_raises_changes_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError, match="half way"), database.write() as session:
        session.add(CounterRow(name="half", value=1))
        session.flush()
        raise RuntimeError("half way")
    with database.read() as session:
        assert session.scalars(select(CounterRow)).all() == []


def test_duties_keep_every_digit(database: Database) -> None:
    duties = [Decimal("0.1"), Decimal(15), Decimal("0.3333"), Decimal("12345.6789")]
    with database.write() as session:
        session.add_all(_line(code=f"010121000{n}", dai=duty) for n, duty in enumerate(duties))
    with database.read() as session:
        assert list(session.scalars(select(TariffLine.dai).order_by(TariffLine.code))) == duties


def test_times_are_aware_compare_across_zones_and_come_from_the_database(database: Database) -> None:
    noon = datetime(2026, 11, 23, 12, 0, 0, 123000, tzinfo=timezone(timedelta(hours=-6)))
    with database.write() as session:
        session.add(_line(created_at=noon))
    with database.read() as session:
        assert session.scalars(select(TariffLine.created_at)).one() == noon.astimezone(UTC)
        assert session.scalar(select(TariffLine.created_at == noon))
        earlier, now, later = session.execute(select(db_now(-90.5), db_now(), db_now(90.5))).one()
    assert earlier.tzinfo is UTC
    assert timedelta(seconds=89) < now - earlier < timedelta(seconds=92)
    assert timedelta(seconds=89) < later - now < timedelta(seconds=92)


def test_an_offset_may_be_a_column(database: Database) -> None:
    with database.write() as session:
        session.add(_line(position=3600))
    with database.read() as session:
        later, now = session.execute(select(db_now(TariffLine.position), db_now())).one()
    assert timedelta(minutes=59) < later - now < timedelta(minutes=61)


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(Exception, match="zone"), database.write() as session:
        session.add(_line(created_at=datetime(2026, 1, 1)))  # noqa: DTZ001  # the fault under test
        session.flush()


def _migrate(url: str) -> int:
    return migrate(Database(url))


def test_migration_jobs_at_once_leave_one_schema(tmp_path_factory: pytest.TempPathFactory) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('db') / 'new.db'}"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_migrate, [url] * 3) == [expected_schema_version()] * 3


def test_migration_jobs_at_once_leave_one_schema_on_postgresql(empty_postgres_url: str) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_migrate, [empty_postgres_url] * 3) == [expected_schema_version()] * 3


def test_an_older_release_leaves_a_newer_schema_alone(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert migrate(database) == 9999
    assert schema_version(database) == 9999


def test_writers_of_one_process_take_turns_instead_of_finding_sqlite_locked(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    # SQLite itself waits for nobody here: whoever asks out of turn fails at once.
    event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 0"))

    def write(number: int) -> None:
        if number % 2:
            with database.write() as session:
                session.execute(insert(CounterRow).values(name=f"turn {number}", value=number))
        else:
            database.at_once(insert(CounterRow).values(name=f"turn {number}", value=number).returning(CounterRow.value))

    with multiprocessing.pool.ThreadPool(8) as pool:
        pool.map(write, range(80))
    with database.read() as session:
        assert session.scalar(select(func.count()).where(CounterRow.name.like("turn %"))) == 80
    database.dispose()


def test_two_writers_wait_for_each_other(database: Database) -> None:
    with database.write() as session:
        session.add(CounterRow(name="shared", value=0))
    threads = multiprocessing.pool.ThreadPool(4)
    raise_it = update(CounterRow).where(CounterRow.name == "shared").values(value=CounterRow.value + 1)

    def raise_often(_: int) -> None:
        for _ in range(10):
            with database.write() as session:
                session.execute(raise_it)

    with threads:
        threads.map(raise_often, range(4))
    with database.read() as session:
        assert session.scalar(select(CounterRow.value)) == 40


@pytest.mark.parametrize("url", ["mysql://host/db", "not a url"])
def test_another_database_is_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(InvalidSetting, match=r"SICARGABOX_DATABASE_URL.*postgresql://"):
        Database(url)


def test_a_database_that_is_away_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        Database("postgresql://nobody@127.0.0.1:1/none").ping()


def test_one_statement_alone_is_kept_and_tells_its_row(database: Database) -> None:
    new = insert(CounterRow).values(name="alone", value=1).returning(CounterRow.value)
    row = database.at_once(new)
    assert row is not None
    assert row.value == 1
    with pytest.raises(IntegrityError):
        database.at_once(new)
    row = database.at_once(select(CounterRow.value).where(CounterRow.name == "alone"))
    assert row is not None
    assert row.value == 1


def test_a_write_after_a_statement_alone_is_a_transaction_again(database: Database) -> None:
    database.at_once(select(CounterRow.value))
    with pytest.raises(RuntimeError, match="half way"), database.write() as session:
        session.execute(insert(CounterRow).values(name="half", value=1))
        raise RuntimeError("half way")
    assert database.at_once(select(CounterRow.value)) is None


def test_a_connection_that_the_server_ended_is_replaced_before_its_next_use(postgres_url: str) -> None:
    database, other = Database(postgres_url), Database(postgres_url)
    with database.read() as session:
        ended = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with other.write() as session:
        session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": ended})
    with database.write() as session:
        assert session.execute(text("SELECT pg_backend_pid()")).scalar_one() != ended
    for one in (database, other):
        one.dispose()
