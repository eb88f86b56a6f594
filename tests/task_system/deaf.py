"""A worker that can be made deaf, as people's workers became: ``celery -A tests.task_system.deaf worker``."""

from __future__ import annotations

from typing import Any

from celery.worker.control import Panel, ok

from sicargabox_core.tasks import deafness
from tests.task_system.probe import app

__all__ = ["app"]

deafness.LOOK_SECONDS = 0.5
deafness.LOOKS = 4


@Panel.register(name="go_deaf")  # type: ignore[untyped-decorator]  # Celery ships no types
def go_deaf(state: Any) -> Any:
    """The poller forgets the channel of tasks: connected, its queues declared, and nothing asks for messages."""
    channel = state.consumer.task_consumer.channel
    channel.connection.cycle._channels.discard(channel)
    return ok("heard")
