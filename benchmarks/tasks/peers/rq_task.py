"""RQ, with its own defaults."""

from __future__ import annotations

import redis
import rq

from benchmarks.tasks.peers.surroundings import REDIS_URL, address, mark, numbers

_BATCH = 500


def no_op(number: int) -> None:
    """Does nothing."""
    mark(number)


def fill(count: int) -> None:
    """Puts a backlog into the queue."""
    queue = rq.Queue(connection=redis.Redis.from_url(f"{address(REDIS_URL)}/0"))
    jobs = [rq.Queue.prepare_data(no_op, args=(number,)) for number in numbers(count)]
    for start in range(0, count, _BATCH):
        queue.enqueue_many(jobs[start : start + _BATCH])
