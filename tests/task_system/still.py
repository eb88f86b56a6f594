"""A worker whose loop can be made to stand still: ``celery -A tests.task_system.still worker``."""

from __future__ import annotations

import time
from typing import Any

from celery.worker.control import Panel, ok

from sicargabox_core.tasks import consumer
from tests.task_system.probe import app

__all__ = ["app"]

# Two turns of the loop, and not two minutes.
consumer.STILL_SECONDS = 10.0


@Panel.register(name="stand_still", args=[("seconds", float)])  # type: ignore[untyped-decorator]  # Celery ships no types
def stand_still(_state: Any, seconds: float) -> Any:
    """Holds the parent's event loop, in which orders are carried out."""
    time.sleep(seconds)
    return ok("went on")
