"""What the API, the staff pages and the command line use of the durable tasks: commit in SQL, then tell Redis.

Nothing here waits for Redis longer than half a second, and only where a reader asked for fresher progress.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sicargabox_core.errors import InvalidInput, TaskFailed, Unavailable
from sicargabox_core.observability import count_accepted
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import Payload, State, TaskSpec

if TYPE_CHECKING:
    from sicargabox_core.db import Database
    from sicargabox_core.tasks.dispatch import Publisher
    from sicargabox_core.tasks.results import LiveProgress, ResultEntries

# Fast at first, since most tasks of a command line end within a second; then four looks a second.
_WAIT_FIRST_SECONDS = 0.01
_WAIT_MOST_SECONDS = 0.25


class TaskService:
    """Submit, look at, cancel and repeat tasks. Thread-safe; one per process."""

    def __init__(self, database: Database, publisher: Publisher, results: ResultEntries | None = None) -> None:
        """``results``: where fresher progress is read and entries are written; none: SQL alone."""
        self._database = database
        self._publisher = publisher
        self._results = results

    def submit(
        self,
        spec: TaskSpec[Any, Any],
        payload: Payload,
        *,
        initiated_by: str,
        request_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> store.Submission:
        """Accepts a task: it is accepted once this returns, whatever becomes of Redis or any process.

        Raises ``InvalidInput``, ``IdempotencyMismatch``, ``AlreadyRunning``.
        """
        submission = store.submit_alone(
            self._database,
            spec,
            payload,
            initiated_by=initiated_by,
            request_id=request_id,
            idempotency_key=idempotency_key,
        )
        if submission.created:
            count_accepted(submission.task)
        if submission.due == (submission.task.id,):
            self._publisher.publish([submission.task])
        return submission

    def key_is_known(self, spec: TaskSpec[Any, Any], *, initiated_by: str, idempotency_key: str) -> bool:
        """Whether ``submit`` with this key would be answered by the task that was made with it."""
        with self._database.read() as session:
            return store.key_is_known(session, spec, initiated_by, idempotency_key)

    def get(self, task_id: str) -> store.TaskView:
        """The task, with the progress its worker told last; raises ``NotFound``."""
        with self._database.read() as session:
            task = store.get(session, task_id)
        if task.state is not State.STARTED or task.children_total is not None or self._results is None:
            return task
        return with_live_progress(task, self._results.read_progress(task_id))

    def list(self, **conditions: Any) -> store.Page:
        """A page of tasks, newest first; conditions and errors as ``store.list_tasks``."""
        with self._database.read() as session:
            return store.list_tasks(session, **conditions)

    def cancel(self, task_id: str, *, by: str) -> store.CancelOutcome:
        """Cancels a task and says what became of that; raises ``NotFound``."""
        outcome = store.request_cancel(self._database, task_id, by=by)
        self._tell(outcome.due, outcome.final)
        return outcome

    def retry(self, task_id: str, *, by: str, request_id: str | None = None) -> store.Submission:
        """Makes a new task of a finished one; raises ``NotFound``, ``Conflict``, ``AlreadyRunning``."""
        submission = store.retry(self._database, task_id, by=by, request_id=request_id)
        if submission.created:
            count_accepted(submission.task)
        self._tell(submission.due, ())
        return submission

    def retry_dead(
        self,
        ids: Sequence[str],
        *,
        by: str,
        request_id: str | None = None,
        allowed: Callable[[store.TaskView], bool] = lambda _task: True,
    ) -> store.Repetitions:
        """Repeats those dead letters among ``ids`` (at most ``REPEATED_AT_ONCE``) that nobody has repeated yet.

        Raises ``InvalidInput`` for more.
        """
        if len(ids) > store.REPEATED_AT_ONCE:
            raise InvalidInput(
                f"{len(ids)} are too many at once", field="ids", remedy=f"Send at most {store.REPEATED_AT_ONCE}."
            )
        done = store.retry_dead(self._database, ids, by=by, request_id=request_id, allowed=allowed)
        for submission in done.repeated.values():
            count_accepted(submission.task)
        self._tell([task_id for one in done.repeated.values() for task_id in one.due], ())
        return done

    def wait(
        self, task_id: str, timeout: float, *, on_change: Callable[[store.TaskView], None] | None = None
    ) -> store.TaskView:
        """Returns the task once it is final, telling ``on_change`` what it looks like meanwhile.

        Raises ``Unavailable`` after ``timeout`` seconds and ``NotFound``.
        """
        deadline = time.monotonic() + timeout
        pause = _WAIT_FIRST_SECONDS
        while True:
            task = self.get(task_id)
            if on_change is not None:
                on_change(task)
            if task.is_final:
                return task
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"task {task_id} did not end within {timeout:g} s; it is {task.shown_state} and goes on",
                    remedy=f"Look again with `sicargabox tasks show {task_id}`.",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, _WAIT_MOST_SECONDS)

    def result(self, spec: TaskSpec[Any, Any], task: store.TaskView) -> Payload:
        """The typed result of a finished task; raises ``TaskFailed`` when it has none."""
        if task.state is not State.SUCCESS or task.result is None:
            raise TaskFailed(task.error_message or f"the task ended as {task.state}")
        typed: Payload = spec.result.model_validate(task.result)
        return typed

    def _tell(self, due: Sequence[str], final: Sequence[str]) -> None:
        if due:
            with self._database.read() as session:
                hints = store.hints(session, due)
            self._publisher.publish(hints)
        if self._results is not None and final:
            # Read in the background too: with a parent thousands of children may have ended.
            self._publisher.defer(functools.partial(self._results.copy, self._database, final))


def with_live_progress(task: store.TaskView, live: LiveProgress | None) -> store.TaskView:
    """``task`` with ``live`` where that is of the same attempt and further on."""
    if live is None or live.attempt != task.attempt or live.current < (task.progress_current or 0):
        return task
    return dataclasses.replace(
        task,
        shown_state="PROGRESS",
        progress_current=live.current,
        progress_total=live.total if live.total is not None else task.progress_total,
        progress_message=live.message or None,
    )
