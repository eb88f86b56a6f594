"""Sends the messages that tell workers "there is a row", in the background and never in a caller's way.

A message carries the task's name and id, no arguments. Losing one is harmless, since the reconciler publishes again
what cannot be in the broker any more, and doubling one is harmless, since only one claim succeeds. So nothing here
waits, and nothing here is retried beyond one fresh connection.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import redis
import structlog
from celery import Celery
from redis.exceptions import RedisError

from sicargabox_core import observability
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.breaker import Breaker
from sicargabox_core.tasks.messages import Messages, Publishable

log = structlog.get_logger(__name__)

# What a Redis that is away, frozen, full or being promoted was seen to raise through redis-py.
BROKER_ERRORS: tuple[type[Exception], ...] = (RedisError, OSError)
# Messages sent in one go: 200 kB, far from what a second allows.
BATCH = 200
TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Action:
    run: Callable[[], object]


# None ends the thread.
_Jobs = queue.Queue[Publishable | _Action | None]


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
        self._queue: _Jobs = queue.Queue(capacity)
        self._thread: threading.Thread | None = None
        self._messages = Messages(celery)
        self._redis: redis.Redis | None = None

    def start(self) -> None:
        """Starts the thread, in this process; called by the first ``publish`` too."""
        with self._lock:
            if self._thread is not None and self._pid == os.getpid():
                return
            # A forked child inherits neither the thread nor, usably, the parent's connection.
            self._pid = os.getpid()
            self._redis = None
            self._messages = Messages(self._celery)
            self._queue = queue.Queue(self._capacity)
            self._thread = threading.Thread(target=self._run, args=(self._queue,), name="publisher", daemon=True)
            self._thread.start()

    def publish(self, tasks: Iterable[Publishable]) -> None:
        """Asks for a message per task. Returns at once; call it after the commit that stamped ``published_at``."""
        for task in tasks:
            self._put(task)

    def defer(self, action: Callable[[], object]) -> None:
        """Runs ``action`` (a best-effort write to Redis, bounded in time) in the same thread, or drops it when full."""
        self._put(_Action(action))

    def _put(self, job: Publishable | _Action) -> None:
        if self._thread is None or self._pid != os.getpid():
            self.start()
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            observability.PUBLISHED.labels("dropped").inc()

    @property
    def refusing(self) -> bool:
        """Whether Redis took no message at the last try: it is away, full or a replica now."""
        return self._breaker.is_open

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until everything asked for so far was tried; false when ``timeout`` seconds were not enough."""
        done = threading.Event()
        self._put(_Action(done.set))
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

    def _run(self, jobs: _Jobs) -> None:
        for job in _batches(jobs, min(BATCH, self._capacity)):
            try:
                if isinstance(job, _Action):
                    job.run()
                else:
                    self._publish(job)
            except Exception:  # the thread must outlive whatever one job meets
                log.exception("a background action failed")
        self._disconnect()

    def _publish(self, tasks: Sequence[Publishable]) -> None:
        by_queue: dict[str, list[str]] = {}
        for task in tasks:
            by_queue.setdefault(task.queue, []).append(self._messages.write(task))
        for name, messages in by_queue.items():
            self._send(name, messages)

    def _send(self, name: str, messages: Sequence[str]) -> None:
        if not self._breaker.allows():
            observability.PUBLISHED.labels("dropped").inc(len(messages))
            return
        had_connection = self._redis is not None
        error = self._try(name, messages)
        if error is not None and had_connection:
            # The kept connection may simply be an old one, from before Redis was restarted.
            error = self._try(name, messages)
        if error is None:
            self._breaker.succeeded()
            observability.PUBLISHED.labels("sent").inc(len(messages))
            return
        self._breaker.failed()
        observability.PUBLISHED.labels("failed").inc(len(messages))
        log.warning(
            "Redis took no message; the reconciler will publish it",
            queue=name,
            messages=len(messages),
            error=str(error),
        )

    def _try(self, name: str, messages: Sequence[str]) -> Exception | None:
        try:
            if self._redis is None:
                # Not Celery's connection: it is made for workers, and waits for a broker to return.
                self._redis = connect(self._settings, Db.BROKER, timeout=TIMEOUT_SECONDS)
            self._redis.lpush(name, *messages)
        except BROKER_ERRORS as error:
            self._disconnect()
            return error
        return None

    def _disconnect(self) -> None:
        client, self._redis = self._redis, None
        if client is not None:
            with contextlib.suppress(*BROKER_ERRORS):
                client.close()


def _batches(jobs: _Jobs, most: int) -> Iterator[_Action | list[Publishable]]:
    """What waits, in its order, up to ``most`` messages together; ends with the thread's None."""
    tasks: list[Publishable] = []
    while True:
        try:
            job = jobs.get(block=not tasks)
        except queue.Empty:
            yield tasks
            tasks = []
            continue
        if tasks and (len(tasks) >= most or job is None or isinstance(job, _Action)):
            yield tasks
            tasks = []
        if job is None:
            return
        if isinstance(job, _Action):
            yield job
        else:
            tasks.append(job)
