"""Redis and the processes that report through it: its memory policy and durability, the workers, the scheduler."""

from __future__ import annotations

from collections.abc import Iterator

from sicargabox_core.db import Database
from sicargabox_core.doctor.findings import Finding, fault, ok, unknown, warning
from sicargabox_core.errors import Unavailable
from sicargabox_core.laptop.folders import Folders, holder
from sicargabox_core.redis_report import RedisReport, megabytes, memory_report, refusal
from sicargabox_core.redis_server import Db, RedisError, connect, parse_address
from sicargabox_core.settings import ENV_PREFIX, Settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.presence import last_pass_of_scheduler
from sicargabox_core.tasks.queues import queue_figures

# The first with ACL and the commands kombu's present transport uses.
_LEAST_VERSION = (6, 2)


def server(settings: Settings) -> Iterator[Finding]:
    """Whether Redis answers on the databases in use, keeps what it must, and evicts only what it may."""
    where = ", ".join(f"{host}:{port}" for host, port in parse_address(settings).hosts)
    try:
        report = memory_report(settings)
    except Unavailable as error:
        # Accepted tasks are in SQL and searches go on, but nothing runs.
        yield fault("redis", f"{where}: {error.__cause__ or error}", _remedy_when_away(settings))
        return
    databases = ", ".join(f"DB {one.db} {one.name} {megabytes(one.bytes)}" for one in report.databases)
    yield ok("redis", f"{where}, {report.role}, version {report.version}; {databases}")
    yield from _version(report)
    yield from _state(report)


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


def _well(report: RedisReport) -> Iterator[tuple[str, str]]:
    """What is said of each side of Redis when nothing is wrong with it."""
    yield "writes", "it takes messages"
    yield "memory", f"{megabytes(report.used)} of {megabytes(report.maximum)} used"
    yield "policy", report.policy
    yield "persistence", "append-only file, last save succeeded"
    if report.sentinels:
        online = sum(one.state == "online" for one in report.replicas)
        yield "replication", f"{online} replicas follow, {len(report.sentinels)} Sentinels answer"


def _state(report: RedisReport) -> Iterator[Finding]:
    for about, detail in _well(report):
        found = [one for one in report.faults if one.about == about]
        for one in found:
            say = fault if one.grave else warning
            yield say(f"redis {about}", one.detail, one.remedy)
        if not found:
            yield ok(f"redis {about}", detail)


def processes(settings: Settings, database: Database) -> Iterator[Finding]:
    """Whether each queue has a worker, and whether a scheduler is alive."""
    with connect(settings, Db.BROKER, replica_ok=True) as broker:
        figures = queue_figures(database, broker)
        try:
            last_pass, seen = last_pass_of_scheduler(broker), True
        except RedisError:
            last_pass, seen = None, False
    # Who lives says so by writing a key that expires: nobody can while no write is taken, and the old keys go first.
    mute = seen and _takes_no_writes(settings)
    for one in figures:
        check = f"queue {one.queue}"
        waits = f"{one.waiting:,} waiting, {one.running:,} running"
        if one.without_message:
            waits += f", {one.without_message:,} without a message"
        if one.workers is None:
            yield unknown(check, f"{waits}; workers cannot be seen without Redis")
        elif mute and not one.workers:
            yield unknown(check, f"{waits}; workers cannot be seen while Redis takes no writes")
        elif one.workers:
            yield ok(check, f"{one.workers} workers, {waits}")
        elif one.waiting:
            yield fault(check, f"no worker listens, {waits}", "Start its worker, or `sicargabox run`.")
        else:
            # An autoscaler may have sent them home.
            yield warning(check, "no worker listens; nothing waits", "Start its worker, or `sicargabox run`.")
    if not seen:
        yield unknown("scheduler", "cannot be seen without Redis")
    elif mute and last_pass is None:
        yield unknown("scheduler", "cannot be seen while Redis takes no writes")
    elif last_pass is None:
        yield fault(
            "scheduler",
            "none has reported; lost messages, retries and schedules wait",
            "Start `sicargabox scheduler`, or `sicargabox run`.",
        )
    else:
        yield ok("scheduler", f"last pass at {last_pass:%Y-%m-%d %H:%M:%S} UTC")


def _takes_no_writes(settings: Settings) -> bool:
    try:
        with connect(settings, Db.BROKER) as primary:
            return refusal(primary) is not None
    except RedisError:
        return True


def dead_letters(database: Database) -> Iterator[Finding]:
    """Whether tasks failed for good and nobody repeated them."""
    with database.read() as session:
        counts = store.dead_letters_by_task(session)
    if not counts:
        yield ok("dead letters", "none")
        return
    most = sorted(counts.items(), key=lambda one: -one[1])
    yield warning(
        "dead letters",
        "failed and not repeated: " + ", ".join(f"{number:,} {name}" for name, number in most[:5]),
        "See `sicargabox tasks dead`; `sicargabox tasks retry` repeats them.",
    )
