"""Watching a task: server-sent events made by looking at its row twice a second.

A listener holds neither a thread nor a database connection between two looks, and there are at most ``MOST_LISTENERS``
of them in a process, so watching cannot starve the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from sicargabox_api.routes.task_models import task_of
from sicargabox_core.errors import NotFound, TooManyRequests
from sicargabox_core.tasks.service import TaskService
from sicargabox_core.tasks.store import TaskView

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

LOOK_SECONDS = 0.5
HEARTBEAT_SECONDS = 15
# Each costs two short SQL reads a second.
MOST_LISTENERS = 100


class Listeners:
    """Counts who is watching in this process; used from one event loop only."""

    def __init__(self, most: int = MOST_LISTENERS) -> None:
        self._most = most
        self.count = 0

    def enter(self) -> None:
        """Takes a place; raises ``TooManyRequests`` when none is free."""
        if self.count >= self._most:
            raise TooManyRequests("too many listeners at this server", retry_after=5)
        self.count += 1

    def leave(self) -> None:
        """Gives the place back."""
        self.count -= 1


class Watching(EventSourceResponse):
    """The answer to a listener, whose place is free again when it ends, however that happens."""

    def __init__(self, listeners: Listeners, events: AsyncIterator[ServerSentEvent]) -> None:
        """Raises ``TooManyRequests`` when no place is free."""
        super().__init__(events, ping=HEARTBEAT_SECONDS, sep="\n")
        listeners.enter()
        self._listeners = listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._listeners.leave()


def event_id(task: TaskView) -> str:
    """What has been seen of a task: changes exactly when an event is due. The browser sends it on reconnecting."""
    return f"{task.attempt}.{task.shown_state}.{task.progress_current}.{task.cancel_requested_at is not None:d}"


async def watch(tasks: TaskService, task: TaskView, last_seen: str | None) -> AsyncIterator[ServerSentEvent]:
    """An event ``state`` or ``progress`` at each change, the first at once; ends after the final state."""
    shown: str | None = None
    while True:
        seen = event_id(task)
        if seen != last_seen:
            kind = "progress" if task.shown_state == shown else "state"
            yield ServerSentEvent(data=task_of(task).model_dump_json(), event=kind, id=seen, sep="\n")
            last_seen, shown = seen, task.shown_state
        if task.is_final:
            return
        await asyncio.sleep(LOOK_SECONDS)
        try:
            task = await run_in_threadpool(tasks.get, task.id)
        except NotFound:
            return
        except SQLAlchemyError:
            # The database is away for a moment: the heartbeat keeps the listener, who will see the state afterwards.
            continue
