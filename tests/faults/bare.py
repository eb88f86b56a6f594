"""Celery by itself, with the product's settings and none of its protocol: what the control is made of.

``celery -A tests.faults.bare worker``. The message is the task here; each execution writes a line to the ledger.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from sicargabox_core.settings import Settings, load_settings
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.contracts import Queue
from tests.faults import ledger

# A queue that the shipped users may use.
QUEUE = Queue.LEARNING.value
TASK = "faults.bare"
TASK_SECONDS = 0.05


def make_bare(settings: Settings) -> Celery:
    """Broker, time-outs, late acknowledgement and prefetching as in the product."""
    app = make_celery(settings, "bare")

    def execute(number: int) -> None:
        time.sleep(TASK_SECONDS)
        ledger.append(Path(os.environ["FAULTS_EXECUTIONS"]), {"number": number})

    app.task(execute, name=TASK, acks_late=True)
    return app


app = make_bare(load_settings())
