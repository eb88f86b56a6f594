"""Celery's own result entry of a task, kept in Redis so that ``AsyncResult`` and Flower tell the truth too.

The row in SQL is the truth; an entry is a copy of it, written after the commit, best effort, with a bounded wait
behind a breaker, and it expires. Live progress between two heartbeats is only here. Celery itself writes no entry
(``task_ignore_result``): it would store the ``None`` of a duplicate and then refuse to overwrite it.

Entries only move forward. A worker that was frozen in the middle of saying "started" says it when it thaws, after
another has redone the task (seen); so each entry begins with its place in the order, and Redis refuses an earlier one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis
import structlog
from redis.exceptions import RedisError

from sicargabox_core.redis_server import Db, connect
from sicargabox_core.tasks import views
from sicargabox_core.tasks.breaker import Breaker
from sicargabox_core.tasks.contracts import FINAL_STATES, State

if TYPE_CHECKING:
    from datetime import datetime

    from sicargabox_core.db import Database
    from sicargabox_core.settings import Settings
    from sicargabox_core.tasks.views import TaskView

log = structlog.get_logger(__name__)

KEY_PREFIX = "celery-task-meta-"
PROGRESS = "PROGRESS"
# Rows read at a time where many have changed, as when a parent is cancelled with all its children.
_COPIED_AT_ONCE = 200
# The longest a caller waits for Redis here: a pulse between heartbeats, a page's look at fresher progress.
TIMEOUT_SECONDS = 0.5

# An entry without a place is Celery's own, of a message it did not know; ours replaces it.
_WRITE_FORWARD = """
local old = redis.call('GET', KEYS[1])
local place = old and string.match(old, '^{"place": (%d+)')
if place and tonumber(place) > tonumber(ARGV[3]) then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1
"""
# Within one attempt: it starts, tells its progress, may be put back to wait, and ends.
_STEPS: dict[str, int] = {State.STARTED: 0, PROGRESS: 1, State.PENDING: 2, State.RETRY: 2}
_LAST_STEP = 3


@dataclass(frozen=True)
class LiveProgress:
    """Progress as the running attempt last told it."""

    attempt: int
    current: int
    total: int | None
    message: str


class ResultEntries:
    """Reads and writes result entries. Thread-safe; every method returns within about half a second."""

    def __init__(self, settings: Settings) -> None:
        """Connects to nothing yet."""
        self._ttl = settings.result_ttl_seconds
        self._redis: redis.Redis = connect(settings, Db.RESULTS, timeout=TIMEOUT_SECONDS)
        self._write_forward = self._redis.register_script(_WRITE_FORWARD)
        self._breaker = Breaker("results")

    def write(self, task: TaskView) -> bool:
        """Writes the entry of a row as it was committed; whether Redis took it."""
        if task.parent_id is not None and task.state not in (State.FAILURE, State.REVOKED):
            # Thousands of chunks would fill the budget with entries nobody asks for; their parent sums them up.
            return True
        return self._store(task.id, task.attempt, _meta(task))

    def succeeded(self, task_id: str, attempt: int, result: Any, finished_at: datetime) -> bool:
        """``write`` for the one who has just committed the SUCCESS of a task without a parent."""
        return self._store(task_id, attempt, _success(task_id, result, finished_at))

    def copy(self, database: Database, ids: Sequence[str]) -> None:
        """Writes the entries of these rows as they are now. Raises what the database raises."""
        for start in range(0, len(ids), _COPIED_AT_ONCE):
            with database.read() as session:
                found = views.found(session, ids[start : start + _COPIED_AT_ONCE])
            for task in found:
                self.write(task)

    def started(self, task_id: str, *, worker: str, attempt: int) -> bool:
        """Says that an attempt has begun."""
        result = {"hostname": worker, "attempt": attempt}
        return self._store(task_id, attempt, _entry(task_id, State.STARTED, result))

    def progress(self, task_id: str, live: LiveProgress) -> bool:
        """Says how far a running attempt is."""
        result = {
            "current": live.current,
            "total": live.total,
            "message": live.message,
            "attempt": live.attempt,
        }
        return self._store(task_id, live.attempt, _entry(task_id, PROGRESS, result))

    def read_progress(self, task_id: str) -> LiveProgress | None:
        """The live progress of a task, none when there is none or Redis does not answer."""
        if not self._breaker.allows():
            return None
        try:
            raw = self._redis.get(KEY_PREFIX + task_id)
        except RedisError:
            self._breaker.failed()
            return None
        self._breaker.succeeded()
        return _read_progress(raw)

    def _store(self, task_id: str, attempt: int, meta: Mapping[str, Any]) -> bool:
        if not self._breaker.allows():
            return False
        place = 10 * attempt + _STEPS.get(meta["status"], _LAST_STEP)
        value = json.dumps({"place": place, **meta}, ensure_ascii=False)
        try:
            # AsyncResult.get() waits on the channel of the key's name, so the script publishes too.
            self._write_forward(keys=[KEY_PREFIX + task_id], args=[value, self._ttl, place])
        except RedisError as error:
            self._breaker.failed()
            log.info("Redis took no result entry; SQL has it", task_id=task_id, error=str(error))
            return False
        self._breaker.succeeded()
        return True


def _read_progress(raw: Any) -> LiveProgress | None:
    if not isinstance(raw, bytes | str):
        return None
    try:
        meta = json.loads(raw)
        if meta["status"] != PROGRESS:
            return None
        result = meta["result"]
        return LiveProgress(
            attempt=int(result["attempt"]),
            current=int(result["current"]),
            total=None if result["total"] is None else int(result["total"]),
            message=str(result["message"]),
        )
    except (ValueError, KeyError, TypeError):
        # Anybody with access to Redis may have written it; what does not fit is not progress.
        return None


def _entry(task_id: str, status: str, result: Any, **more: Any) -> dict[str, Any]:
    return {
        "status": str(status),
        "result": result,
        "traceback": None,
        "children": [],
        "date_done": None,
        "task_id": task_id,
        **more,
    }


def _meta(task: TaskView) -> dict[str, Any]:
    """The row in Celery's JSON form; an error as the dictionary Celery makes of an exception, without a traceback."""
    more: dict[str, Any] = {}
    if task.parent_id is not None:
        more["parent_id"] = task.parent_id
    if task.state in FINAL_STATES:
        more["date_done"] = task.finished_at.isoformat() if task.finished_at else None
    if task.state == State.SUCCESS:
        return _success(task.id, task.result, task.finished_at, **more)
    if task.state in (State.FAILURE, State.RETRY):
        message = f"{task.error_code or 'error'}: {task.error_message or ''}".rstrip(": ")
        return _entry(task.id, task.state, _exception("TaskFailed", "sicargabox_core.errors", message), **more)
    if task.state == State.REVOKED:
        return _entry(task.id, State.REVOKED, _exception("TaskRevokedError", "celery.exceptions", "revoked"), **more)
    if task.state == State.STARTED and task.progress_current is not None:
        result = {
            "current": task.progress_current,
            "total": task.progress_total,
            "message": task.progress_message or "",
            "attempt": task.attempt,
        }
        return _entry(task.id, PROGRESS, result, **more)
    result_of_start = {"hostname": task.worker, "attempt": task.attempt} if task.state == State.STARTED else None
    return _entry(task.id, task.state, result_of_start, **more)


def _success(task_id: str, result: Any, finished_at: datetime | None, **more: Any) -> dict[str, Any]:
    date_done = finished_at.isoformat() if finished_at else None
    return _entry(task_id, State.SUCCESS, result, **(more | {"date_done": date_done}))


def _exception(kind: str, module: str, message: str) -> dict[str, Any]:
    return {"exc_type": kind, "exc_message": [message], "exc_module": module}
