"""What happens in a worker's parent process: starting, stopping with a deadline, Flower's buttons, presence.

Nothing here runs a task. SQL and Redis are asked in threads or with short time-outs, since the parent's event loop
feeds the children.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog
from billiard import active_children
from billiard.compat import mem_rss
from celery import Celery, bootsteps, signals
from celery.worker import state as worker_state
from celery.worker.control import Panel, ok
from celery.worker.control import revoke as celery_revoke
from redis.exceptions import RedisError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from sicargabox_core.db import patience
from sicargabox_core.errors import InvalidSetting, NotFound
from sicargabox_core.observability import configure_logging, forget_dead_children, forget_predecessors, serve_health
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.tasks import presence, store
from sicargabox_core.tasks.consumer import no_trouble, stands_still, trouble, turned
from sicargabox_core.tasks.deafness import EarStep
from sicargabox_core.tasks.renewal import container_memory_bytes, memory_per_child_kb
from sicargabox_core.tasks.rows import STARTED, tasks

if TYPE_CHECKING:
    from sicargabox_core.tasks.worker import WorkerRuntime

log = structlog.get_logger(__name__)

REVOKED_BY = "celery"
# A server that is frozen must not keep a worker that was told to go; the leases end by themselves.
GIVE_BACK_SECONDS = 5.0
# Celery's cold path takes less than one on an idle machine.
COLD_SECONDS = 5.0
# A scrape cleans up too; this is for workers that nobody scrapes.
CLEANING_SECONDS = 60.0


def install(app: Celery, runtime: WorkerRuntime) -> None:
    """Connects the worker's life to ours. Signals are kept strongly: nobody else holds these functions."""

    def before_all(instance: Any, conf: Any, options: Any, **_: Any) -> None:
        if instance.app is app:
            _limit_memory(runtime, conf, options.get("concurrency"))

    def before_children(**_: Any) -> None:
        _serve_health(runtime)

    def in_new_child(**_: Any) -> None:
        # The pulse's watchdog ends a process in which no Python code runs any more, so no handler in Python may answer.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def in_ending_child(**_: Any) -> None:
        runtime.close()

    def set_up_logging(**_: Any) -> None:
        configure_logging(runtime.settings, runtime.service)

    def drain(how: str, **_: Any) -> None:
        if how == "Warm":
            _drain(runtime)

    def later(function: Any, *arguments: Any) -> None:
        # One thread with a bounded queue: ten thousand messages of a newer release come as fast as Redis gives them,
        # and a thread each ends the worker. What does not fit comes again, since the reconciler publishes it again.
        runtime.publisher.defer(functools.partial(function, *arguments))

    def revoked(request: Any, terminated: bool, expired: bool, **_: Any) -> None:
        # Terminated: a running attempt was killed, which is no cancel; its lease expires and the task runs again.
        if not terminated and not expired:
            later(_revoke_rows, runtime, [str(request.id)])

    def unknown(id: str, **_: Any) -> None:  # noqa: A002  # the signal's own word
        # Celery has just written FAILURE into the entry of a row that still waits for a worker that knows it.
        later(runtime.announce, [id])

    for event, receiver in (
        (signals.celeryd_init, before_all),
        (signals.worker_init, before_children),
        (signals.worker_process_init, in_new_child),
        (signals.worker_process_shutdown, in_ending_child),
        (signals.setup_logging, set_up_logging),
        (signals.worker_shutting_down, drain),
        (signals.task_revoked, revoked),
        (signals.task_unknown, unknown),
    ):
        event.connect(receiver, weak=False)
    _install_remote_control(runtime)
    app.steps["consumer"].update((_presence_step(runtime), EarStep))


def _limit_memory(runtime: WorkerRuntime, conf: Any, children: Any) -> None:
    limit = memory_per_child_kb(
        runtime.settings.worker_max_memory_per_child_kb,
        children=int(children or conf.worker_concurrency or os.cpu_count() or 1),
        held_kb=mem_rss(),
        container_bytes=container_memory_bytes(),
    )
    conf.worker_max_memory_per_child = limit
    log.info("children are renewed by size", most_kb=limit)


def _serve_health(runtime: WorkerRuntime) -> None:
    """/healthz, /readyz and /metrics of this worker, from its parent process."""
    forget_predecessors()
    settings = runtime.settings
    if not settings.worker_port:
        return

    def ready() -> str | None:
        # A worker that Redis does not let in is told of, not taken away: a new one would meet the same.
        runtime.database.ping()
        return trouble(runtime.celery)

    def still() -> str | None:
        # While it drains its loop has ended, and its tasks have their time.
        return None if runtime.draining.is_set() else stands_still(runtime.celery)

    turned(runtime.celery)
    try:
        serve_health(settings.host, settings.worker_port, ready=ready, dead=still)
    except InvalidSetting as error:
        # Celery logs and goes on when a signal's receiver raises; a worker nobody can probe must not.
        raise SystemExit(str(error)) from error


def _in_background(function: Any, *arguments: Any) -> None:
    def run() -> None:
        try:
            function(*arguments)
        except Exception:  # a thread's last word; the parent must go on
            log.exception("a control action failed")

    threading.Thread(target=run, name="control", daemon=True).start()


# --- Flower's buttons ------------------------------------------------------------------------------------------------
def _install_remote_control(runtime: WorkerRuntime) -> None:
    def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **more: Any) -> Any:
        """Revoke task by task id (or list of ids)."""
        ids = [task_id] if isinstance(task_id, str) else [str(one) for one in task_id or ()]
        if terminate:
            return _terminate(state, ids, signal)
        answer = celery_revoke(state, ids, **more)
        _in_background(_revoke_rows, runtime, ids)
        return answer

    def terminate(state: Any, signal: Any, task_id: Any, **more: Any) -> Any:
        """Terminate task by task id (or list of ids)."""
        return revoke(state, task_id, terminate=True, signal=signal, **more)

    Panel.register(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")(revoke)
    Panel.register(
        name="terminate", variadic="task_id", args=[("signal", str)], signature="<signal> [id1 [id2 [... [idN]]]]"
    )(terminate)


def _terminate(state: Any, ids: Iterable[str], signal_name: Any) -> Any:
    """Kills running attempts, as asked, and nothing else.

    Celery's own command also remembers the ids as revoked, in every worker, and the next message of such a task would
    be thrown away and its row revoked: a kill would be a cancel after all.
    """
    terminated = []
    for task_id in ids:
        request = worker_state.requests.get(task_id)
        if request is not None:
            log.warning("terminating an attempt; the task will run again", task_id=task_id)
            request.terminate(state.consumer.pool, signal=signal_name)
            terminated.append(task_id)
    return ok(f"terminate: {', '.join(terminated) or 'tasks unknown'}")


def _revoke_rows(runtime: WorkerRuntime, ids: Iterable[str]) -> None:
    """A revoke is a cancel: a waiting row is REVOKED at once, a running one is asked to stop."""
    for task_id in ids:
        try:
            outcome = store.request_cancel(runtime.database, task_id, by=REVOKED_BY)
        except NotFound:
            continue
        runtime.announce(tuple(dict.fromkeys((task_id, *outcome.final))))
        runtime.publish(outcome.due)


# --- stopping --------------------------------------------------------------------------------------------------------
def _drain(runtime: WorkerRuntime) -> None:
    """Starts the clock of a warm shutdown: what still runs at its end is given back and its process stopped."""
    if runtime.draining.is_set():
        return
    runtime.draining.set()
    timer = threading.Timer(runtime.settings.drain_seconds, _give_back_and_go, [runtime])
    timer.daemon = True
    timer.start()


def _give_back_and_go(runtime: WorkerRuntime) -> None:
    try:
        with patience(GIVE_BACK_SECONDS):
            released = release_claims(runtime)
        log.warning("the time to drain is over", tasks_given_back=len(released))
        # Their messages go out before this process does; the reconciler sends what does not.
        runtime.publisher.flush(1.0)
    except SQLAlchemyError as error:
        log.warning("claims could not be given back; their leases will end", error=str(error))
    finally:
        # The cold path of Celery: it kills the children and puts unacknowledged messages back.
        os.kill(os.getpid(), signal.SIGQUIT)
        time.sleep(COLD_SECONDS)
        _end_at_once()


def _end_at_once() -> None:
    """For a worker whose main thread waits for a child that says nothing, and looks at no signal meanwhile.

    Celery's pool joins without a limit (3 of 10 warm shutdowns on saturated cores did not end, and 1 here that was told
    to stop in the moment it took its first message). Its claims are given back by now; its messages are sent again.
    """
    log.error("the worker did not stop by itself and is ended")
    for child in active_children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
    os._exit(1)


def release_claims(runtime: WorkerRuntime) -> list[str]:
    """Gives back every row that this worker's children hold, as due now and without a failure; returns their ids."""
    with runtime.database.read() as session:
        held = session.execute(
            select(tasks.c.id, tasks.c.attempt).where(
                tasks.c.worker == runtime.worker, STARTED, tasks.c.lease_until.is_not(None)
            )
        ).all()
    released = []
    for task_id, attempt in held:
        # Each row is its own transaction: a cancelled child reaches upwards to its parent, and with that in hand
        # waiting for a second child, which may be ending and want the same parent, would be a dead-lock.
        with runtime.database.write() as session:
            transition = store.release(session, task_id, attempt)
        if transition:
            runtime.after(task_id, transition)
            released.append(task_id)
    return released


# --- presence --------------------------------------------------------------------------------------------------------
def _presence_step(runtime: WorkerRuntime) -> type[bootsteps.StartStopStep]:
    class PresenceStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
        """Says every few seconds, from the consumer's own event loop, that this worker takes messages from its queues.

        From that loop and no thread of its own, so that a worker that lives but consumes nothing falls silent.
        """

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **options: Any) -> None:
            self._timer: Any = None
            self._cleaning: Any = None
            self._redis = connect(runtime.settings, Db.BROKER, timeout=0.5)
            super().__init__(consumer, **options)

        def start(self, consumer: Any) -> None:
            no_trouble(consumer.app)
            words = presence.Presence(
                worker=runtime.worker,
                queues=tuple(sorted(queue.name for queue in consumer.task_consumer.queues)),
                concurrency=consumer.pool.num_processes,
            )
            self._tell(words)
            self._timer = consumer.timer.call_repeatedly(presence.SECONDS_BETWEEN, self._tell, (words,))
            self._cleaning = consumer.timer.call_repeatedly(CLEANING_SECONDS, forget_dead_children)

        def stop(self, _consumer: Any) -> None:
            for timer in (self._timer, self._cleaning):
                if timer is not None:
                    timer.cancel()
            self._timer = self._cleaning = None

        def shutdown(self, consumer: Any) -> None:
            self.stop(consumer)
            with contextlib.suppress(RedisError):
                presence.forget(self._redis, runtime.worker)

        def _tell(self, words: presence.Presence) -> None:
            turned(runtime.celery)
            with contextlib.suppress(RedisError):
                presence.tell(self._redis, words)

    return PresenceStep
