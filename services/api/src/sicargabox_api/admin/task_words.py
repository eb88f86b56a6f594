"""What tasks, states and queues are called on the staff pages."""

from __future__ import annotations

from typing import Any

from sicargabox_api.admin.language import _
from sicargabox_core.tasks.contracts import TASKS
from sicargabox_core.tasks.store import TaskView

STATE_WORDS: dict[str, Any] = {
    "PENDING": _("Waiting"),
    "RETRY": _("Retrying"),
    "STARTED": _("Started"),
    "PROGRESS": _("In progress"),
    "SUCCESS": _("Finished"),
    "FAILURE": _("Failed"),
    "REVOKED": _("Cancelled"),
}
STATE_TONES = {
    "PENDING": "secondary",
    "RETRY": "orange",
    "STARTED": "blue",
    "PROGRESS": "blue",
    "SUCCESS": "green",
    "FAILURE": "red",
    "REVOKED": "purple",
}
_TASK_WORDS: dict[str, Any] = {
    "search.rebuild_index": _("Rebuild index"),
    "search.delete_index": _("Delete the index"),
    "search.update_lines": _("Update lines in the index"),
    "search.audit": _("Audit the index"),
    "ai.generate_keywords": _("Generate keywords"),
    "ai.generate_keywords_chunk": _("Generate keywords (part)"),
    "learning.analyse_selections": _("Analyse selections"),
    "learning.evaluate": _("Measure the search"),
    "housekeeping.delete_expired": _("Delete what has expired"),
    "housekeeping.no_op": _("Test of housekeeping"),
    "search.no_op": _("Test of the index's queue"),
    "ai.no_op": _("Test of keyword generation"),
    "learning.no_op": _("Test of learning"),
}
QUEUE_WORDS: dict[str, Any] = {
    "elasticsearch": _("Search index"),
    "ai_generation": _("Keyword generation"),
    "learning": _("Learning"),
    "celery": _("Housekeeping"),
}


def task_word(name: str) -> Any:
    """The task's name for people; one of a newer release keeps its technical name."""
    return _TASK_WORDS.get(name) or (TASKS[name].title if name in TASKS else name)


def task_choices() -> list[tuple[str, Any]]:
    """Every known task with its word."""
    return [(name, task_word(name)) for name in TASKS]


def percent(task: TaskView) -> int | None:
    """How far a task is; 100 only once it has succeeded, none when it cannot be said."""
    if task.state == "SUCCESS":
        return 100
    if task.progress_current is None or not task.progress_total:
        return None
    return min(99, task.progress_current * 100 // task.progress_total)
