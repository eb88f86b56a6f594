"""The tasks of the default queue, which this worker serves too: they belong to no worker type."""

from __future__ import annotations

from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import NO_OP, NoOp, Nothing
from sicargabox_core.tasks.worker import handles
from sicargabox_indexer.app import app


@handles(app, NO_OP)
def no_op(_payload: NoOp, _ctx: TaskContext) -> Nothing:
    """Does nothing: what it costs is what every task costs."""
    return Nothing()
