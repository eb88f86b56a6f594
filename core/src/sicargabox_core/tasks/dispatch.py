"""Sends the messages that tell workers "there is a row", in the background and never in a caller's way.

A message carries the task's name and id, no arguments. Losing one is harmless, since the reconciler publishes again
what cannot be in the broker any more, and doubling one is harmless, since only one claim succeeds. So nothing here
waits, and nothing here is retried beyond one fresh connection.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Protocol

import structlog
from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import KombuError
from kombu.messaging import Producer
from redis.exceptions import RedisError

from sicargabox_core import observability
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.breaker import Breaker

log = structlog.get_logger(__name__)

# What a broker that is away, frozen, full or being promoted was seen to raise through kombu and redis-py.
BROKER_ERRORS: tuple[type[Exception], ...] = (KombuError, RedisError, OSError)

PUBLISHED_AT = "published_at"
REQUEST_ID = "request_id"


class Publishable(Protocol):
    """What a message is made of; ``store.TaskView`` and ``store.Hint`` are such."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def published_at(self) -> datetime | None: ...
    @property
    def request_id(self) -> str | None: ...


class Publisher:
    """A background thread with a bounded queue in front of it, behind a breaker. One per process; survives a fork."""

    def __init__(self, settings: Settings, celery: Celery, *, capacity: int = 10_000, breaker_pause: float = 1.0):
        """``capacity``: messages kept while Redis is slow; what does not fit is left to the reconciler."""
        self._settings = settings
        self._celery = celery
        self._capacity = capacity
        self._breaker = Breaker("publish", breaker_pause)
        self._lock = threading.Lock()
        self._pid = 0
        self._queue: queue.Queue[Callable[[], object] | None] = queue.Queue(capacity)
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._producer: Producer | None = None

    def start(self) -> None:
        """Starts the thread, in this process; called by the first ``publish`` too."""
        with self._lock:
            if self._thread is not None and self._pid == os.getpid():
                return
            # A forked child inherits neither the thread nor, usably, the parent's connection.
            self._pid = os.getpid()
            self._connection = self._producer = None
            self._queue = queue.Queue(self._capacity)
            self._thread = threading.Thread(target=self._run, args=(self._queue,), name="publisher", daemon=True)
            self._thread.start()

    def publish(self, tasks: Iterable[Publishable]) -> None:
        """Asks for a message per task. Returns at once; call it after the commit that stamped ``published_at``."""
        for task in tasks:
            self._put(functools.partial(self._send, task))

    def defer(self, action: Callable[[], object]) -> None:
        """Runs ``action`` (a best-effort write to Redis, bounded in time) in the same thread, or drops it when full."""
        self._put(action)

    def _put(self, action: Callable[[], object]) -> None:
        if self._thread is None or self._pid != os.getpid():
            self.start()
        try:
            self._queue.put_nowait(action)
        except queue.Full:
            observability.PUBLISHED.labels("dropped").inc()

    @property
    def refusing(self) -> bool:
        """Whether Redis took no message at the last try: it is away, full or a replica now."""
        return self._breaker.is_open

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until everything asked for so far was tried; false when ``timeout`` seconds were not enough."""
        done = threading.Event()
        self._put(done.set)
        return done.wait(timeout)

    def stop(self, timeout: float = 2.0) -> None:
        """Sends what is queued, for at most ``timeout`` seconds, and ends the thread."""
        thread = self._thread
        if thread is None or self._pid != os.getpid():
            return
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout)
        thread.join(timeout)
        self._thread = None

    def _run(self, actions: queue.Queue[Callable[[], object] | None]) -> None:
        while (action := actions.get()) is not None:
            try:
                action()
            except Exception:  # the thread must outlive whatever one action meets
                log.exception("a background action failed")
        self._disconnect()

    def _send(self, task: Publishable) -> None:
        if not self._breaker.allows():
            observability.PUBLISHED.labels("dropped").inc()
            return
        had_connection = self._producer is not None
        error = self._try(task)
        if error is not None and had_connection:
            # The kept connection may simply be an old one, from before Redis was restarted.
            error = self._try(task)
        if error is None:
            self._breaker.succeeded()
            observability.PUBLISHED.labels("sent").inc()
            return
        self._breaker.failed()
        observability.PUBLISHED.labels("failed").inc()
        log.warning("Redis took no message; the reconciler will publish it", queue=task.queue, error=str(error))

    def _try(self, task: Publishable) -> Exception | None:
        try:
            self._celery.send_task(
                task.name,
                task_id=task.id,
                queue=task.queue,
                producer=self._connected(),
                retry=False,
                declare=[],
                headers=_headers(task),
                # Celery would subscribe to the result entry of every task it sends, in each sending process.
                ignore_result=True,
                add_to_parent=False,
            )
        except BROKER_ERRORS as error:
            self._disconnect()
            return error
        return None

    def _connected(self) -> Producer:
        if self._producer is None:
            # Not the worker's own options: a publisher gives up at once instead of waiting for a broker to return.
            self._connection = self._celery.connection_for_write(
                transport_options={
                    "max_retries": 0,
                    "interval_start": 0,
                    "interval_step": 0,
                    "interval_max": 0,
                    "socket_timeout": 1,
                    "socket_connect_timeout": 0.5,
                }
            )
            self._producer = self._celery.amqp.Producer(self._connection, auto_declare=False)
        return self._producer

    def _disconnect(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(*BROKER_ERRORS):
                connection.collect(socket_timeout=0.5)


def _headers(task: Publishable) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    if task.published_at is not None:
        headers[PUBLISHED_AT] = round(task.published_at.timestamp() * 1000)
    # For people who look into a queue; the worker itself reads it from the row.
    if task.request_id:
        headers[REQUEST_ID] = task.request_id
    return headers
