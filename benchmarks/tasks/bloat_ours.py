"""The product's side of the bloat runs: one short task on the real wrapper, and who accepts it.

``celery -A benchmarks.tasks.bloat_ours worker`` is a worker like the product's three, with their ``make_worker_app``
and ``handles``; only what the task does is the benchmark's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from celery import Celery

from sicargabox_core.db import Database
from sicargabox_core.settings import load_settings
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import Payload, Queue, TaskSpec
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.service import TaskService
from sicargabox_core.tasks.worker import handles, make_worker_app

QUEUE = Queue.ELASTICSEARCH


class Short(Payload):
    """Seconds that the task takes, asleep: the machine's processors shall not be what limits the workers."""

    seconds: float


class Slept(Payload):
    """Nothing to tell."""


SHORT = TaskSpec(name="benchmark.short", queue=QUEUE, payload=Short, result=Slept, title="Prueba", time_limit=60.0)


def accepting(seconds: float) -> Callable[[], object]:
    """A function that accepts one task each time it is called: a committed row, and a message in the background."""
    settings = load_settings()
    publisher = Publisher(settings, make_celery(settings, "benchmark"), capacity=100_000)
    service = TaskService(Database.from_settings(settings), publisher)
    return lambda: service.submit(SHORT, Short(seconds=seconds), initiated_by="benchmark")


def _worker() -> Celery:
    application = make_worker_app("benchmark")

    @handles(application, SHORT)
    def short(payload: Short, _ctx: TaskContext) -> Slept:
        time.sleep(payload.seconds)
        return Slept()

    return application


# Celery looks for `app`; who only accepts tasks needs no worker.
if os.environ.get("BENCHMARK_ROLE") == "worker":
    app = _worker()
