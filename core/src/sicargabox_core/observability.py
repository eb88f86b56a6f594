"""How every process is seen from outside: the log pipeline, all metrics, and the health port of workers.

Every metric of the product is declared here and nowhere else; ``METRICS`` is what documentation and tests walk.
Labels are closed sets (queue, task, outcome, …): never an id, a user, a query or an address.

Prefork. A Celery worker forks, and each child counts for itself. ``prometheus_client`` sums their files when
``PROMETHEUS_MULTIPROC_DIR`` is set before its import: set it to an empty folder for each worker (the supervisor and
the container images do). Gauges say how they are merged.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, make_server

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST, ThreadingWSGIServer
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.mmap_dict import MmapedDict

from sicargabox_core.errors import InvalidSetting
from sicargabox_core.settings import ENV_PREFIX

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from sicargabox_core.settings import Settings

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
# No process has this number, so it can stand in the name of the file with the counts of all that ended.
_OF_THE_DEAD = 0
_folding = threading.Lock()

# From a 25 ms no-op to a half-hour analysis: the limits of our task kinds.
TASK_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 150, 300, 900, 1800)
# The goals for requests are 6, 20 and 80 ms, so the buckets are dense there.
HTTP_BUCKETS = (0.002, 0.004, 0.006, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5)

TASKS_ACCEPTED = Counter("sicargabox_tasks_accepted_total", "Tasks accepted: rows committed.", ["queue", "task"])
TASK_ATTEMPTS = Counter(
    "sicargabox_task_attempts_total",
    "Attempts that ended, by outcome (SUCCESS, FAILURE, RETRY, REVOKED, RELEASED, FENCED, PARENT) and attempt "
    "(1, 2, 3, more).",
    ["queue", "task", "outcome", "attempt"],
)
TASK_DUPLICATES = Counter(
    "sicargabox_task_duplicate_messages_total", "Messages dropped because nothing was to be claimed.", ["queue"]
)
TASK_WAIT_SECONDS = Histogram(
    "sicargabox_task_wait_seconds", "From due to claimed.", ["queue", "task"], buckets=TASK_BUCKETS
)
TASK_RUN_SECONDS = Histogram(
    "sicargabox_task_run_seconds", "From claimed to the end of the attempt.", ["queue", "task"], buckets=TASK_BUCKETS
)
QUEUE_TASKS = Gauge(
    "sicargabox_queue_tasks",
    "Unfinished tasks in SQL: waiting (due), delayed (not yet due), running.",
    ["queue", "state"],
    multiprocess_mode="mostrecent",
)
QUEUE_OLDEST_AGE_SECONDS = Gauge(
    "sicargabox_queue_oldest_age_seconds",
    "How long the oldest due task has waited; 0 when none waits.",
    ["queue"],
    multiprocess_mode="mostrecent",
)
QUEUE_MESSAGES = Gauge(
    "sicargabox_queue_messages", "Messages in the queue's Redis list.", ["queue"], multiprocess_mode="mostrecent"
)
QUEUE_WITHOUT_MESSAGE = Gauge(
    "sicargabox_queue_tasks_without_message",
    "Due tasks beyond the messages in Redis: they wait until the scheduler has published them.",
    ["queue"],
    multiprocess_mode="mostrecent",
)
DEAD_LETTERS = Gauge(
    "sicargabox_dead_letters",
    "Tasks that ended in FAILURE and that nobody repeated, counted up to 10,000 in all; a failed part counts as its "
    "whole task.",
    ["task"],
    multiprocess_mode="mostrecent",
)
PUBLISHED = Counter(
    "sicargabox_published_messages_total", "Messages sent to Redis, by outcome (sent, failed, dropped).", ["outcome"]
)
BREAKER_OPEN = Gauge(
    "sicargabox_breaker_open",
    "1 while calls to Redis pause because it failed (publish: messages; results: entries and progress; limits: rate "
    "limits).",
    ["breaker"],
    multiprocess_mode="livemax",
)
BREAKER_FAILURES = Counter("sicargabox_breaker_failures_total", "Calls behind a breaker that failed.", ["breaker"])
BREAKER_OPENINGS = Counter("sicargabox_breaker_openings_total", "Times a closed breaker opened.", ["breaker"])
# A label here too: a counter without one writes its file as soon as it is imported, and a command in a worker's image
# that has no folder for it could not start.
WORKER_DEAF = Counter(
    "sicargabox_worker_deaf_total",
    "Connections of a worker that asked Redis for no messages though a child was free; made anew.",
    ["worker"],
)
BREAKER_OPENED = Gauge(
    "sicargabox_breaker_opened_timestamp_seconds",
    "Unix time at which the breaker last opened; 0 while it never did.",
    ["breaker"],
    multiprocess_mode="max",
)
RECONCILED = Counter(
    "sicargabox_reconciled_tasks_total",
    "Rows the reconciler acted on, by action (expired, failed, revoked, republished).",
    ["action"],
)
# What only the scheduler looks for has a label: without one the library shows 0 in every process from its start, and
# the API said that Redis was down.
SCHEDULER_LAST_PASS = Gauge(
    "sicargabox_scheduler_last_pass_timestamp_seconds",
    "Unix time of the last complete pass (reconcile).",
    ["pass"],
    multiprocess_mode="max",
)
REDIS_UP = Gauge(
    "sicargabox_redis_up", "1 when Redis answered the last look.", ["server"], multiprocess_mode="mostrecent"
)
REDIS_USED_BYTES = Gauge(
    "sicargabox_redis_used_memory_bytes", "used_memory of the primary.", ["server"], multiprocess_mode="mostrecent"
)
REDIS_MAX_BYTES = Gauge(
    "sicargabox_redis_max_memory_bytes", "maxmemory of the primary.", ["server"], multiprocess_mode="mostrecent"
)
REDIS_MEMORY_RATIO = Gauge(
    "sicargabox_redis_memory_used_ratio",
    "used_memory of the primary as a part of maxmemory; 0 without a limit.",
    ["server"],
    multiprocess_mode="mostrecent",
)
REDIS_REFUSING = Gauge(
    "sicargabox_redis_refusing",
    "1 for the reason why the primary took no write at the last look: memory, replicas, disk, read_only.",
    ["reason"],
    multiprocess_mode="mostrecent",
)
REDIS_EVICTED_KEYS = Gauge(
    "sicargabox_redis_evicted_keys",
    "Keys the primary evicted since it started: results, cache or limits, never queues.",
    ["server"],
    multiprocess_mode="mostrecent",
)
REDIS_DB_BYTES = Gauge(
    "sicargabox_redis_db_estimated_bytes",
    "Memory of one database, estimated from a sample of its keys.",
    ["db"],
    multiprocess_mode="mostrecent",
)
REDIS_DB_BUDGET_BYTES = Gauge(
    "sicargabox_redis_db_budget_bytes",
    "What that database is meant to stay under.",
    ["db"],
    multiprocess_mode="mostrecent",
)
HTTP_REQUESTS = Counter(
    "sicargabox_http_requests_total", "Requests by route template and status class.", ["method", "route", "status"]
)
HTTP_SECONDS = Histogram(
    "sicargabox_http_request_seconds", "From request to last byte.", ["method", "route"], buckets=HTTP_BUCKETS
)
SEARCHES = Counter("sicargabox_searches_total", "Searches by engine and whether degraded.", ["engine", "degraded"])
SEARCH_SECONDS = Histogram(
    "sicargabox_search_seconds", "Time of one search without HTTP.", ["engine"], buckets=HTTP_BUCKETS
)

SEARCH_QUALITY = Gauge(
    "sicargabox_search_quality_ratio",
    "Of the counted half of our labelled queries at the last measurement: hit1, hit5, none found, mrr.",
    ["measure"],
    multiprocess_mode="mostrecent",
)
SEARCH_QUALITY_LOSSES = Gauge(
    "sicargabox_search_quality_losses",
    "Figures that were worse at the last measurement than at the one before, by more than chance explains.",
    ["set"],
    multiprocess_mode="mostrecent",
)
SEARCH_QUALITY_TIME = Gauge(
    "sicargabox_search_quality_timestamp_seconds",
    "Unix time of the last measurement of the search.",
    ["set"],
    multiprocess_mode="mostrecent",
)

METRICS: tuple[MetricWrapperBase, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, MetricWrapperBase)
)


class AcceptedTask(Protocol):
    """What is counted of an accepted task."""

    @property
    def queue(self) -> str: ...
    @property
    def name(self) -> str: ...


def count_accepted(task: AcceptedTask) -> None:
    """Counts a task whose row was committed by this process."""
    TASKS_ACCEPTED.labels(task.queue, task.name).inc()


def attempt_label(attempt: int) -> str:
    """The closed set of attempt labels: 1, 2, 3, more."""
    return str(attempt) if attempt <= 3 else "more"


def forget_predecessors() -> None:
    """Removes the files of an earlier worker of the same folder; call once in the parent, before it forks.

    Its counts begin at zero again, as Prometheus expects of a process that started anew.
    """
    folder = os.environ.get(MULTIPROCESS_DIR)
    if folder:
        for file in Path(folder).glob("*.db"):
            # Our own are open already, since this module was imported.
            if _process_of(file) != os.getpid():
                file.unlink(missing_ok=True)


def forget_dead_children() -> None:
    """Drops the live gauges of children that ended, however they did, and keeps their counts in one file for all.

    A worker renews its children for as long as it lives, and every file is read at every scrape. For the parent alone:
    it is the one process that writes that file.
    """
    if folder := os.environ.get(MULTIPROCESS_DIR):
        with _folding:
            _forget_dead_children(Path(folder))


def _forget_dead_children(folder: Path) -> None:
    for file in [*folder.glob("gauge_live*.db"), *folder.glob("counter_*.db"), *folder.glob("histogram_*.db")]:
        if _lives(_process_of(file)):
            continue
        if not file.name.startswith("gauge"):
            _fold(file, file.with_name(f"{file.stem.partition('_')[0]}_{_OF_THE_DEAD}.db"))
        file.unlink(missing_ok=True)


def _fold(file: Path, into: Path) -> None:
    total = MmapedDict(str(into))  # type: ignore[no-untyped-call]  # untyped upstream
    try:
        for key, value, _timestamp, _place in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
            total.write_value(key, total.read_value(key)[0] + value, 0.0)  # type: ignore[no-untyped-call]
    finally:
        total.close()  # type: ignore[no-untyped-call]


def _lives(process: int) -> bool:
    if process == _OF_THE_DEAD:
        return True  # their file, which stays
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError):
        return False  # gone; somebody else's may have its number by now
    return True


def _process_of(file: Path) -> int:
    return int(file.stem.rpartition("_")[2])


def render_metrics() -> bytes:
    """All metrics in Prometheus' text format, summed over the children of a prefork process."""
    if folder := os.environ.get(MULTIPROCESS_DIR):
        # Under the lock: a file that another thread folds while it is being read would count twice, or be missed.
        with _folding:
            _forget_dead_children(Path(folder))
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # untyped upstream
            return generate_latest(registry)
    return generate_latest(REGISTRY)


def configure_logging(settings: Settings, service: str) -> None:
    """One pipeline for our own and for library logs: JSON lines in production, readable ones otherwise.

    Context (``request_id``, ``task_id``, …) is bound with ``structlog.contextvars.bind_contextvars``.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _drop_repeated,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _name_service(service),
    ]
    renderer: list[structlog.types.Processor]
    if settings.effective_log_format == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        # Plain: the default prints local variables, and with them passwords.
        formatter = structlog.dev.plain_traceback
        renderer = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=formatter)]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # Uvicorn's own access lines repeat ours, without the request id.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _drop_repeated(_logger: Any, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    # uvicorn adds its message once more with colours, Celery its own with the task's result.
    for name in ("color_message", "data"):
        event.pop(name, None)
    return event


def _name_service(service: str) -> structlog.types.Processor:
    def add(_logger: Any, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event.setdefault("service", service)
        return event

    return add


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the parent's name
        """Probes and scrapes come every few seconds; a line for each would bury the rest."""


def _server_class(host: str) -> type[ThreadingWSGIServer]:
    class Server(ThreadingWSGIServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    return Server


def serve_health(
    host: str, port: int, *, ready: Callable[[], str | None], dead: Callable[[], str | None] = lambda: None
) -> Callable[[], None]:
    """Serves ``/healthz`` (the process lives), ``/readyz`` (``ready`` raises nothing) and ``/metrics`` in a thread.

    What ``ready`` returns is a fault that leaves the process ready; the body of ``/readyz`` tells it. What ``dead``
    returns is one that only a new process mends: ``/healthz`` is 503 then.
    Returns a function that stops it. Port 0 in the settings means "none", so callers check before calling. Raises
    ``InvalidSetting`` when the port cannot be listened on.
    """

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            start("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
            return [render_metrics()]
        if path == "/healthz":
            fault = dead()
            start("503 Service Unavailable" if fault else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{fault or 'ok'}\n".encode()]
        if path == "/readyz":
            try:
                fault = ready()
            except Exception as error:  # noqa: BLE001  # whatever is wrong, a probe's answer is "not ready"
                start("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
                return [f"not ready: {error}\n".encode()]
            start("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"ready, but {fault}\n".encode() if fault else b"ready\n"]
        start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"not found\n"]

    try:
        server = make_server(host, port, application, server_class=_server_class(host), handler_class=_QuietHandler)
    except OSError as error:
        raise InvalidSetting(
            f"cannot listen on {host}:{port} ({error.strerror})",
            field=f"{ENV_PREFIX}WORKER_PORT",
            remedy="Give each worker and scheduler of this machine a port of its own.",
        ) from error
    # A child that outlives its killed parent would hold the port, and the next parent could not start.
    os.register_at_fork(after_in_child=server.socket.close)
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2)

    return stop
