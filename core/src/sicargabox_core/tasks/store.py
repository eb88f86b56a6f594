"""The public face of the durable tasks' SQL side; everything here is a name of a module beside it.

``submission`` accepts, ``lifecycle`` changes states, ``cancellation``, ``repetition`` and ``retention`` do what they
say, ``views`` reads. ``reconcile`` and ``schedules`` stand on this and are imported by the scheduler alone.
"""

from sicargabox_core.tasks.cancellation import request_cancel
from sicargabox_core.tasks.lifecycle import (
    Beat,
    CancelOutcome,
    Child,
    Claim,
    Progress,
    Transition,
    claim,
    fail,
    finish_success,
    heartbeat,
    is_retryable,
    lock_attempt,
    record_error,
    release,
    retry_later,
    revoke,
)
from sicargabox_core.tasks.repetition import retry
from sicargabox_core.tasks.retention import delete_finished
from sicargabox_core.tasks.submission import Submission, bump_counter, counter, submit
from sicargabox_core.tasks.views import Hint, Page, TaskView, get, hints, list_tasks, traceback_of

__all__ = [
    "Beat",
    "CancelOutcome",
    "Child",
    "Claim",
    "Hint",
    "Page",
    "Progress",
    "Submission",
    "TaskView",
    "Transition",
    "bump_counter",
    "claim",
    "counter",
    "delete_finished",
    "fail",
    "finish_success",
    "get",
    "heartbeat",
    "hints",
    "is_retryable",
    "list_tasks",
    "lock_attempt",
    "record_error",
    "release",
    "request_cancel",
    "retry",
    "retry_later",
    "revoke",
    "submit",
    "traceback_of",
]
