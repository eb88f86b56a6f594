"""The public face of the durable tasks' SQL side; everything here is a name of a module beside it.

``submission`` accepts, ``claiming`` claims, ``lifecycle`` runs, ``endings`` ends, ``parents`` hands out children,
``cancellation``, ``repetition`` and ``retention`` do what they say, ``views`` reads; ``rows`` holds the words of all.
``reconcile`` and ``schedules`` stand on this and are the scheduler's.
"""

from sicargabox_core.tasks.cancellation import CancelOutcome, request_cancel
from sicargabox_core.tasks.claiming import Claim, claim
from sicargabox_core.tasks.endings import REFUSED, Transition
from sicargabox_core.tasks.lifecycle import (
    Beat,
    Progress,
    described,
    fail,
    finish_alone,
    finish_success,
    heartbeat,
    is_retryable,
    lock_attempt,
    record_error,
    release,
    retry_later,
    revoke,
)
from sicargabox_core.tasks.parents import Child
from sicargabox_core.tasks.repetition import REPEATED_AT_ONCE, Repetitions, Skipped, retry, retry_dead
from sicargabox_core.tasks.retention import delete_finished
from sicargabox_core.tasks.submission import Submission, bump_counter, counter, key_is_known, submit, submit_alone
from sicargabox_core.tasks.views import (
    DEAD_LETTERS_COUNTED,
    Hint,
    Page,
    TaskView,
    dead_letters,
    dead_letters_by_task,
    found,
    get,
    hints,
    list_tasks,
    traceback_of,
)

__all__ = [
    "DEAD_LETTERS_COUNTED",
    "REFUSED",
    "REPEATED_AT_ONCE",
    "Beat",
    "CancelOutcome",
    "Child",
    "Claim",
    "Hint",
    "Page",
    "Progress",
    "Repetitions",
    "Skipped",
    "Submission",
    "TaskView",
    "Transition",
    "bump_counter",
    "claim",
    "counter",
    "dead_letters",
    "dead_letters_by_task",
    "delete_finished",
    "described",
    "fail",
    "finish_alone",
    "finish_success",
    "found",
    "get",
    "heartbeat",
    "hints",
    "is_retryable",
    "key_is_known",
    "list_tasks",
    "lock_attempt",
    "record_error",
    "release",
    "request_cancel",
    "retry",
    "retry_dead",
    "retry_later",
    "revoke",
    "submit",
    "submit_alone",
    "traceback_of",
]
