"""The part of a worker's parent process that takes messages: Celery's, telling Flower several events at a time.

Celery means to gather a task's events (received, started, succeeded) but sends what there is in every turn of its loop,
which is once or more for each task: a third of the parent's work. A tenth of a second later is soon enough for eyes.
"""

from __future__ import annotations

from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer

EVENTS_SECONDS = 0.1


class Consumer(CeleryConsumer):  # type: ignore[misc]  # Celery ships no types
    """Named in ``worker_consumer``."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._events_due = False
        super().__init__(*arguments, **more)

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
