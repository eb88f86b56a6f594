"""The worker side: ``make_worker_app``, ``@handles`` and everything between a message and a committed end.

A message only says that there is a row. The wrapper claims the row, runs the task's function with no transaction
open, and commits its effects together with its end, guarded by the attempt. Nothing here decides what a task means,
and nothing about a task is read from the message.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import structlog
from billiard.common import terminate_handler_fired
from celery import Celery, Task
from celery.exceptions import Ignore, InvalidTaskError, Retry
from celery.worker.strategy import default as celery_strategy
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sicargabox_core import observability
from sicargabox_core.db import Database, patience
from sicargabox_core.errors import TaskFailed, Unavailable
from sicargabox_core.settings import Settings, load_settings
from sicargabox_core.tasks import control, store, views
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.context import AttemptLost, TaskCancelled, TaskContext
from sicargabox_core.tasks.contracts import Payload, State, TaskSpec
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.pulse import Pulse
from sicargabox_core.tasks.results import ResultEntries

log = structlog.get_logger(__name__)

P = TypeVar("P", bound=Payload)
R = TypeVar("R", bound=Payload)
Handler = Callable[[P, TaskContext], R]

# Second line behind the pulse, for code that never lets another thread run: the worker's parent kills the child.
HARD_LIMIT_MARGIN_SECONDS = 15.0
FINISH_RETRY_SECONDS = 0.25
FINISH_LEAST_SECONDS = 1.0
CLAIM_PAUSE_SECONDS = 0.5
# As long as a restart of PostgreSQL takes; a child that waits longer is better free to be stopped.
CLAIM_RETRY_SECONDS = 30.0
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)
GIVE_BACK_SECONDS = 5.0


@dataclass(frozen=True)
class _Ended:
    """How an attempt ended, for Celery's events and the metrics; the row has the truth."""

    outcome: str
    result: dict[str, Any] | None = None
    error: str = ""


class WorkerRuntime:
    """What one worker process holds: settings, and (made anew in every forked child) its connections."""

    def __init__(self, settings: Settings, celery: Celery, service: str) -> None:
        """Connects to nothing yet."""
        self.settings = settings
        self.celery = celery
        self.service = service
        self.specs: dict[str, TaskSpec[Any, Any]] = {}
        self.handlers: dict[str, Handler[Any, Any]] = {}
        # Children inherit it by the fork, so that the parent can release what all of them hold.
        self.worker = f"{service}@{socket.gethostname()}/{os.getpid()}"
        self.draining = threading.Event()
        self._inherited: list[object] = []
        self._connect()

    def _connect(self) -> None:
        self._pid = os.getpid()
        self._database = Database.from_settings(self.settings)
        self._results = ResultEntries(self.settings)
        self._publisher = Publisher(self.settings, self.celery)

    def _own(self) -> None:
        if self._pid != os.getpid():
            # Kept, not closed: closing would end the parent's PostgreSQL session and drop its SQLite locks.
            self._inherited.append((self._database, self._results, self._publisher))
            self._connect()

    @property
    def database(self) -> Database:
        """This process's database."""
        self._own()
        return self._database

    @property
    def results(self) -> ResultEntries:
        """This process's way to the result entries."""
        self._own()
        return self._results

    @property
    def publisher(self) -> Publisher:
        """This process's publisher."""
        self._own()
        return self._publisher

    def close(self) -> None:
        """Sends what is still to be sent and gives the connections back; of an ending process, within about 2 s."""
        if self._pid == os.getpid():
            self._publisher.stop(1.0)
            self._database.dispose()

    def publish(self, due: Sequence[str]) -> None:
        """Sends the messages of rows that a committed transaction made due; what gets lost, the reconciler sends."""
        if due:
            with self.database.read() as session:
                hints = views.hints(session, due)
            self.publisher.publish(hints)

    def announce(self, changed: Sequence[str]) -> None:
        """Writes the result entries of rows that a committed transaction changed."""
        self.results.copy(self.database, changed)

    def after(self, task_id: str, transition: store.Transition) -> None:
        """What follows a committed transition outside SQL; best effort, since SQL already has it."""
        self._tell(tuple(dict.fromkeys((task_id, *transition.final))), transition)

    def after_success(
        self, claim: store.Claim, result: dict[str, Any], finished_at: datetime, transition: store.Transition
    ) -> None:
        """``after`` a SUCCESS: what its entry says is known here, so the row need not be read for it."""
        if claim.parent_id is None:
            self.results.succeeded(claim.id, claim.attempt, result, finished_at)
        if transition.final != (claim.id,) or transition.due:
            self._tell(tuple(one for one in transition.final if one != claim.id), transition)

    def _tell(self, changed: Sequence[str], transition: store.Transition) -> None:
        try:
            self.announce(changed)
            self.publish(transition.due)
        except SQLAlchemyError as error:
            log.warning("could not tell Redis what was committed", tasks=changed, error=str(error))


def make_worker_app(service: str, *, tasks: Sequence[str] = ()) -> Celery:
    """The Celery application of a worker: ``celery -A sicargabox_indexer.app worker -Q elasticsearch,celery``.

    ``service`` is its name in logs and as a worker; ``tasks`` are the modules with its ``@handles`` functions, which
    Celery imports when the worker starts. Reads the settings from the environment; raises ``InvalidSetting``.
    """
    settings = load_settings()
    app = make_celery(settings, service)
    app.conf.include = list(tasks)
    app.conf.worker_consumer = "sicargabox_core.tasks.consumer:Consumer"
    runtime = WorkerRuntime(settings, app, service)
    _RUNTIMES[app] = runtime
    control.install(app, runtime)
    return app


_RUNTIMES: WeakKeyDictionary[Celery, WorkerRuntime] = WeakKeyDictionary()


def handles(app: Celery, spec: TaskSpec[P, R]) -> Callable[[Handler[P, R]], Handler[P, R]]:
    """Registers the decorated function as what runs ``spec`` in this worker.

    The function takes the valid payload and a ``TaskContext`` and returns the spec's result. It must expect to run
    again after any crash: its SQL belongs into ``ctx.effects``, other effects need a key of task id and attempt.
    """
    runtime = _RUNTIMES[app]

    def register(function: Handler[P, R]) -> Handler[P, R]:
        runtime.specs[spec.name] = spec
        runtime.handlers[spec.name] = function

        def run(task: Task, *_args: Any, **_kwargs: Any) -> dict[str, Any] | None:
            # Arguments of a message are none of ours: whatever somebody put there, the row says what to do.
            return _run(runtime, spec, str(task.request.id))

        run.__doc__ = function.__doc__
        app.task(
            run,
            name=spec.name,
            bind=True,
            acks_late=True,
            ignore_result=True,
            throws=(TaskFailed,),
            time_limit=spec.time_limit + HARD_LIMIT_MARGIN_SECONDS,
            Strategy=f"{__name__}:strategy",
        )
        return function

    return register


def strategy(task: Task, app: Celery, consumer: Any, **options: Any) -> Callable[..., Any]:
    """How a worker's parent takes a message: as Celery does, but with nothing from its headers except the id.

    Celery trusts what stands there. A message with a number as its time limit failed after it had been counted as
    taken, and a worker with one child never took a message again (seen); one with an ``eta`` would be kept.
    """
    take = celery_strategy(task, app, consumer, **options)

    def take_plain(message: Any, *arguments: Any, **more: Any) -> Any:
        task_id = message.headers.get("id")
        if not isinstance(task_id, str):
            raise InvalidTaskError("a message without the id of a task")
        message.headers = {"id": task_id, "task": task.name, "lang": "py", "retries": 0, "ignore_result": True}
        return take(message, *arguments, **more)

    return take_plain


def _run(runtime: WorkerRuntime, sent_as: TaskSpec[Any, Any], task_id: str) -> dict[str, Any] | None:
    """Runs one message to its end. Raises what Celery's events should show; never what would stop the worker."""
    claimed_at, claim = _claim(runtime, task_id)
    if claim is None:
        observability.TASK_DUPLICATES.labels(sent_as.queue.value).inc()
        raise Ignore
    # By the row's name, not the message's: one task's payload must not reach another's function.
    spec, function = runtime.specs[claim.name], runtime.handlers[claim.name]
    with structlog.contextvars.bound_contextvars(task_id=task_id, **_request(claim)):
        observability.TASK_WAIT_SECONDS.labels(claim.queue, spec.name).observe(
            max(0.0, (claim.started_at - claim.run_at).total_seconds())
        )
        ended = _attempt(runtime, spec, function, claim, claimed_at)
        observability.TASK_RUN_SECONDS.labels(claim.queue, spec.name).observe(time.monotonic() - claimed_at)
        observability.TASK_ATTEMPTS.labels(
            claim.queue, spec.name, ended.outcome, observability.attempt_label(claim.attempt)
        ).inc()
    if ended.outcome == State.RETRY:
        raise Retry(ended.error)
    if ended.outcome == State.FAILURE:
        raise TaskFailed(ended.error)
    if ended.outcome in (State.REVOKED, "FENCED"):
        raise Ignore
    return ended.result


def _claim(runtime: WorkerRuntime, task_id: str) -> tuple[float, store.Claim | None]:
    """The claim and ``time.monotonic()`` from before it; tries again for a while when the database is away or busy.

    Without that, children would take and drop every message of a queue within seconds, each as an error, and the
    reconciler would have to send all of them again.
    """
    give_up = time.monotonic() + CLAIM_RETRY_SECONDS
    while True:
        asked_at = time.monotonic()
        try:
            # A claim that is answered after its lease has ended is worth nothing.
            with patience(runtime.settings.task_lease_seconds):
                return asked_at, store.claim(
                    runtime.database,
                    task_id,
                    worker=runtime.worker,
                    lease_seconds=runtime.settings.task_lease_seconds,
                    known=runtime.specs,
                    ended=lambda transition: runtime.after(task_id, transition),
                )
        except DATABASE_AWAY as error:
            if time.monotonic() + CLAIM_PAUSE_SECONDS >= give_up:
                raise
            log.warning("a task could not be claimed yet", task_id=task_id, error=str(error))
            time.sleep(CLAIM_PAUSE_SECONDS)


def _request(claim: store.Claim) -> dict[str, str]:
    return {"request_id": claim.request_id} if claim.request_id else {}


def _attempt(
    runtime: WorkerRuntime, spec: TaskSpec[P, R], function: Handler[P, R], claim: store.Claim, claimed_at: float
) -> _Ended:
    context = TaskContext(
        settings=runtime.settings,
        database=runtime.database,
        task_id=claim.id,
        name=spec.name,
        attempt=claim.attempt,
        request_id=claim.request_id,
    )
    pulse = Pulse(
        settings=runtime.settings,
        database=runtime.database,
        results=runtime.results,
        context=context,
        worker=runtime.worker,
        claimed_at=claimed_at,
        time_limit=spec.time_limit,
        on_time_limit=lambda: _record_time_limit(runtime, spec, claim),
        live=claim.parent_id is None,
    )
    pulse.start()
    result: dict[str, Any] = {}
    failure: BaseException | None = None
    try:
        payload = claim.arguments
        answer = function(cast(P, payload), context)
        result = spec.result.model_validate(answer).model_dump(mode="json")
    except BaseException as error:
        if terminate_handler_fired():
            _give_back(runtime, claim)
            raise
        if not isinstance(error, Exception | SystemExit | TaskCancelled | AttemptLost):
            raise
        # Whatever a task raises is its outcome, not the worker's.
        failure = error
    finally:
        pulse.stop()
    return _finish(runtime, context, claim, pulse.held_until, result, failure)


def _finish(
    runtime: WorkerRuntime,
    context: TaskContext,
    claim: store.Claim,
    held_until: float,
    result: dict[str, Any],
    failure: BaseException | None,
) -> _Ended:
    if isinstance(failure, AttemptLost):
        return _Ended("FENCED")
    transition, failure = _commit_while_held(runtime, context, claim, held_until, result, failure)
    if not transition:
        log.warning("the end of an attempt that lost its row was dropped", attempt=claim.attempt)
        # Or it was committed and only the answer got lost: the rows know, and their entries are written from them.
        runtime.after(claim.id, store.Transition(False, final=(claim.parent_id,) if claim.parent_id else ()))
        return _Ended("FENCED")
    state = transition.state or State.SUCCESS
    if state is State.SUCCESS and transition.finished_at is not None:
        runtime.after_success(claim, result, transition.finished_at, transition)
    else:
        runtime.after(claim.id, transition)
    if state in (State.RETRY, State.FAILURE):
        message = "" if failure is None else store.described(failure)
        log.warning("a task did not succeed", state=state.value, attempt=claim.attempt, error=message)
        return _Ended(state.value, error=message[:500])
    if state is State.STARTED:
        for child in context.children:
            observability.TASKS_ACCEPTED.labels(child.spec.queue.value, child.spec.name).inc()
        return _Ended("PARENT", result)
    return _Ended(state.value, result)


def _commit_while_held(
    runtime: WorkerRuntime,
    context: TaskContext,
    claim: store.Claim,
    held_until: float,
    result: dict[str, Any],
    failure: BaseException | None,
) -> tuple[store.Transition, BaseException | None]:
    """Commits the end; tries again while the database is away and the lease is ours, since the work is done."""
    while True:
        # The row is locked while effects are written, so they may outlast the lease; a mere end may not.
        left = float("inf") if context.effect_functions else max(FINISH_LEAST_SECONDS, held_until - time.monotonic())
        try:
            with patience(left):
                return _commit(runtime, context, claim, result, failure), failure
        except DATABASE_AWAY as error:
            if time.monotonic() + FINISH_RETRY_SECONDS >= held_until:
                raise
            log.warning("the end could not be committed yet", error=str(error))
            time.sleep(FINISH_RETRY_SECONDS)
        except Exception as error:  # an effect or the result does not fit: the outcome of the task
            if failure is not None:
                raise
            failure = error


def _give_back(runtime: WorkerRuntime, claim: store.Claim) -> None:
    """This process was told to go (a worker that stops cold, Flower's Terminate): the task itself did not fail.

    The signal may have struck anywhere, so this may hang; then the process is killed and the lease ends instead.
    """
    watchdog = threading.Timer(GIVE_BACK_SECONDS, os.kill, [os.getpid(), signal.SIGKILL])
    watchdog.daemon = True
    watchdog.start()
    try:
        with runtime.database.write() as session:
            transition = store.release(session, claim.id, claim.attempt)
        if transition:
            log.warning("an attempt was stopped by a signal and given back", attempt=claim.attempt)
            runtime.after(claim.id, transition)
            runtime.publisher.flush(1.0)
    except SQLAlchemyError as error:
        log.warning("a stopped attempt could not be given back; its lease will end", error=str(error))
    finally:
        watchdog.cancel()


class _Refused(Exception):
    """Rolls the effects of an attempt back that is not the row's any more."""


def _commit(
    runtime: WorkerRuntime,
    context: TaskContext,
    claim: store.Claim,
    result: dict[str, Any],
    failure: BaseException | None,
) -> store.Transition:
    if isinstance(failure, TaskCancelled):
        with runtime.database.write() as session:
            return store.revoke(session, claim.id, claim.attempt)
    if failure is not None:
        if isinstance(failure, RedisConnectionError | RedisTimeoutError):
            failure = Unavailable(str(failure))
        text = "".join(traceback.format_exception(failure))
        with runtime.database.write() as session:
            return store.record_error(session, claim.id, claim.attempt, failure, traceback=text)
    progress = context.current_progress()
    hanging_on_it = context.effect_functions or context.children or claim.parent_id or claim.exclusive_key
    if not hanging_on_it and progress is None:
        return store.finish_alone(runtime.database, claim.id, claim.attempt, result)
    try:
        with runtime.database.write() as session:
            # Locked first: an effect of an attempt that lost its row must not even wait for locks.
            if context.effect_functions and not store.lock_attempt(session, claim.id, claim.attempt):
                raise _Refused
            for write in context.effect_functions:
                write(session)
            transition = store.finish_success(
                session, claim.id, claim.attempt, result, context.children, progress=progress
            )
            if not transition:
                raise _Refused
            return transition
    except _Refused:
        return store.REFUSED


def _record_time_limit(runtime: WorkerRuntime, spec: TaskSpec[Any, Any], claim: store.Claim) -> None:
    with runtime.database.write() as session:
        transition = store.retry_later(
            session,
            claim.id,
            claim.attempt,
            code="time_limit",
            message=f"It did not end within {spec.time_limit:g} s.",
        )
    if transition:
        runtime.after(claim.id, transition)
