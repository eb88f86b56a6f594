"""The thread beside a running task: renews its lease, saves its progress, notices a cancel, ends it at its limit.

It has its own database connection, and beats never wait for the task's code. A task that cannot be stopped by asking
is ended by killing the process it runs in, which is a child of the worker: there is no other way to stop Python code
that hangs. The broker gives the message back, and the row says what happened.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sicargabox_core.db import patience
from sicargabox_core.tasks import store
from sicargabox_core.tasks.results import LiveProgress

if TYPE_CHECKING:
    from sicargabox_core.db import Database
    from sicargabox_core.settings import Settings
    from sicargabox_core.tasks.context import TaskContext
    from sicargabox_core.tasks.results import ResultEntries

log = structlog.get_logger(__name__)

# Live progress goes to Redis at most five times a second: a bar cannot show more.
LIVE_SECONDS = 0.2
# A server that is frozen must not keep a process past its limit; the lease says it later.
RECORD_SECONDS = 2.0
# A task that ends sooner is not worth saying "started" of: that would double what it writes to Redis.
STARTED_SECONDS = 0.05


class Pulse:
    """The heartbeat of one attempt, from its claim to its end."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        results: ResultEntries,
        context: TaskContext,
        worker: str,
        claimed_at: float,
        time_limit: float,
        on_time_limit: Callable[[], None],
        live: bool,
    ) -> None:
        """``claimed_at`` is ``time.monotonic()`` before the claim. ``live``: whether entries are written to Redis.

        ``on_time_limit`` records the failure; the process is killed after it, whatever it does.
        """
        self._settings = settings
        self._database = database
        self._results = results
        self._context = context
        self._worker = worker
        self._live = live
        self._on_time_limit = on_time_limit
        self._deadline = claimed_at + time_limit
        self._held_until = claimed_at + settings.task_lease_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._saved: store.Progress | None = None
        self._shown: store.Progress | None = None

    def start(self) -> None:
        """Starts beating."""
        self._wind_watchdog()
        self._thread.start()

    def _wind_watchdog(self) -> None:
        """Has the kernel end this process unless this is called again within the lease and the grace of a cancel.

        Code that never lets another thread run (a C library that holds the interpreter's lock) stops this thread too,
        so nobody else here could: such a child kept its place until the task's hard limit, up to half an hour, and
        three attempts at one task could hold all children of a worker.
        """
        signal.setitimer(
            signal.ITIMER_REAL, self._settings.task_lease_seconds + self._settings.task_cancel_grace_seconds
        )

    def stop(self) -> None:
        """Stops; nothing is written for this attempt by this thread afterwards."""
        self._stop.set()
        self._context.wake_pulse()
        self._thread.join()
        signal.setitimer(signal.ITIMER_REAL, 0)

    @property
    def held_until(self) -> float:
        """Until when (``time.monotonic()``) the lease is known to be ours."""
        return self._held_until

    def _run(self) -> None:
        context, beat_every = self._context, self._settings.task_heartbeat_seconds
        if self._stop.wait(STARTED_SECONDS):
            return
        if self._live:
            self._results.started(context.task_id, worker=self._worker, attempt=context.attempt)
        next_beat = time.monotonic() + beat_every
        next_live = 0.0
        while True:
            now = time.monotonic()
            wake_at = min(next_beat, self._deadline)
            if not self._live:
                self._stop.wait(max(0.0, wake_at - now))
            elif context.current_progress() is not self._shown:
                # Not on news here: a task that tells of every item would wake this thread ten thousand times a second.
                self._stop.wait(max(0.0, min(wake_at, next_live) - now))
            else:
                context.wait_for_news(max(0.0, wake_at - now))
            if self._stop.is_set():
                return
            now = time.monotonic()
            if now >= self._deadline:
                self._end_process("the task reached its time limit", self._on_time_limit)
            if now >= next_beat:
                next_beat = now + beat_every
                self._wind_watchdog()
                if not self._beat():
                    self._wait_for_the_end_of_a_lost_attempt()
                    return
            if self._live and now >= next_live and now < self._held_until:
                next_live = now + LIVE_SECONDS
                self._show()

    def _beat(self) -> bool:
        """One heartbeat; false when the row is not ours any more."""
        context = self._context
        progress = context.current_progress()
        asked_at = time.monotonic()
        try:
            with patience(self._settings.task_heartbeat_seconds):
                beat = store.heartbeat(
                    self._database,
                    context.task_id,
                    context.attempt,
                    self._settings.task_lease_seconds,
                    None if progress is self._saved else progress,
                )
        except SQLAlchemyError as error:
            # The database may be back before the lease ends; if it is not, the next beat is told so.
            log.warning("a heartbeat failed", task_id=context.task_id, error=str(error))
            return True
        if not beat.alive:
            context.lose()
            return False
        self._held_until = asked_at + self._settings.task_lease_seconds
        self._saved = progress
        if beat.cancel_requested:
            context.cancel()
        return True

    def _show(self) -> None:
        progress = self._context.current_progress()
        if progress is None or progress is self._shown:
            return
        self._shown = progress
        self._results.progress(
            self._context.task_id,
            LiveProgress(self._context.attempt, progress.current, progress.total, progress.message or ""),
        )

    def _wait_for_the_end_of_a_lost_attempt(self) -> None:
        """Code that works on for nobody is given the time a cancelled task is given, then ended."""
        log.warning("this attempt lost its row", task_id=self._context.task_id, attempt=self._context.attempt)
        grace = time.monotonic() + self._settings.task_cancel_grace_seconds
        while not self._stop.is_set():
            now = time.monotonic()
            self._wind_watchdog()
            if now >= grace:
                self._end_process("a lost attempt did not stop", lambda: None)
            self._context.wait_for_news(grace - now)

    def _end_process(self, why: str, record: Callable[[], None]) -> None:
        log.error(why, task_id=self._context.task_id, attempt=self._context.attempt)
        try:
            with patience(RECORD_SECONDS):
                record()
        except Exception:  # noqa: BLE001  # the lease says it later if SQL cannot be told now
            log.warning("the end could not be recorded; the lease will tell", task_id=self._context.task_id)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
