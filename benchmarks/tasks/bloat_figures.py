"""What the bloat runs read from PostgreSQL: work done in a span of time, states of tables, costs of statements.

Both systems keep the moments of every task in their own rows, by the database's clock, so nothing has to be counted
while they run. The two sign in as users of their own, by which their statements are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812  # it is a class

BIN_SECONDS = 5
# Throughput is judged over three bins at a time.
WINDOW_BINS = 3
WINDOW_SECONDS = BIN_SECONDS * WINDOW_BINS


@dataclass(frozen=True)
class System:
    """One of the two: its name in the table, its user in the database, its tables, and how its rows tell moments."""

    name: str
    user: str
    tables: tuple[str, ...]
    finished: str
    latencies: str
    waiting: str


OURS = System(
    name="SicargaBox",
    user="sicargabox",
    tables=("tasks",),
    finished="SELECT finished_at AS at FROM tasks WHERE finished_at >= %(begin)s AND finished_at < %(end)s",
    latencies="SELECT extract(epoch FROM started_at - run_at) AS took FROM tasks"
    " WHERE finished_at >= %(begin)s AND finished_at < %(end)s",
    waiting="SELECT EXISTS (SELECT FROM tasks WHERE finished_at IS NULL AND state IN ('PENDING', 'RETRY', 'STARTED'))",
)
PEER = System(
    name="Procrastinate",
    user="procrastinate",
    tables=("procrastinate_jobs", "procrastinate_events"),
    finished="SELECT at FROM procrastinate_events WHERE type = 'succeeded' AND at >= %(begin)s AND at < %(end)s",
    latencies="SELECT extract(epoch FROM started.at - deferred.at) AS took FROM procrastinate_events AS started"
    " JOIN procrastinate_events AS deferred ON deferred.job_id = started.job_id AND deferred.type = 'deferred'"
    " WHERE started.type = 'started' AND started.at >= %(begin)s AND started.at < %(end)s",
    waiting="SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))",
)
SYSTEMS = (OURS, PEER)


@dataclass(frozen=True)
class Served:
    """What a system finished in a span: tasks per second in each full bin, all of them, and claim latencies in ms."""

    bins: tuple[float, ...]
    finished: int
    last_after: float
    p50: float
    p99: float

    @property
    def windows(self) -> list[float]:
        """Tasks per second over each 15 s, beginning every 5 s."""
        return [
            sum(self.bins[start : start + WINDOW_BINS]) / WINDOW_BINS
            for start in range(len(self.bins) - WINDOW_BINS + 1)
        ]

    @property
    def least(self) -> float:
        """The slowest window."""
        return min(self.windows, default=0.0)

    @property
    def usual(self) -> float:
        """The median window."""
        return median(self.windows or [0.0])

    def seconds_until(self, rate: float) -> float | None:
        """When the first window of at least ``rate`` begins, from the beginning of the span; none: never in it."""
        return next((BIN_SECONDS * number for number, one in enumerate(self.windows) if one >= rate), None)


@dataclass(frozen=True)
class Tables:
    """The state of a system's tables now, summed over them; sizes in bytes, the rest as the statistics count."""

    dead: int
    live: int
    inserted: int
    updated: int
    hot: int
    vacuums: int
    table_bytes: int
    index_bytes: int


@dataclass(frozen=True)
class Statement:
    """What one statement of a system cost since the last reset."""

    system: str
    text: str
    calls: int
    total_ms: float
    blocks: int


def connect(url: str) -> Connection:
    """A connection of the benchmark's own, each statement its own transaction."""
    connection = psycopg2.connect(url, application_name="benchmark")
    connection.autocommit = True
    return connection


def rows(connection: Connection, statement: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """All rows of a statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def value(connection: Connection, statement: str, parameters: dict[str, Any] | None = None) -> Any:
    """The one value of a statement."""
    return rows(connection, statement, parameters)[0][0]


def now(connection: Connection) -> datetime:
    """The database's clock."""
    moment: datetime = value(connection, "SELECT clock_timestamp()")
    return moment


def served(connection: Connection, system: System, begin: datetime, end: datetime) -> Served:
    """What ``system`` finished from ``begin`` to ``end``; the last bin, if it is not full, is left out."""
    span = {"begin": begin, "end": end}
    found = rows(
        connection,
        f"SELECT floor(extract(epoch FROM at - %(begin)s) / {BIN_SECONDS})::int, count(*),"
        f" max(extract(epoch FROM at - %(begin)s))::float FROM ({system.finished}) AS done GROUP BY 1",
        span,
    )
    counts = {number: count for number, count, _ in found}
    full = int((end - begin).total_seconds() // BIN_SECONDS)
    p50, p99 = rows(
        connection,
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY took), percentile_cont(0.99) WITHIN GROUP (ORDER BY took)"
        f" FROM ({system.latencies}) AS all_of_them",
        span,
    )[0]
    return Served(
        bins=tuple(counts.get(number, 0) / BIN_SECONDS for number in range(full)),
        finished=sum(counts.values()),
        last_after=max((last for _, _, last in found), default=0.0),
        p50=1000 * float(p50 or 0),
        p99=1000 * float(p99 or 0),
    )


def tables(connection: Connection, system: System) -> Tables:
    """The state of its tables."""
    (found,) = rows(
        connection,
        "SELECT sum(n_dead_tup)::bigint, sum(n_live_tup)::bigint, sum(n_tup_ins)::bigint, sum(n_tup_upd)::bigint,"
        " sum(n_tup_hot_upd)::bigint, sum(autovacuum_count)::bigint, sum(pg_table_size(relid))::bigint,"
        " sum(pg_indexes_size(relid))::bigint FROM pg_stat_user_tables WHERE relname = ANY(%(names)s)",
        {"names": list(system.tables)},
    )
    return Tables(*map(int, found))


def forget_statements(connection: Connection) -> None:
    """Begins to count the cost of statements anew."""
    rows(connection, "SELECT pg_stat_statements_reset()")


def statements(connection: Connection, system: System) -> list[Statement]:
    """Every statement of ``system`` since, the costliest first."""
    found = rows(
        connection,
        "SELECT regexp_replace(query, '\\s+', ' ', 'g'), calls, total_exec_time,"
        " shared_blks_hit + shared_blks_read FROM pg_stat_statements"
        " JOIN pg_roles ON pg_roles.oid = userid WHERE rolname = %(user)s ORDER BY total_exec_time DESC",
        {"user": system.user},
    )
    return [Statement(system.name, *one) for one in found]
