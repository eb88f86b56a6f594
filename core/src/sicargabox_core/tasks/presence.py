"""Which workers listen and whether a scheduler lives: each says so in Redis every few seconds,
and falls silent by a TTL when it dies.

No clock is compared, so hosts may disagree about the time. It is for people and figures only; no decision about a
task depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis

SECONDS_BETWEEN = 5
TTL_SECONDS = 15
_NAMES = "sicargabox:workers"
_PREFIX = "sicargabox:worker:"
_SCHEDULER = "sicargabox:scheduler"
_SCHEDULER_TTL_SECONDS = 30


@dataclass(frozen=True)
class Presence:
    """A worker that takes messages: its name, its queues and how many tasks it runs at once."""

    worker: str
    queues: tuple[str, ...]
    concurrency: int


def tell(client: redis.Redis, presence: Presence) -> None:
    """Says that this worker takes messages, for the next 15 s. Raises ``RedisError``."""
    value = json.dumps({"queues": presence.queues, "concurrency": presence.concurrency})
    with client.pipeline(transaction=False) as pipe:
        pipe.sadd(_NAMES, presence.worker)
        pipe.expire(_NAMES, 10 * TTL_SECONDS)
        pipe.set(_PREFIX + presence.worker, value, ex=TTL_SECONDS)
        pipe.execute()


def forget(client: redis.Redis, worker: str) -> None:
    """Says that this worker takes no more messages. Raises ``RedisError``."""
    client.delete(_PREFIX + worker)


def workers(client: redis.Redis) -> list[Presence]:
    """The workers that spoke within the last 15 s, by name; reads only, so a replica may be asked.

    Raises ``RedisError``.
    """
    return list(_present(_told(client)))


def forget_silent(client: redis.Redis) -> None:
    """Strikes from the list of names those that fell silent; the scheduler does it. Raises ``RedisError``."""
    gone = [name for name, value in _told(client) if value is None]
    if gone:
        client.srem(_NAMES, *gone)


def _told(client: redis.Redis) -> list[tuple[str, bytes | None]]:
    answer: Any = client.smembers(_NAMES)
    names = sorted(name.decode(errors="replace") for name in answer)
    if not names:
        return []
    values: Any = client.mget([_PREFIX + name for name in names])
    return list(zip(names, values, strict=True))


def tell_of_scheduler(client: redis.Redis, last_pass: datetime) -> None:
    """Says, for the next 30 s, when a scheduler's last pass ended, by the database's clock. Raises ``RedisError``."""
    client.set(_SCHEDULER, last_pass.isoformat(), ex=_SCHEDULER_TTL_SECONDS)


def last_pass_of_scheduler(client: redis.Redis) -> datetime | None:
    """When a scheduler's last pass ended; none when none spoke within 30 s. Raises ``RedisError``."""
    told: Any = client.get(_SCHEDULER)
    try:
        return None if told is None else datetime.fromisoformat(told.decode())
    except ValueError:
        return None  # another release's words


def _present(told: Iterable[tuple[str, bytes | None]]) -> Iterable[Presence]:
    for name, value in told:
        if value is None:
            continue
        try:
            words = json.loads(value)
            yield Presence(name, tuple(map(str, words["queues"])), int(words["concurrency"]))
        except (ValueError, KeyError, TypeError):
            continue  # another release's words
