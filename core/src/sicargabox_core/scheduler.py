"""The process that keeps things moving when nobody asks: reconciling, schedules and the figures for metrics.

Several replicas may run: every step is a compare-and-set or a unique index in SQL. It must outlive the database, Redis
and its own faults: what fails is logged once, tried again with back-off, and holds nothing else up.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from sicargabox_core import observability
from sicargabox_core.db import Database
from sicargabox_core.errors import Unavailable
from sicargabox_core.redis_report import REFUSALS, memory_report, refusal
from sicargabox_core.redis_server import Db, RedisError, connect
from sicargabox_core.search import evaluation
from sicargabox_core.settings import Settings
from sicargabox_core.tasks import presence, schedules
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.contracts import TASKS
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.queues import RedisBroker, queue_figures
from sicargabox_core.tasks.reconcile import FLOOR_SECONDS, Reconciler
from sicargabox_core.tasks.results import ResultEntries
from sicargabox_core.tasks.store import dead_letters_by_task

log = structlog.get_logger(__name__)

SCHEDULE_SECONDS = 1.0
PRESENCE_SECONDS = 5.0
FIGURES_SECONDS = 5.0
# Measuring the keys of a database costs Redis some milliseconds, and memory moves slowly.
MEMORY_SECONDS = 30.0
DEAD_LETTERS_SECONDS = 30.0
# A report is made once a week, or when somebody asks for one.
QUALITY_SECONDS = 60.0
BACK_OFF_MOST_SECONDS = 5.0
_PRIMARY = "primary"
_OWN_SET = "own"


@dataclass
class Job:
    """Something done again and again: every ``every`` seconds, later after failures."""

    name: str
    every: float
    run: Callable[[], object]
    due: float = 0.0
    failures: int = field(default=0, init=False)

    def step(self, now: float) -> None:
        """Runs once and sets when it is due next. Never raises."""
        try:
            self.run()
        except Exception as error:  # whatever fails, the other jobs and the next round must go on
            self.failures += 1
            pause = min(BACK_OFF_MOST_SECONDS, self.every * 2.0 ** min(self.failures, 10))
            self.due = now + max(self.every, pause)
            if self.failures == 1:
                log.exception("a job of the scheduler failed", job=self.name)
            else:
                log.debug("a job of the scheduler fails still", job=self.name, error=str(error))
            return
        if self.failures:
            log.info("a job of the scheduler works again", job=self.name, failures=self.failures)
        self.failures = 0
        self.due = now + self.every


class Scheduler:
    """The jobs of one scheduler process and the loop that runs them."""

    def __init__(self, settings: Settings) -> None:
        """Connects to nothing yet. Raises ``InvalidSetting``."""
        self._settings = settings
        self.database = Database.from_settings(settings)
        self._publisher = Publisher(settings, make_celery(settings, "scheduler"))
        self._results = ResultEntries(settings)
        self._broker_client = connect(settings, Db.BROKER)
        self._looked_at = connect(settings, Db.BROKER, replica_ok=True)
        self._last_pass: float | None = None
        self._reconciler = Reconciler(
            self.database,
            settings,
            RedisBroker(settings),
            self._publisher,
            changed=self._announce,
            floor_seconds=FLOOR_SECONDS,
        )
        self._schedules = schedules.schedules_of(settings)
        self._stop = threading.Event()
        self.jobs = [
            Job("reconcile", settings.reconcile_interval_seconds, self._reconcile),
            Job("schedules", SCHEDULE_SECONDS, self._make_due),
            Job("presence", PRESENCE_SECONDS, self._report),
            Job("figures", FIGURES_SECONDS, self._figures),
            Job("memory", MEMORY_SECONDS, self._memory),
            Job("dead letters", DEAD_LETTERS_SECONDS, self._dead_letters),
            Job("search quality", QUALITY_SECONDS, self._quality),
        ]

    def stop(self) -> None:
        """Ends ``run`` after the job in hand; may be called from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Runs until ``stop``; returns with everything closed."""
        self._publisher.start()
        try:
            while not self._stop.is_set():
                now = time.monotonic()
                for job in self.jobs:
                    if job.due <= now and not self._stop.is_set():
                        job.step(time.monotonic())
                self._stop.wait(max(0.0, min(job.due for job in self.jobs) - time.monotonic()))
        finally:
            self._publisher.stop()
            self.database.dispose()

    def _reconcile(self) -> None:
        self._reconciler.run_once()
        observability.SCHEDULER_LAST_PASS.labels("reconcile").set_to_current_time()
        self._last_pass = time.monotonic()

    def _report(self) -> None:
        # For `sicargabox doctor`. Redis being away is told by a metric, not by this job failing.
        with contextlib.suppress(RedisError):
            presence.forget_silent(self._broker_client)
        if self._last_pass is not None:
            # By the database's clock: whoever reads it may be hours apart from this machine.
            ago = timedelta(seconds=time.monotonic() - self._last_pass)
            with contextlib.suppress(RedisError):
                presence.tell_of_scheduler(self._broker_client, self.database.now() - ago)

    def _make_due(self) -> None:
        for submission in schedules.make_due(self.database, self._settings.timezone, self._schedules):
            if submission.created:
                observability.count_accepted(submission.task)
            if submission.due:
                self._publisher.publish([submission.task])

    def _announce(self, ids: Sequence[str]) -> None:
        self._publisher.defer(functools.partial(self._results.copy, self.database, ids))

    def _figures(self) -> None:
        for figures in queue_figures(self.database, self._looked_at):
            for state, number in (
                ("waiting", figures.waiting),
                ("delayed", figures.delayed),
                ("running", figures.running),
            ):
                observability.QUEUE_TASKS.labels(figures.queue, state).set(number)
            observability.QUEUE_OLDEST_AGE_SECONDS.labels(figures.queue).set(figures.oldest_age_seconds)
            if figures.published is not None:
                observability.QUEUE_MESSAGES.labels(figures.queue).set(figures.published)
            if figures.without_message is not None:
                observability.QUEUE_WITHOUT_MESSAGE.labels(figures.queue).set(figures.without_message)
        # As often as the queues: what waits is understood only beside whether Redis takes messages.
        with contextlib.suppress(RedisError):
            refusing = refusal(self._broker_client)
            for reason in REFUSALS:
                observability.REDIS_REFUSING.labels(reason).set(reason == refusing)

    def _dead_letters(self) -> None:
        with self.database.read() as session:
            counts = dead_letters_by_task(session)
        for name in {*TASKS, *counts}:
            observability.DEAD_LETTERS.labels(name).set(counts.get(name, 0))

    def _quality(self) -> None:
        with self.database.read() as session:
            newest = next(iter(evaluation.kept(session, 1)), None)
        if newest is None:
            return
        score = newest.evaluation.report.score(half="counted")
        for measure, value in (
            ("hit1", score.hit1.value),
            ("hit5", score.hit5.value),
            ("none", score.none.value),
            ("mrr", score.mrr),
        ):
            observability.SEARCH_QUALITY.labels(measure).set(value)
        losses = sum(change.loss for change in newest.evaluation.changes)
        observability.SEARCH_QUALITY_LOSSES.labels(_OWN_SET).set(losses)
        observability.SEARCH_QUALITY_TIME.labels(_OWN_SET).set(newest.created_at.timestamp())

    def _memory(self) -> None:
        try:
            report = memory_report(self._settings)
        except Unavailable:
            # Not a fault of this process: the gauge and its alert say it.
            observability.REDIS_UP.labels(_PRIMARY).set(0)
            return
        observability.REDIS_UP.labels(_PRIMARY).set(1)
        observability.REDIS_USED_BYTES.labels(_PRIMARY).set(report.used)
        observability.REDIS_MAX_BYTES.labels(_PRIMARY).set(report.maximum)
        observability.REDIS_MEMORY_RATIO.labels(_PRIMARY).set(report.used / report.maximum if report.maximum else 0)
        observability.REDIS_EVICTED_KEYS.labels(_PRIMARY).set(report.evicted)
        for database in report.databases:
            observability.REDIS_DB_BYTES.labels(str(database.db)).set(database.bytes)
            if database.budget is not None:
                observability.REDIS_DB_BUDGET_BYTES.labels(str(database.db)).set(database.budget)


def run_scheduler(settings: Settings) -> None:
    """Runs the scheduler until SIGTERM or SIGINT. Raises ``InvalidSetting``."""
    scheduler = Scheduler(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: scheduler.stop())
    log.info("scheduler started")
    stop_health = None
    if settings.worker_port:
        stop_health = observability.serve_health(settings.host, settings.worker_port, ready=scheduler.database.ping)
    try:
        scheduler.run()
    finally:
        if stop_health is not None:
            stop_health()
        log.info("scheduler stopped")
