"""The queues as people see them: what waits and runs by SQL, which workers listen and what lies in Redis.

Reads only: looking at a queue takes no message from it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import redis
from redis.exceptions import RedisError
from sqlalchemy import and_, case, func, select

from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import Unavailable
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.contracts import Queue
from sicargabox_core.tasks.messages import PUBLISHED_AT, REQUEST_ID
from sicargabox_core.tasks.presence import workers
from sicargabox_core.tasks.reconcile import EMPTY, OldestMessage
from sicargabox_core.tasks.rows import OPEN, STARTED, WAITING, now, tasks

MESSAGES_MOST = 200
# From so many unfinished rows on a count is kept for a hundred times as long as it took: whoever looks how often,
# counting takes a process no more than a hundredth of its time.
MANY = 10_000
KEPT_TIMES_ITS_COST = 100


@dataclass(frozen=True)
class QueueFigures:
    """One queue. ``waiting``: due; ``delayed``: not yet due; ``running``: held by a worker now, so a parent that waits
    for its children does not count. ``oldest_age_seconds``: how long the oldest due task has waited, 0 when none does.
    ``workers``, ``published`` (messages in Redis) and ``without_message`` (due tasks beyond those messages: they wait
    for the scheduler to publish them) are none when Redis does not answer.
    """

    queue: str
    waiting: int
    delayed: int
    running: int
    oldest_age_seconds: float
    workers: int | None
    published: int | None
    without_message: int | None


@dataclass(frozen=True)
class QueueMessage:
    """A message waiting in Redis. ``readable`` is false for what is not ours: only ``size`` (bytes) is told."""

    readable: bool
    size: int
    id: str = ""
    name: str = ""
    published_at: datetime | None = None
    request_id: str = ""


class _Counts(Protocol):
    waiting: int
    delayed: int
    running: int
    oldest: datetime | None


@dataclass(frozen=True)
class _Counted:
    rows: dict[str, _Counts]
    moment: datetime
    good_until: float


_counted: WeakKeyDictionary[Database, _Counted] = WeakKeyDictionary()


def _count(database: Database) -> _Counted:
    """What SQL says. Counting 100,000 rows takes it 50 to 130 ms, so of many an answer is kept for a while."""
    kept = _counted.get(database)
    if kept is not None and time.monotonic() < kept.good_until:
        return kept
    waiting_now = and_(WAITING, tasks.c.waits_for.is_(None), tasks.c.run_at <= now())
    running_now = and_(STARTED, tasks.c.lease_until.is_not(None))
    began = time.monotonic()
    with database.read() as session:
        rows: dict[str, Any] = {
            row.queue: row
            for row in session.execute(
                select(
                    tasks.c.queue,
                    func.sum(case((waiting_now, 1), else_=0)).label("waiting"),
                    func.sum(case((and_(WAITING, ~waiting_now), 1), else_=0)).label("delayed"),
                    func.sum(case((running_now, 1), else_=0)).label("running"),
                    func.min(case((waiting_now, tasks.c.run_at), else_=None)).label("oldest"),
                )
                .where(OPEN)
                .group_by(tasks.c.queue)
            )
        }
        moment = session.execute(select(db_now())).scalar_one()
    ended = time.monotonic()
    many = sum(row.waiting + row.delayed + row.running for row in rows.values()) >= MANY
    counted = _Counted(rows, moment, ended + (ended - began) * KEPT_TIMES_ITS_COST if many else 0.0)
    _counted[database] = counted
    return counted


def queue_figures(database: Database, broker: redis.Redis) -> list[QueueFigures]:
    """Every queue, in the order of ``Queue``; ``broker`` is a client of DB 0. SQL alone answers when Redis is away.

    With more than 10,000 unfinished tasks what SQL says may be some seconds old.
    """
    counted = _count(database)
    rows, moment = counted.rows, counted.moment
    try:
        published, present = _lengths(broker), workers(broker)
    except RedisError:
        published, present = None, None
    figures = []
    for queue in Queue:
        row = rows.get(queue.value)
        waiting = int(row.waiting) if row else 0
        messages = None if published is None else published[queue.value]
        figures.append(
            QueueFigures(
                queue=queue.value,
                waiting=waiting,
                delayed=int(row.delayed) if row else 0,
                running=int(row.running) if row else 0,
                oldest_age_seconds=max(0.0, (moment - row.oldest).total_seconds()) if row and row.oldest else 0.0,
                workers=None if present is None else sum(queue.value in one.queues for one in present),
                published=messages,
                without_message=None if messages is None else max(0, waiting - messages),
            )
        )
    return figures


def _lengths(broker: redis.Redis) -> dict[str, int]:
    with broker.pipeline(transaction=False) as pipe:
        for queue in Queue:
            pipe.llen(queue.value)
        return dict(zip([queue.value for queue in Queue], pipe.execute(), strict=True))


def queue_messages(broker: redis.Redis, queue: str, limit: int = 50) -> list[QueueMessage]:
    """The messages that will be taken next from ``queue``, at most 200, oldest first.

    Raises ``Unavailable`` when Redis does not answer.
    """
    limit = max(1, min(limit, MESSAGES_MOST))
    try:
        raw: Any = broker.lrange(queue, -limit, -1)
    except RedisError as error:
        raise Unavailable("Redis does not answer") from error
    return [_message(one) for one in reversed(raw)]


def _message(raw: bytes) -> QueueMessage:
    headers = _headers(raw)
    if headers is None:
        return QueueMessage(readable=False, size=len(raw))
    return QueueMessage(
        readable=True,
        size=len(raw),
        id=str(headers.get("id", ""))[:100],
        name=str(headers.get("task", ""))[:100],
        published_at=_moment(headers),
        request_id=str(headers.get(REQUEST_ID) or "")[:64],
    )


def _headers(raw: bytes | str) -> Mapping[str, Any] | None:
    try:
        headers = json.loads(raw)["headers"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return headers if isinstance(headers, dict) else None


def _moment(headers: Mapping[str, Any]) -> datetime | None:
    stamp = headers.get(PUBLISHED_AT)
    try:
        return None if stamp is None else datetime.fromtimestamp(float(stamp) / 1000, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


class RedisBroker:
    """What the reconciler asks of the broker: when the oldest message of a queue was published.

    Always of the primary: a replica that lags shows messages that are gone.
    """

    def __init__(self, settings: Settings) -> None:
        """Connects to nothing yet."""
        self._redis = connect(settings, Db.BROKER)

    def oldest_message_published_at(self, queue: str) -> OldestMessage:
        """The stamp of the message that will be delivered next; ``EMPTY`` without one, None when it carries none.

        Raises ``Unavailable`` when Redis does not answer within a second.
        """
        try:
            raw: Any = self._redis.lindex(queue, -1)
        except RedisError as error:
            raise Unavailable("Redis does not answer") from error
        if raw is None:
            return EMPTY
        headers = _headers(raw)
        return None if headers is None else _moment(headers)
