"""What a task's own code sees of the system: settings, a session to read with, progress, children, effects.

A task's function gets a ``TaskContext`` and returns its result. It holds no transaction open while it works: it reads
through ``session()``, hands its SQL effects to ``effects()`` and they are committed together with its end.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.orm import Session

from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import Payload, TaskSpec

if TYPE_CHECKING:
    from sicargabox_core.db import Database
    from sicargabox_core.settings import Settings


class TaskCancelled(BaseException):
    """Somebody cancelled this task. Not an ``Exception``, so that a task's own ``except`` does not swallow it."""


class AttemptLost(BaseException):
    """This attempt no longer holds its row (its lease expired, or it was released); nothing it does counts."""


class TaskContext:
    """One attempt at one task. Its methods may be called from any thread of the task."""

    def __init__(
        self, *, settings: Settings, database: Database, task_id: str, name: str, attempt: int, request_id: str | None
    ) -> None:
        """Made by the wrapper around a task's function."""
        self.settings = settings
        self.database = database
        self.task_id = task_id
        self.attempt = attempt
        self.log: Any = structlog.get_logger("sicargabox.task").bind(task=name, attempt=attempt)
        self.request_id = request_id
        self.children: list[store.Child] = []
        self.effect_functions: list[Callable[[Session], None]] = []
        self._lock = threading.Lock()
        self._progress: store.Progress | None = None
        self._news = threading.Event()
        self._cancelled = threading.Event()
        self._lost = threading.Event()

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A session for reading. Close it before long work: what it writes is never committed."""
        with self.database.read() as session:
            yield session

    def progress(self, current: int, total: int | None, message: str = "") -> None:
        """Tells how far the task is. Cheap enough for every item; raises ``TaskCancelled`` like ``check_cancelled``."""
        with self._lock:
            self._progress = store.Progress(current, total, message)
        self._news.set()
        self.check_cancelled()

    @property
    def cancelled(self) -> bool:
        """Whether the task should stop: somebody cancelled it, or this attempt lost its row."""
        return self._cancelled.is_set() or self._lost.is_set()

    def check_cancelled(self) -> None:
        """Raises ``TaskCancelled`` when somebody cancelled the task, ``AttemptLost`` when its row is another's now."""
        if self._lost.is_set():
            raise AttemptLost
        if self._cancelled.is_set():
            raise TaskCancelled

    def submit(self, spec: TaskSpec[Any, Any], payload: Payload, *, size: int | None = None) -> None:
        """Makes a child task. Children are inserted when this task ends, and it is not over before all of them are.

        ``size`` is what the child's progress will count up to: the parent's bar is right before the child starts.
        """
        self.children.append(store.Child(spec=spec, payload=payload, size=size))

    def effects(self, write: Callable[[Session], None]) -> None:
        """Has ``write`` run in the short transaction that ends this task: both are committed, or neither.

        It may run again when the database fails in between, so it must depend on its session alone.
        """
        self.effect_functions.append(write)

    def current_progress(self) -> store.Progress | None:
        """For the pulse: what ``progress`` was last told."""
        with self._lock:
            return self._progress

    def wait_for_news(self, seconds: float) -> None:
        """For the pulse: returns when there is new progress, or after ``seconds``."""
        if self._news.wait(seconds):
            self._news.clear()

    def wake_pulse(self) -> None:
        """For the pulse: ends ``wait_for_news``."""
        self._news.set()

    def cancel(self) -> None:
        """For the pulse: somebody asked to cancel."""
        self._cancelled.set()

    def lose(self) -> None:
        """For the pulse: the row is not this attempt's any more."""
        self._lost.set()

    @contextlib.contextmanager
    def locked_attempt(self) -> Iterator[Session]:
        """A transaction that holds this task's row, checked to be still this attempt's.

        For the one step outside SQL that publishes the work, such as swapping an index: nobody else can take the task
        over until the block ends. Keep it short, since heartbeats wait meanwhile. Raises ``AttemptLost``.
        """
        with self.database.write() as session:
            if not store.lock_attempt(session, self.task_id, self.attempt):
                self._lost.set()
                raise AttemptLost
            yield session
