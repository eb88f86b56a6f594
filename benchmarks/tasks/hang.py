"""A task that hangs at its first attempt and ends at once at its second: what a killed worker leaves behind."""

from __future__ import annotations

from sicargabox_core.tasks.contracts import NoOp, Nothing, Queue, TaskSpec

HANG = TaskSpec(name="benchmark.hang", queue=Queue.CELERY, payload=NoOp, result=Nothing, title="Prueba", time_limit=300)
APPLICATION = "benchmarks.tasks.hanging"
