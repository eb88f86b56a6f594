"""The one module that knows how SQLite and PostgreSQL differ.

It gives engines, sessions, the database's clock, exact decimals and migrations. It knows no table: each package
declares its own on ``Base``.

Transactions. ``Database.read()`` gives a session for reading, ``Database.write()`` one transaction that commits when
the block ends and rolls back on any exception. On SQLite every writer starts with ``BEGIN IMMEDIATE``: a deferred
transaction that upgrades from read to write fails with "database is locked" at once, whatever the busy timeout is.

``Database.at_once()`` is for one statement that is all there is to a transaction, where every round trip counts.

Time. Hosts' clocks may differ by hours, so every stored time comes from the database: ``db_now()`` in SQL.
"""

from __future__ import annotations

import contextlib
import re
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.errors import DeadlockDetected, LockNotAvailable
from psycopg2.extensions import POLL_OK, POLL_READ, STATUS_SETUP, set_wait_callback
from sqlalchemy import (
    JSON,
    Dialect,
    Engine,
    Executable,
    MetaData,
    Numeric,
    Row,
    SQLColumnExpression,
    String,
    Table,
    create_engine,
    event,
    func,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from sicargabox_core.errors import InvalidSetting, Unavailable
from sicargabox_core.settings import ENV_PREFIX, Settings

# Alembic is imported where it is used: it brings templates and a highlighter of source code, 0.2 s of processor time,
# and of all processes only those that migrate or compare the schema's version need it.
if TYPE_CHECKING:
    from alembic.config import Config

# Two seconds: a writer waits for another's short transaction, and a stuck one is reported before a browser gives up.
SQLITE_BUSY_TIMEOUT_MS = 2000
# A connection that was idle for longer is asked whether its server still hears it: routers forget silent ones.
TRUSTED_SECONDS = 10.0
CONNECT_SECONDS = 3.0
# After the server's own limit of a statement it is silent: frozen, or cut off.
SILENCE_SECONDS = 3.0
# "sicarga" as a number: one advisory lock per PostgreSQL database keeps two migration jobs apart.
MIGRATION_LOCK = 0x51CA46A
# A migration asks for a lock for a second at most, then lets everyone through, and gives up after this long.
MIGRATION_PAUSE_SECONDS = 0.2
MIGRATION_PATIENCE_SECONDS = 300.0


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, always aware and in UTC.

    SQLite keeps it as text ``YYYY-MM-DD HH:MM:SS.mmm``, the very form of ``db_now()``, so texts compare as times do.
    """

    impl = TIMESTAMP(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(23))
        return dialect.type_descriptor(TIMESTAMP(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored time must carry its zone")
        value = value.astimezone(UTC)
        if dialect.name == "sqlite":
            return f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03d}"
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class ExactDecimal(TypeDecorator[Decimal]):
    """A decimal that keeps every digit: NUMERIC on PostgreSQL, text on SQLite (whose NUMERIC is a float)."""

    impl = Numeric(9, 4)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(String(12) if dialect.name == "sqlite" else Numeric(9, 4))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        quantized = value.quantize(Decimal("0.0001"))
        return str(quantized) if dialect.name == "sqlite" else quantized

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


# JSON as text on SQLite, JSONB on PostgreSQL.
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class db_now(FunctionElement[datetime]):  # noqa: N801  # reads as the SQL function it is
    """The database's clock now, plus ``offset`` seconds (a number or an SQL expression).

    PostgreSQL: ``clock_timestamp()``, since ``now()`` stands still inside a transaction. SQLite: ``strftime`` with
    milliseconds, because Python 3.11's SQLite knows no ``unixepoch('subsec')``.
    """

    type = UtcDateTime()
    inherit_cache = True
    name = "db_now"

    def __init__(self, offset: float | SQLColumnExpression[Any] = 0.0) -> None:
        super().__init__(offset)


@compiles(db_now, "sqlite")
def _db_now_sqlite(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    offset = compiler.process(element.clauses.clauses[0], **kw)
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%+.3f seconds', {offset}))"


@compiles(db_now, "postgresql")
def _db_now_postgresql(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    offset = compiler.process(element.clauses.clauses[0], **kw)
    return f"(clock_timestamp() + make_interval(secs => CAST({offset} AS double precision)))"


class Base(DeclarativeBase):
    """Parent of every table; names of constraints are fixed so that migrations can find them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


@dataclass(frozen=True)
class Limits:
    """How long PostgreSQL lets one connection's statement run, wait for a lock, and leave a transaction open."""

    statement_seconds: float = 30.0
    lock_seconds: float = 5.0
    idle_transaction_seconds: float = 60.0


_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """In this block PostgreSQL is waited for ``seconds`` in all; then its connection is closed, as if it were lost.

    For what must know soon that a server is frozen or cut off: it answers nothing then, so its own time-outs are of no
    use, and TCP takes the kernel's word of a frozen process for an answer.
    """
    token = _deadline.set(min(_deadline.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


class _Connection(psycopg2.extensions.connection):  # type: ignore[misc]  # psycopg2 ships no types
    """A connection whose every answer is waited for no longer than ``answer_seconds``."""

    answer_seconds = float("inf")


def _postgres_arguments(limits: Limits) -> dict[str, Any]:
    class Bounded(_Connection):
        # A statement that the server itself ended in time is told as that, not as a lost connection.
        answer_seconds = limits.statement_seconds + SILENCE_SECONDS

    timeouts = {
        "statement_timeout": limits.statement_seconds,
        "lock_timeout": limits.lock_seconds,
        "idle_in_transaction_session_timeout": limits.idle_transaction_seconds,
    }
    return {
        "connection_factory": Bounded,
        "application_name": "sicargabox",
        "options": "-c timezone=utc " + " ".join(f"-c {name}={value * 1000:.0f}" for name, value in timeouts.items()),
        # A host that is gone without a word is noticed on an idle connection after 5 + 3 x 5 s, and on one with
        # something under way after 10 s; the system's own answer to that takes hours and a quarter of one.
        "keepalives": 1,
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }


def _wait(waiting: psycopg2.extensions.connection) -> None:
    """Waits for PostgreSQL in place of libpq, which would wait for ever for a server that is silent."""
    allowed = CONNECT_SECONDS
    if waiting.status != STATUS_SETUP:
        allowed = waiting.answer_seconds if isinstance(waiting, _Connection) else float("inf")
    give_up = min(time.monotonic() + allowed, _deadline.get())
    while (state := waiting.poll()) != POLL_OK:
        ready = select.poll()
        ready.register(waiting.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
        left = max(0.0, give_up - time.monotonic())
        if not ready.poll(None if left == float("inf") else left * 1000):
            raise psycopg2.OperationalError("the server does not answer")


class Database:
    """A database and the two ways into it. One per process (and one anew after a fork)."""

    def __init__(self, url: str, *, pool_size: int = 10, limits: Limits | None = None) -> None:
        """Connects to nothing yet. Raises ``InvalidSetting`` when ``url`` is not SQLite's or PostgreSQL's.

        Errors of its statements never tell the values they were about, which may be anybody's.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise InvalidSetting(
                "not a database address",
                field=f"{ENV_PREFIX}DATABASE_URL",
                remedy="Use postgresql://user:password@host/name.",
            ) from error
        backend = parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise InvalidSetting(
                f"{backend} is not supported",
                field=f"{ENV_PREFIX}DATABASE_URL",
                remedy="Use postgresql://… or sqlite:///….",
            )
        self.is_sqlite = backend == "sqlite"
        limits = limits or Limits()
        if self.is_sqlite:
            self.engine = create_engine(
                parsed,
                hide_parameters=True,
                connect_args={"check_same_thread": False},
                pool_size=pool_size,
            )
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = create_engine(
                parsed.set(drivername="postgresql+psycopg2"),
                hide_parameters=True,
                pool_size=pool_size,
                max_overflow=0,
                pool_timeout=5,
                connect_args=_postgres_arguments(limits),
            )
            set_wait_callback(_wait)
            event.listen(self.engine, "checkin", _note_use)
            event.listen(self.engine, "checkout", _refuse_dead_ones(self.engine.dialect))
        self._writer = self.engine.execution_options(sqlite_begin="IMMEDIATE")
        self._writing = threading.Lock()
        self._alone = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @classmethod
    def from_settings(cls, settings: Settings, *, statement_seconds: float | None = None) -> Database:
        """The database that the settings name; ``statement_seconds``: a shorter limit, where a person waits."""
        limits = Limits(
            statement_seconds=min(settings.database_statement_seconds, statement_seconds or float("inf")),
            lock_seconds=settings.database_lock_seconds,
            idle_transaction_seconds=settings.database_idle_transaction_seconds,
        )
        return cls(settings.effective_database_url, pool_size=settings.database_pool_size, limits=limits)

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; what it writes is never committed."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with self._turn(), Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def at_once(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Row[Any] | None:
        """The first row of one statement that is a transaction of its own; committed when this returns.

        PostgreSQL is asked once, where BEGIN, the statement and COMMIT are three round trips.
        """
        engine = self._writer if self.is_sqlite and getattr(statement, "is_dml", False) else self._alone
        with self._turn() if engine is self._writer else contextlib.nullcontext(), engine.connect() as connection:
            row = connection.execute(statement, parameters).first()
            connection.commit()
        return row

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """On SQLite this process's writers take turns before they ask for the file's one lock.

        SQLite itself has no line: a writer sleeps and tries again, and with 32 clients at once some found the lock
        taken at every try for two seconds and failed. Whoever waited that long here is left to SQLite's own wait.
        """
        mine = self.is_sqlite and self._writing.acquire(timeout=SQLITE_BUSY_TIMEOUT_MS / 1000)
        try:
            yield
        finally:
            if mine:
                self._writing.release()

    def now(self) -> datetime:
        """The database's clock."""
        with self.read() as session:
            return session.scalars(func.coalesce(db_now(), db_now()).select()).one()

    def ping(self) -> None:
        """Raises ``Unavailable`` when the database does not answer, or the pool gives no connection within 5 s."""
        try:
            with patience(CONNECT_SECONDS), self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except (OperationalError, PoolTimeout) as error:
            raise Unavailable("the database does not answer") from error

    def dispose(self) -> None:
        """Closes every connection; a forked child calls it before its first use."""
        self.engine.dispose()


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # None: the driver starts no transaction by itself; _begin_sqlite does, of the right kind.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    # FULL: a committed task survives the loss of power, not only of the process.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    mode = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


def _note_use(_connection: Any, entry: ConnectionPoolEntry) -> None:
    entry.info["used"] = time.monotonic()


def _refuse_dead_ones(dialect: Dialect) -> Callable[[Any, ConnectionPoolEntry, PoolProxiedConnection], None]:
    """Has the pool make a new connection in place of one whose server has gone; a look, where a ping is a round trip.

    A server says nothing on an idle connection, except good-bye, and the socket shows it. The ping decides then, since
    a notice is possible too, and it is asked of connections that were idle for long. SQLAlchemy's own
    ``pool_pre_ping`` asks every time, which was a quarter of all that running tasks asked of PostgreSQL.
    """

    def refuse(connection: Any, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        used = entry.info.get("used")
        if used is None:
            return
        try:
            look = select.poll()
            look.register(connection.fileno(), select.POLLIN)
            if time.monotonic() - used >= TRUSTED_SECONDS or look.poll(0):
                dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error

    return refuse


def _alembic(database: Database) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["engine"] = database.engine
    return config


def _number(revision: str | None) -> int:
    match = re.match(r"\d+", revision or "")
    return int(match.group()) if match else 0


def schema_version(database: Database) -> int:
    """The number of the newest migration the database has had; 0 for an empty one."""
    from alembic.runtime.migration import MigrationContext

    with database.engine.connect() as connection:
        return _number(MigrationContext.configure(connection).get_current_revision())


def expected_schema_version() -> int:
    """The number of the newest migration this release carries."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    return _number(script.get_current_head())


def migrate(database: Database) -> int:
    """Brings the schema to this release's version and returns the version found afterwards.

    A database that is already newer is left alone: after a rollback the older release's migration job must succeed.
    Two jobs at once are safe: the second waits and finds nothing to do.
    """
    from alembic import command

    give_up = time.monotonic() + MIGRATION_PATIENCE_SECONDS
    with _migration_lock(database):
        while schema_version(database) < expected_schema_version():
            try:
                command.upgrade(_alembic(database), "head")
            except OperationalError as error:
                if not _lock_refused(error):
                    raise
                if time.monotonic() >= give_up:
                    raise Unavailable(
                        "the tables are in use without a pause, and could not be changed",
                        remedy="See pg_stat_activity for a transaction that stays open, end it, and migrate again.",
                    ) from error
                time.sleep(MIGRATION_PAUSE_SECONDS)
    return schema_version(database)


def _lock_refused(error: OperationalError) -> bool:
    return isinstance(error.orig, LockNotAvailable | DeadlockDetected)


@contextlib.contextmanager
def _migration_lock(database: Database) -> Iterator[None]:
    if database.is_sqlite:
        import fcntl

        location = database.engine.url.database
        if not location or location == ":memory:":
            yield
            return
        path = Path(location)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".migrate.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        return
    alone = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with alone.connect() as connection:
        # Asked for again and again: a statement that waits is a transaction, and an index made beside running writes
        # waits for all of them; the second job would wait for the first and the first for the second.
        while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}).scalar():
            time.sleep(MIGRATION_PAUSE_SECONDS)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})


@dataclass(frozen=True)
class Durability:
    """What decides whether a commit survives a crash; ``remedy`` is set when it may not."""

    settings: dict[str, str]
    remedy: str | None = None


def durability(database: Database) -> Durability:
    """Whether "committed" means "on the disk" for this database, as its connections are set up."""
    with database.engine.connect() as connection:
        if database.is_sqlite:
            found = {
                name: str(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("journal_mode", "synchronous")
            }
            good = found["journal_mode"] == "wal" and found["synchronous"] in ("2", "3")
            remedy = "Keep the file on a local disk: network file systems have no write-ahead log."
        else:
            found = {
                name: str(connection.execute(text(f"SHOW {name}")).scalar_one())
                for name in ("synchronous_commit", "fsync", "full_page_writes")
            }
            good = found["synchronous_commit"] != "off" and found["fsync"] == found["full_page_writes"] == "on"
            remedy = "Set synchronous_commit, fsync and full_page_writes to on in PostgreSQL's configuration."
    return Durability(found, None if good else remedy)


@dataclass(frozen=True)
class Connections:
    """What a PostgreSQL server allows: ``most`` for people like us, ``open`` of all databases now."""

    most: int
    open: int


def connections(database: Database) -> Connections | None:
    """How many connections the server allows and has; None on SQLite, which has no server."""
    if database.is_sqlite:
        return None
    counted = text(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,"
        " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
    )
    with database.engine.connect() as connection:
        most, present = connection.execute(counted).one()
    return Connections(most, present)


def insert_if_new(target: Session | Database, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that does nothing when any unique index already holds such a row."""
    engine = target.engine if isinstance(target, Database) else engine_of(target)
    if engine.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()


def wait_for_locks(session: Session) -> None:
    """Lets this transaction wait for others' locks until its statements time out (PostgreSQL: 30 s, not 5 s).

    For a rare, long transaction that runs beside its own kind, such as two first starts loading the same catalogue.
    SQLite has one writer at a time and waits for it when the transaction begins.
    """
    if engine_of(session).dialect.name == "postgresql":
        session.execute(text("SET LOCAL lock_timeout = 0"))


def engine_of(session: Session) -> Engine:
    """The engine behind a session, for the rare statement that must know the dialect."""
    bind = session.get_bind()
    return bind if isinstance(bind, Engine) else bind.engine
