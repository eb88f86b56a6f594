"""How much fits: the bytes of one waiting task and of one result entry in Redis, and what they mean for the budgets.

Measured on the server that is in use, in a transaction that ends with nothing left behind; where that is not possible
(a full server, a user without the right) the figures recorded here are used and said to be so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import uuid_utils

from sicargabox_core.redis_server import BUDGETS, EXPIRY_BYTES, Db, RedisError, connect
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.contracts import UPDATE_LINES
from sicargabox_core.tasks.messages import Messages
from sicargabox_core.tasks.results import KEY_PREFIX
from sicargabox_core.tasks.views import Hint

if TYPE_CHECKING:
    from sicargabox_core.settings import Settings

# Redis 7.0.15 with redis/redis.conf: what is measured here, and used_memory beside 40,000 messages and 200,000 entries
# (1176.9 and 389.2). Valkey 9.1: 1036 and 364 (1035.5 and 331.6).
RECORDED_MESSAGE_BYTES = 1177
RECORDED_RESULT_BYTES = 388
RECORDED_ON = "2026-11-23"
# The server's memory that may hold data: a tenth is for clients, replication and forks.
USABLE = 0.9
_MAXIMUM = 256 * 1024 * 1024
# Enough that the list's own few bytes do not count.
_MESSAGES = 400
# In Redis' own words EXPIRE with 0 deletes; our users with least rights may not DEL.
_AT_ONCE = 0


@dataclass(frozen=True)
class Capacity:
    """``message_bytes`` per waiting task, ``result_bytes`` per finished one; the rest follows from them.

    ``measured``: on this server now; else as recorded on ``RECORDED_ON``. ``maximum``: maxmemory in bytes.
    A child that succeeds writes no entry, so ``results_per_second`` counts tasks that people started.
    """

    measured: bool
    message_bytes: float
    result_bytes: float
    maximum: int
    result_seconds: int
    waiting_in_budget: int
    waiting_in_all: int
    results_in_budget: int
    results_per_second: float


def capacity(settings: Settings) -> Capacity:
    """Measures and reckons. Raises nothing for a Redis that is away: the recorded figures are told then."""
    message, result, maximum, measured = float(RECORDED_MESSAGE_BYTES), float(RECORDED_RESULT_BYTES), _MAXIMUM, False
    try:
        message, result = _message_bytes(settings), _result_bytes(settings)
        measured = True
        with connect(settings, Db.BROKER) as client:
            # Behind Sentinels the client may not read the configuration, but everyone may read INFO.
            told: dict[str, Any] = client.info("memory")
            maximum = int(told.get("maxmemory", 0)) or _MAXIMUM
    except RedisError:
        pass
    results = int(BUDGETS[Db.RESULTS] / result)
    return Capacity(
        measured=measured,
        message_bytes=message,
        result_bytes=result,
        maximum=maximum,
        result_seconds=settings.result_ttl_seconds,
        waiting_in_budget=int(BUDGETS[Db.BROKER] / message),
        waiting_in_all=int(maximum * USABLE / message),
        results_in_budget=results,
        results_per_second=results / settings.result_ttl_seconds,
    )


def typical_message(settings: Settings) -> str:
    """A message as the publisher sends it, sent nowhere."""
    celery = make_celery(settings, "capacity")
    stamp = datetime(2026, 3, 2, 8, 0, 0, 12_000, tzinfo=UTC)
    hint = Hint(str(uuid_utils.uuid7()), UPDATE_LINES.name, UPDATE_LINES.queue.value, stamp, uuid4().hex)
    return Messages(celery).write(hint)


def typical_entry(task_id: str) -> str:
    """The entry of a small task that succeeded, as ``results`` writes it (a law compares them)."""
    return json.dumps(
        {
            "place": 13,
            "status": "SUCCESS",
            "result": {"updated": 12, "deleted": 0},
            "traceback": None,
            "children": [],
            "date_done": "2026-03-02T08:00:01.990000+00:00",
            "task_id": task_id,
        }
    )


def _message_bytes(settings: Settings) -> float:
    message = typical_message(settings)
    key = f"sicargabox:capacity:{uuid4()}"
    with connect(settings, Db.BROKER) as client, client.pipeline(transaction=True) as pipe:
        pipe.lpush(key, *[message] * _MESSAGES)
        pipe.memory_usage(key, samples=0)
        pipe.expire(key, _AT_ONCE)
        return float(pipe.execute()[1]) / _MESSAGES


def _result_bytes(settings: Settings) -> float:
    task_id = str(uuid_utils.uuid7())
    key = KEY_PREFIX + task_id
    with connect(settings, Db.RESULTS) as client, client.pipeline(transaction=True) as pipe:
        pipe.set(key, typical_entry(task_id), ex=settings.result_ttl_seconds)
        pipe.memory_usage(key)
        pipe.expire(key, _AT_ONCE)
        return float(pipe.execute()[1]) + EXPIRY_BYTES
