"""What the API says of a task. Not the row: the wire's names stay when a column's changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sicargabox_api.routes.parameters import Moment, Word
from sicargabox_core.tasks.contracts import TASKS, State
from sicargabox_core.tasks.store import REPEATED_AT_ONCE, TaskView

_RUNNING: dict[str, Any] = {
    "id": "0192f0c1-5e7a-7cc3-9f5e-1c2d3e4f5a6b",
    "name": "search.rebuild_index",
    "title": "Reconstruir índice",
    "queue": "elasticsearch",
    "state": "PROGRESS",
    "final": False,
    "initiated_by": "user:ana",
    "created_at": "2026-03-02T08:00:00.012000Z",
    "run_at": "2026-03-02T08:00:00.012000Z",
    "started_at": "2026-03-02T08:00:00.090000Z",
    "finished_at": None,
    "cancel_requested_at": None,
    "attempt": 1,
    "failures": 0,
    "max_attempts": 8,
    "worker": "elasticsearch@node-1",
    "no_worker_knows_it": False,
    "progress": {"current": 500, "total": 7495, "percent": 6, "message": "500/7495 documents indexed"},
    "children": None,
    "result": None,
    "error": None,
    "parent": None,
    "retried_from": None,
    "waits_for": None,
    "schedule": None,
    "scheduled_for": None,
    "request_id": "f3b0c44298fc1c149afbf4c8996fb924",
}
_ENDED: dict[str, Any] = _RUNNING | {
    "state": "SUCCESS",
    "final": True,
    "finished_at": "2026-03-02T08:00:01.990000Z",
    "progress": {"current": 7495, "total": 7495, "percent": 100, "message": "7495/7495 documents indexed"},
    "result": {"documents": 7495, "time": "2s", "seconds": 1.9},
}

_SKIPPED: dict[str, Any] = {
    "id": "0192f0c1-4bbb-7cc3-9f5e-1c2d3e4f5a6b",
    "code": "already_running",
    "detail": "task 0192f0c1-5e7a-7cc3-9f5e-1c2d3e4f5a6b does the same now",
    "task": "0192f0c1-5e7a-7cc3-9f5e-1c2d3e4f5a6b",
}


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class TaskProgress(BaseModel):
    """How far a task is; ``total`` and ``percent`` may be unknown."""

    model_config = _examples(_RUNNING["progress"])

    current: int
    total: int | None
    percent: int | None
    message: str | None


class TaskChildren(BaseModel):
    """The parts that a task handed out."""

    model_config = _examples({"total": 15, "open": 4, "failed": 0})

    total: int
    open: int
    failed: int


class TaskError(BaseModel):
    """Why a task ended in FAILURE, or why its last attempt did."""

    model_config = _examples({"code": "unavailable", "message": "the search engine does not answer"})

    code: str
    message: str | None


class Task(BaseModel):
    """A task. ``state`` is one of Celery's words; a STARTED task with progress is shown as PROGRESS. Times are UTC."""

    model_config = _examples(_RUNNING, _ENDED)

    id: str
    name: str
    title: str
    queue: str
    state: str
    final: bool = Field(description="It will never change again.")
    initiated_by: str = Field(description="user:NAME, token:NAME, schedule:NAME or cli.")
    created_at: datetime
    run_at: datetime = Field(description="Not before this time.")
    started_at: datetime | None = Field(description="Of the newest attempt.")
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    attempt: int
    failures: int
    max_attempts: int
    worker: str | None
    no_worker_knows_it: bool = Field(description="It was offered several times and no worker of this release took it.")
    progress: TaskProgress | None
    children: TaskChildren | None
    result: dict[str, Any] | None
    error: TaskError | None
    parent: str | None
    retried_from: str | None
    waits_for: str | None = Field(description="It becomes due when that task has ended.")
    schedule: str | None
    scheduled_for: datetime | None
    request_id: str | None


class TaskDetail(Task):
    """A task with what it was asked to do."""

    model_config = _examples(_ENDED | {"payload": {}})

    payload: dict[str, Any]


class StartedTask(TaskDetail):
    """The task that answers a request to start one."""

    model_config = _examples(
        _RUNNING | {"state": "PENDING", "progress": None, "payload": {}, "already_running": False, "follow_up": False}
    )

    already_running: bool = Field(description="An unfinished one answers; none was made.")
    follow_up: bool = Field(description="It begins when the running one ends, because data changed meanwhile.")


class CancelAnswer(BaseModel):
    """What became of a cancel: done, asked of the running task, or too late (then ``task.state`` is how it ended)."""

    model_config = _examples({"outcome": "already_ended", "task": _ENDED})

    outcome: Literal["revoked", "requested", "already_ended"]
    task: Task


class DeadLetterFilter(BaseModel):
    """Which dead letters; what is left out does not narrow them. Times are of their acceptance."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": ["ai.generate_keywords"], "error": ["unavailable"]}]},
    )

    name: list[Word] = []
    queue: list[Word] = []
    error: list[Word] = Field([], description="Codes of errors.")
    since: Moment | None = None
    until: Moment | None = None
    before: Word | None = Field(None, description="`next_cursor` of the call before, unchanged.")


class RetryRequest(BaseModel):
    """What to repeat: these ids, or what matches the filter; never both. An empty filter means every dead letter."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"filter": {"name": ["ai.generate_keywords"]}, "limit": 50}, {"ids": [_RUNNING["id"]]}]
        },
    )

    ids: list[UUID] = Field([], max_length=REPEATED_AT_ONCE)
    filter: DeadLetterFilter | None = None
    limit: int = Field(100, ge=1, le=REPEATED_AT_ONCE, description="How many of the filter's at most.")

    @model_validator(mode="after")
    def _one_of_both(self) -> RetryRequest:
        if bool(self.ids) == (self.filter is not None):
            raise ValueError("send either `ids` or `filter`")
        return self


class RepeatedTask(BaseModel):
    """A failed task, and the new one that repeats it."""

    model_config = _examples({"id": "0192f0c1-4aaa-7cc3-9f5e-1c2d3e4f5a6b", "task": _RUNNING})

    id: str
    task: Task


class SkippedTask(BaseModel):
    """A task that was not repeated, and why; ``task``: the one that stands in the way, where one does.

    ``code``: already_repeated, already_running, not_failed, part, not_found, forbidden, conflict, data_fault.
    """

    model_config = _examples(_SKIPPED)

    id: str
    code: str
    detail: str
    task: str | None


class RetryAnswer(BaseModel):
    """What became of each. ``next_cursor``: more match the filter; null: none, or there was no filter."""

    model_config = _examples(
        {
            "repeated": [{"id": "0192f0c1-4aaa-7cc3-9f5e-1c2d3e4f5a6b", "task": _RUNNING}],
            "skipped": [_SKIPPED],
            "next_cursor": None,
        }
    )

    repeated: list[RepeatedTask]
    skipped: list[SkippedTask]
    next_cursor: str | None


class TaskPage(BaseModel):
    """Newest first; ``next_cursor`` is the next request's ``before``, null on the last page."""

    model_config = _examples(
        {"items": [_ENDED], "next_cursor": "MjAyNi0wMy0wMlQwODowMDowMC4wMTIwMDArMDA6MDAgMDE5MmYwYzE="}
    )

    items: list[Task]
    next_cursor: str | None


def members(task: TaskView) -> dict[str, Any]:
    """The members of a ``Task`` for a row."""
    spec = TASKS.get(task.name)
    return {
        "id": task.id,
        "name": task.name,
        "title": spec.title if spec else task.name,
        "queue": task.queue,
        "state": task.shown_state,
        "final": task.is_final,
        "initiated_by": task.initiated_by,
        "created_at": task.created_at,
        "run_at": task.run_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "cancel_requested_at": task.cancel_requested_at,
        "attempt": task.attempt,
        "failures": task.failures,
        "max_attempts": task.max_attempts,
        "worker": task.worker,
        "no_worker_knows_it": task.no_worker_knows_it,
        "progress": _progress(task),
        "children": _children(task),
        "result": task.result,
        "error": TaskError(code=task.error_code, message=task.error_message) if task.error_code else None,
        "parent": task.parent_id,
        "retried_from": task.retried_from,
        "waits_for": task.waits_for,
        "schedule": task.schedule,
        "scheduled_for": task.scheduled_for,
        "request_id": task.request_id,
    }


def _progress(task: TaskView) -> TaskProgress | None:
    if task.progress_current is None:
        return None
    percent = None
    if task.progress_total:
        percent = min(100, task.progress_current * 100 // task.progress_total)
    elif task.state is State.SUCCESS:
        percent = 100
    return TaskProgress(
        current=task.progress_current, total=task.progress_total, percent=percent, message=task.progress_message
    )


def _children(task: TaskView) -> TaskChildren | None:
    if task.children_total is None:
        return None
    return TaskChildren(total=task.children_total, open=task.children_open or 0, failed=task.children_failed or 0)


def task_of(view: TaskView) -> Task:
    """A row as the lists show it."""
    return Task(**members(view))


def detail_of(view: TaskView) -> TaskDetail:
    """A row with its payload."""
    return TaskDetail(**members(view), payload=view.payload)
