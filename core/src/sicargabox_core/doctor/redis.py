"""Redis and the processes that report through it: its memory policy and durability, the workers, the scheduler."""

from __future__ import annotations

from collections.abc import Iterator

from sicargabox_core.db import Database
from sicargabox_core.doctor.findings import Finding, fault, ok, unknown, warning
from sicargabox_core.errors import Unavailable
from sicargabox_core.laptop.folders import Folders, holder
from sicargabox_core.redis_report import RedisReport, memory_report
from sicargabox_core.redis_server import Db, RedisError, connect, parse_address
from sicargabox_core.settings import ENV_PREFIX, Settings
from sicargabox_core.tasks.presence import last_pass_of_scheduler
from sicargabox_core.tasks.queues import queue_figures

_POLICY = "volatile-lru"
# The first with ACL and the commands kombu's present transport uses.
_LEAST_VERSION = (6, 2)
_MEMORY_HIGH = 0.85


def server(settings: Settings) -> Iterator[Finding]:
    """Whether Redis answers on the databases in use, keeps what it must, and evicts only what it may."""
    where = ", ".join(f"{host}:{port}" for host, port in parse_address(settings).hosts)
    try:
        report = memory_report(settings)
    except Unavailable as error:
        # Accepted tasks are in SQL and searches go on, but nothing runs.
        yield fault("redis", f"{where}: {error.__cause__ or error}", _remedy_when_away(settings))
        return
    databases = ", ".join(f"DB {one.db} {one.name} {_megabytes(one.bytes)}" for one in report.databases)
    yield ok("redis", f"{where}, {report.role}, version {report.version}; {databases}")
    yield from _version(report)
    yield from _memory(report)
    yield from _persistence(report)


def _remedy_when_away(settings: Settings) -> str:
    if not settings.embedded_redis:
        return f"Start it, or correct {ENV_PREFIX}REDIS_URL and its password."
    folders = Folders.of(settings.data_dir)
    if holder(folders) is None:
        return "Start `sicargabox run`."
    return (
        f"`sicargabox run` keeps it running: set {ENV_PREFIX}REDIS_PORT and {ENV_PREFIX}REDIS_PASSWORD as they were "
        f"there, or see {folders.logs}/redis.log."
    )


def _version(report: RedisReport) -> Iterator[Finding]:
    found = tuple(int(part) for part in report.version.split(".")[:2] if part.isdigit())
    if found < _LEAST_VERSION:
        yield warning("redis version", report.version, "Use Redis 6.2 or newer, or any Valkey.")
    else:
        yield ok("redis version", report.version)


def _memory(report: RedisReport) -> Iterator[Finding]:
    if report.policy == _POLICY:
        yield ok("redis policy", report.policy)
    elif report.policy.startswith("allkeys"):
        yield fault(
            "redis policy",
            f"{report.policy} deletes whole queues when memory is full",
            f"Set {_POLICY}; redis/redis.conf.",
        )
    else:
        yield warning("redis policy", report.policy, f"Set {_POLICY}, as redis/redis.conf does.")
    if not report.maximum:
        yield warning(
            "redis memory", f"{_megabytes(report.used)} used, no limit", "Set maxmemory, as redis/redis.conf does."
        )
    elif report.used > _MEMORY_HIGH * report.maximum:
        yield warning(
            "redis memory",
            f"{_megabytes(report.used)} of {_megabytes(report.maximum)} used",
            "See which database is over its budget: `GET /api/v1/redis`.",
        )
    else:
        yield ok("redis memory", f"{_megabytes(report.used)} of {_megabytes(report.maximum)} used")
    for one in report.databases:
        if one.budget is not None and one.bytes > one.budget:
            yield warning(
                "redis memory",
                f"DB {one.db} ({one.name}) holds {_megabytes(one.bytes)} of {_megabytes(one.budget)}",
                "Add workers if it is the broker; lower SICARGABOX_RESULT_TTL_SECONDS if it is the results.",
            )


def _persistence(report: RedisReport) -> Iterator[Finding]:
    if not report.persistence_ok:
        yield fault("redis persistence", "its last save to disk failed", "See its log: a full disk or missing rights.")
    elif not report.append_only:
        yield warning(
            "redis persistence",
            "no append-only file: a restart forgets messages, which the scheduler then sends again",
            "Set appendonly yes, as redis/redis.conf does.",
        )
    else:
        yield ok("redis persistence", "append-only file, last save succeeded")


def processes(settings: Settings, database: Database) -> Iterator[Finding]:
    """Whether each queue has a worker, and whether a scheduler is alive."""
    with connect(settings, Db.BROKER) as broker:
        figures = queue_figures(database, broker)
        try:
            last_pass, seen = last_pass_of_scheduler(broker), True
        except RedisError:
            last_pass, seen = None, False
    for one in figures:
        check = f"queue {one.queue}"
        waits = f"{one.waiting:,} waiting, {one.running:,} running"
        if one.workers is None:
            yield unknown(check, f"{waits}; workers cannot be seen without Redis")
        elif one.workers:
            yield ok(check, f"{one.workers} workers, {waits}")
        elif one.waiting:
            yield fault(check, f"no worker listens, {waits}", "Start its worker, or `sicargabox run`.")
        else:
            # An autoscaler may have sent them home.
            yield warning(check, "no worker listens; nothing waits", "Start its worker, or `sicargabox run`.")
    if not seen:
        yield unknown("scheduler", "cannot be seen without Redis")
    elif last_pass is None:
        yield fault(
            "scheduler",
            "none has reported; lost messages, retries and schedules wait",
            "Start `sicargabox scheduler`, or `sicargabox run`.",
        )
    else:
        yield ok("scheduler", f"last pass at {last_pass:%Y-%m-%d %H:%M:%S} UTC")


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MB"
