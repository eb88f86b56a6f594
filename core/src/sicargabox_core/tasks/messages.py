"""What a message looks like on the wire: Celery's own words, asked for once per kind of message and then filled in.

Celery and kombu take most of a millisecond to put an envelope together, of which nothing but the id differs between
two messages of a task. So each kind is made once, by them, on a channel that keeps it instead of sending it, and ids
take the place of markers. Nothing is sent here, and nothing here knows what the fields mean.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any, Protocol

import uuid_utils
from celery import Celery
from kombu.connection import Connection
from kombu.transport import virtual
from kombu.utils.json import dumps

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


class Messages:
    """Makes the messages of one process: they name the process they come from, so a forked child needs its own."""

    def __init__(self, celery: Celery) -> None:
        """Makes nothing yet."""
        self._celery = celery
        self._forms: dict[tuple[str, str, bool, bool], _Form] = {}

    def write(self, task: Publishable) -> str:
        """The message of a task, as kombu pushes it onto its queue."""
        kind = (task.name, task.queue, task.published_at is not None, bool(task.request_id))
        form = self._forms.get(kind)
        if form is None:
            form = self._forms[kind] = _Form(self._celery, *kind)
        return form.fill(task)


class _Form:
    def __init__(self, celery: Celery, name: str, queue: str, stamped: bool, asked_for: bool) -> None:
        task_id, tag, stamp, request = (uuid.uuid4().hex for _ in range(4))
        headers = ({PUBLISHED_AT: stamp} if stamped else {}) | ({REQUEST_ID: request} if asked_for else {})
        message = _written_by_celery(celery, name, queue, task_id, headers)
        message["properties"]["delivery_tag"] = tag
        self._text: str = dumps(message)
        self._task_id, self._tag, self._stamp, self._request = task_id, tag, f'"{stamp}"', f'"{request}"'

    def fill(self, task: Publishable) -> str:
        text = self._text.replace(self._task_id, json.dumps(task.id)[1:-1])
        text = text.replace(self._tag, str(uuid_utils.uuid4()))
        if task.published_at is not None:
            text = text.replace(self._stamp, str(round(task.published_at.timestamp() * 1000)))
        # For people who look into a queue; the worker itself reads it from the row.
        if task.request_id:
            text = text.replace(self._request, json.dumps(task.request_id))
        return text


def _written_by_celery(celery: Celery, name: str, queue: str, task_id: str, headers: dict[str, Any]) -> dict[str, Any]:
    with Connection(transport=_Desk) as connection:
        producer = celery.amqp.Producer(connection, auto_declare=False)
        celery.send_task(
            name,
            task_id=task_id,
            queue=queue,
            producer=producer,
            retry=False,
            declare=[],
            headers=headers,
            # Celery would subscribe to the result entry of every task it sends, in each sending process.
            ignore_result=True,
            add_to_parent=False,
        )
        written: dict[str, Any] = producer.channel.written
    return written


class _Paper(virtual.Channel):
    """Keeps what is published instead of sending it."""

    written: dict[str, Any]

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        self.written = message


class _Desk(virtual.Transport):
    Channel = _Paper
