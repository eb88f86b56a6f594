"""A queue kept at a depth: rows and their messages, made as the product makes them but many at a time.

One task is accepted and published by the product itself; the others are copies of its row and of its message with ids
of their own, so that 100,000 of them take seconds, and keeping up with two workers costs next to nothing.
"""

from __future__ import annotations

import json
import threading
from datetime import datetime
from uuid import uuid4

import redis
import uuid_utils
from sqlalchemy import text

from benchmarks.installation import Installation
from benchmarks.tasks.throughput import submit
from sicargabox_core.tasks.contracts import NO_OP
from sicargabox_core.tasks.messages import PUBLISHED_AT
from sicargabox_core.tasks.models import TaskRow
from tests.servers.valkey import ValkeyServer

QUEUE = NO_OP.queue.value
_SECONDS_BETWEEN = 0.02
_LEAST = 20
_OWN = {"id": "ids.id", "created_at": ":moment", "run_at": ":moment", "published_at": ":moment"}
_COLUMNS = [column.name for column in TaskRow.__table__.columns]
_COPY = text(
    f"INSERT INTO tasks ({', '.join(_COLUMNS)}) "
    f"SELECT {', '.join(_OWN.get(name, f't.{name}') for name in _COLUMNS)} "
    "FROM model_task t CROSS JOIN unnest(CAST(:ids AS text[])) AS ids(id)"
)


class Waiting:
    """Keeps ``depth`` tasks waiting in the queue of no-ops, in a thread, until it is left."""

    def __init__(self, site: Installation, valkey: ValkeyServer, depth: int) -> None:
        """Needs an empty site without workers; fills the queue."""
        self._database, self._depth = site.database, depth
        self._redis: redis.Redis = valkey.client()
        submit(site, 1)
        with site.database.write() as session:
            session.execute(text("CREATE TABLE model_task AS SELECT * FROM tasks"))
            self._model_id = str(session.scalar(text("SELECT id FROM model_task")))
        self._model = json.loads(self._redis.lindex(QUEUE, 0))  # type: ignore[arg-type]  # the client is not asynchronous
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waiting", daemon=True)
        self._error: Exception | None = None
        self._top_up()

    def __enter__(self) -> Waiting:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while not self._stop.wait(_SECONDS_BETWEEN):
            try:
                self._top_up()
            except Exception as error:  # noqa: BLE001  # told to whoever leaves
                self._error = error
                return

    def _top_up(self) -> None:
        missing = self._depth - int(self._redis.llen(QUEUE))
        if missing <= 0:
            return
        ids = [str(uuid_utils.uuid7()) for _ in range(max(missing, _LEAST))]
        with self._database.write() as session:
            moment: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
            session.execute(_COPY, {"ids": ids, "moment": moment})
        self._model["headers"][PUBLISHED_AT] = round(moment.timestamp() * 1000)
        message, tag = json.dumps(self._model), self._model["properties"]["delivery_tag"]
        with self._redis.pipeline(transaction=False) as pipe:
            for one in ids:
                pipe.lpush(QUEUE, message.replace(self._model_id, one).replace(tag, str(uuid4())))
            pipe.execute()
