"""The part of a worker's parent process that takes messages: Celery's, with fewer events and with words for people.

Celery means to gather a task's events (received, started, succeeded) but sends what there is in every turn of its loop,
which is once or more for each task: a third of the parent's work. A tenth of a second later is soon enough for eyes.

A worker that Redis does not let in goes on asking, since the fault is not its own. Celery neither said what to do about
it nor, when a right is missing, waited between two tries (24 lines a second for ever, seen with 5.7.0).
"""

from __future__ import annotations

import functools
import time
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from celery import Celery
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.heartbeat import Heart
from celery.worker.state import maybe_shutdown
from redis.exceptions import AuthenticationError, NoPermissionError

log = structlog.get_logger(__name__)

EVENTS_SECONDS = 0.1
REFUSED_FIRST_SECONDS = 1.0
REFUSED_MOST_SECONDS = 15.0
_LOOK_SECONDS = 0.2
# Refusals further apart are no longer the same trouble.
_FORGOTTEN_SECONDS = 60.0

# The loop turns every five seconds at most. What it does between two turns (a server that is silent, three Sentinels
# asked in turn) ends within some ten; beyond this it does nothing any more, and only a new process helps.
STILL_SECONDS = 120.0

_troubles: WeakKeyDictionary[Celery, str] = WeakKeyDictionary()
_turned: WeakKeyDictionary[Celery, float] = WeakKeyDictionary()


def trouble(app: Celery) -> str | None:
    """Why this process takes no messages from Redis, and what to do about it; none while it does."""
    return _troubles.get(app)


def no_trouble(app: Celery) -> None:
    """Messages are taken."""
    _troubles.pop(app, None)


def turned(app: Celery) -> None:
    """The loop that takes messages turns, or waits for a server that is away."""
    _turned[app] = time.monotonic()


def stands_still(app: Celery) -> str | None:
    """That this loop has done nothing for ``STILL_SECONDS``, which no server that is away can bring about."""
    still = time.monotonic() - _turned.setdefault(app, time.monotonic())
    return f"the loop that takes messages has stood still for {still:.0f} s" if still > STILL_SECONDS else None


def remedy(error: BaseException) -> str:
    """What an operator does about a Redis that does not let a worker work."""
    if isinstance(error, AuthenticationError):
        return "Check SICARGABOX_REDIS_USERNAME and SICARGABOX_REDIS_PASSWORD or its _FILE."
    if isinstance(error, NoPermissionError):
        return "Give its user the rights that `user worker` has in redis/users.acl."
    return "Check SICARGABOX_REDIS_URL and that the server runs and can be reached; tasks wait in SQL meanwhile."


def _guard_against_patient_heartbeat() -> None:
    """Keeps a worker's loop turning when it tells of itself just as its broker goes away.

    Celery 5.7.0 sends "worker-online" and each heartbeat with kombu's retries, which wait within the call until Redis
    is back. Meanwhile nothing turns: no order to stop is heeded, and after ``STILL_SECONDS`` a cluster would end the
    worker with all its tasks. Seen in 1 of some 20 kills of Redis, and in 2 of 3 that fell between two turns. Without
    retries the failed event leads to the consumer's own waiting, which is told as such and heeds orders.
    """
    original: Any = Heart._send

    @functools.wraps(original)
    def _send(self: Any, event: str, retry: bool = True) -> Any:
        return original(self, event, retry=False)

    Heart._send = _send


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery ships no types
    """Named in ``worker_consumer``."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._events_due = False
        self._refusals = 0
        self._refused_at = 0.0
        super().__init__(*arguments, **more)

    def ensure_connected(self, conn: Any) -> Any:
        """As Celery's, for ever, with the remedy in each line; after 1, 2, 3, 4 and then every 5 s.

        Celery's own pauses grow to 30 s: after a Redis that was away for 24 s work went on 35 s after its return.
        """

        def not_connected(error: Exception, seconds: float) -> None:
            self._tell(error, conn.as_uri(), seconds)

        # Called every second while it waits between two tries.
        conn = conn.ensure_connection(
            not_connected, None, callback=self._while_waiting, interval_start=1, interval_step=1, interval_max=5
        )
        self.first_connection_attempt = False
        self.broker_connection_retry_attempt = 0
        return conn

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """A connection that broke in the first steps after it was made."""
        self._broken(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """A connection that broke while it was in use."""
        super().on_connection_error_after_connected(exc)
        self._broken(exc)

    def _broken(self, error: Exception) -> None:
        if not isinstance(error, NoPermissionError):
            self._tell(error, self.conninfo.as_uri(), 0.0)
            return
        now = time.monotonic()
        self._refusals = self._refusals + 1 if now - self._refused_at < _FORGOTTEN_SECONDS else 1
        pause = min(REFUSED_MOST_SECONDS, REFUSED_FIRST_SECONDS * 2.0 ** min(self._refusals - 1, 10))
        self._tell(error, self.conninfo.as_uri(), pause)
        until = now + pause
        while (left := until - time.monotonic()) > 0:
            self._while_waiting()
            time.sleep(min(left, _LOOK_SECONDS))
        self._refused_at = time.monotonic()

    def _while_waiting(self) -> None:
        turned(self.app)
        maybe_shutdown()

    def _tell(self, error: Exception, address: str, seconds: float) -> None:
        what = remedy(error)
        _troubles[self.app] = f"takes no messages: {str(error).rstrip('.')}. {what}"
        log.error(
            "no messages can be taken", address=address, error=str(error), remedy=what, again_in=f"{seconds:.0f} s"
        )

    def on_send_event_buffered(self) -> None:
        """Called at each event that waits; 24 of them are sent at once by Celery itself."""
        if self.hub and not self._events_due:
            self._events_due = True
            self.timer.call_after(EVENTS_SECONDS, self._send_events)

    def _send_events(self) -> None:
        self._events_due = False
        self._flush_events()

    def shutdown(self) -> None:
        """The last events go out too: a task that ended would look as if it ran for ever."""
        self._send_events()
        super().shutdown()


_guard_against_patient_heartbeat()
