"""Bare Celery, with the settings that lose and repeat least: what a careful project would use."""

from __future__ import annotations

from typing import Any

from celery import Celery

from benchmarks.tasks.peers.surroundings import REDIS_URL, address, mark, numbers

app = Celery("bare", broker=f"{address(REDIS_URL)}/0", set_as_current=False)
app.conf.update(
    broker_transport_options={
        "socket_timeout": 5,
        "socket_connect_timeout": 1,
        "socket_keepalive": True,
        "health_check_interval": 5,
        "retry_on_timeout": False,
        "visibility_timeout": 3600,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "unacked_restore_limit": 200,
        "unacked_mutex_expire": 15,
        "max_connections": 50,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    task_default_queue="bare",
)


@app.task(name="bare.no_op", shared=False)  # type: ignore[untyped-decorator]  # Celery ships no types
def no_op(number: int) -> None:
    """Does nothing."""
    mark(number)


def fill(count: int) -> None:
    """Puts a backlog into the queue."""
    task: Any = app.tasks["bare.no_op"]
    with app.producer_pool.acquire() as producer:
        for number in numbers(count):
            task.apply_async((number,), producer=producer)
