"""Dramatiq over Redis, without results."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.tasks.peers.surroundings import REDIS_URL, address, mark, numbers

dramatiq.set_broker(RedisBroker(url=f"{address(REDIS_URL)}/0"))


@dramatiq.actor  # type: ignore[untyped-decorator]  # types must not depend on what is installed
def no_op(number: int) -> None:
    """Does nothing."""
    mark(number)


def fill(count: int) -> None:
    """Puts a backlog into the queue."""
    for number in numbers(count):
        no_op.send(number)
