"""A worker that lives, is connected and yet takes no messages: it notices, and connects anew.

kombu asks Redis with a BRPOP of one second, again and again, whenever a child is free. Several people's workers stopped
asking for good after a connection that was lost several times within seconds (celery/celery#8030, #8082), and nothing
outside tells them from workers that have nothing to do. Here the parent's own loop looks whether the asking goes on.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery import bootsteps
from celery.worker import state
from redis.exceptions import ConnectionError as RedisConnectionError

from sicargabox_core import observability

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
# Turns of the loop and not seconds: a worker that was stopped, or had no processor, has missed nothing. A connection
# that is silent is dropped by kombu within seven seconds, of which this must know nothing.
LOOKS = 6


class Ear:
    """Whether one connection's questions go on; made anew with each connection."""

    def __init__(self, consumer: Any) -> None:
        """``consumer``: Celery's, once it consumes."""
        self._consumer = consumer
        # Told as 0 from the start.
        self._times = observability.WORKER_DEAF.labels(str(consumer.app.main))
        self._asked: object = None
        self._same = 0

    def look(self) -> None:
        """Called by the loop every ``LOOK_SECONDS``.

        Raises redis-py's ``ConnectionError``, which Celery answers with a new connection, when a child was free at
        ``LOOKS`` looks in a row and Redis was asked for nothing between them.
        """
        tasks = self._consumer.task_consumer
        # kombu's own stamp of the last BRPOP. Orders may take a worker's queues away; then it has nothing to ask for.
        asked = None if tasks is None else getattr(tasks.channel, "_brpop_sent_at", None)
        busy = len(state.active_requests) >= self._consumer.pool.num_processes
        if tasks is None or not tasks.queues or busy or asked != self._asked:
            self._asked, self._same = asked, 0
            return
        self._same += 1
        if self._same >= LOOKS:
            self._same = 0
            self._times.inc()
            log.error("no message was asked for though a child is free; connects anew", looks=LOOKS)
            raise RedisConnectionError("the connection asked Redis for no messages")


class EarStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Starts with each connection and ends with it."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._timer: Any = None
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        """Begins to look."""
        self._timer = consumer.timer.call_repeatedly(LOOK_SECONDS, Ear(consumer).look)

    def stop(self, _consumer: Any) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
