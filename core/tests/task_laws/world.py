"""What the laws of tasks are tried on: a few task specs, and a database whose rows can be aged instead of slept on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Row, select, update

from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import Unavailable
from sicargabox_core.settings import Settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import Payload, Queue, TaskSpec
from sicargabox_core.tasks.reconcile import EMPTY, OldestMessage, Pass, Reconciler
from sicargabox_core.tasks.rows import tasks

# Long enough that no lease ends by itself, however slow the machine is: tests end them.
LEASE = 600.0
LONG_AGO = 3600.0


class Work(Payload):
    """What to do, and a number to do it with."""

    note: str = ""
    size: int = 1


class Counted(Payload):
    """A result with a number that parents sum and a word that they do not."""

    lines: int = 0
    word: str = ""


PLAIN = TaskSpec(name="law.plain", queue=Queue.CELERY, payload=Work, result=Counted, title="")
ONCE = TaskSpec(name="law.once", queue=Queue.CELERY, payload=Work, result=Counted, title="", max_attempts=1)
EXCLUSIVE = TaskSpec(
    name="law.exclusive", queue=Queue.LEARNING, payload=Work, result=Counted, title="", exclusive=lambda _: "law"
)
FOLLOWED = TaskSpec(
    name="law.followed",
    queue=Queue.ELASTICSEARCH,
    payload=Work,
    result=Counted,
    title="",
    exclusive=lambda _: "law.followed",
    follow_up=True,
)
# Another kind under the same key, as deleting an index is beside rebuilding it.
BESIDE = TaskSpec(
    name="law.beside",
    queue=Queue.ELASTICSEARCH,
    payload=Work,
    result=Counted,
    title="",
    exclusive=lambda _: "law.followed",
)
KNOWN: dict[str, TaskSpec[Any, Any]] = {spec.name: spec for spec in (PLAIN, ONCE, EXCLUSIVE, FOLLOWED, BESIDE)}

T = TypeVar("T")


@dataclass
class Broker:
    """A broker as the reconciler sees it: what is oldest in each queue, away or full; and what it was given."""

    oldest: OldestMessage = EMPTY
    away: bool = False
    refusing: bool = False
    asked: list[str] = field(default_factory=list)
    given: list[store.Hint] = field(default_factory=list)

    def oldest_message_published_at(self, queue: str) -> OldestMessage:
        self.asked.append(queue)
        if self.away:
            raise Unavailable("the broker is away")
        return self.oldest

    def publish(self, hints: Sequence[store.Hint], /) -> None:
        self.given += hints

    def take(self) -> list[str]:
        """Ids given since the last call."""
        ids = [hint.id for hint in self.given]
        self.given = []
        return ids


class World:
    """A database and the short words in which the laws are told."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.broker = Broker()
        self.changed: list[str] = []
        self.passed = 0.0
        self.settings = Settings()
        self.reconciler = self.another_reconciler()

    def another_reconciler(self, *, floor_seconds: float = 0.0) -> Reconciler:
        """Without a floor that is kept: worlds put rows into the past, which the clock of a database does not."""
        return Reconciler(
            self.database,
            self.settings,
            self.broker,
            self.broker,
            changed=self.changed.extend,
            clock=lambda: time.monotonic() + self.passed,
            floor_seconds=floor_seconds,
        )

    # --- what people and workers do ----------------------------------------------------------------------------------
    def submit(self, spec: TaskSpec[Any, Any] = PLAIN, *, by: str = "user:ana", **more: Any) -> store.Submission:
        payload = more.pop("payload", None) or Work()
        if more.keys() <= {"request_id", "idempotency_key"}:
            # As a request is accepted; the rest is the scheduler's and the repeater's, inside their transactions.
            return store.submit_alone(self.database, spec, payload, initiated_by=by, **more)
        with self.database.write() as session:
            return store.submit(session, spec, payload, initiated_by=by, **more)

    def submitted(self, spec: TaskSpec[Any, Any] = PLAIN, **more: Any) -> str:
        return self.submit(spec, **more).task.id

    def claim(self, task_id: str, *, worker: str = "w1", known: dict[str, Any] | None = None) -> store.Claim | None:
        return store.claim(
            self.database, task_id, worker=worker, lease_seconds=LEASE, known=KNOWN if known is None else known
        )

    def claimed(self, task_id: str, **more: Any) -> store.Claim:
        claim = self.claim(task_id, **more)
        assert claim is not None
        return claim

    def running(self, spec: TaskSpec[Any, Any] = PLAIN, **more: Any) -> store.Claim:
        return self.claimed(self.submitted(spec, **more))

    def beat(self, claim: store.Claim, progress: store.Progress | None = None) -> store.Beat:
        return store.heartbeat(self.database, claim.id, claim.attempt, LEASE, progress)

    def finish(
        self, claim: store.Claim, result: dict[str, Any] | None = None, children: Sequence[store.Child] = ()
    ) -> store.Transition:
        with self.database.write() as session:
            return store.finish_success(session, claim.id, claim.attempt, result or {}, children)

    def fail(self, claim: store.Claim, **more: Any) -> store.Transition:
        arguments = {"code": "task_failed", "message": "no", **more}
        with self.database.write() as session:
            return store.fail(session, claim.id, claim.attempt, **arguments)

    def retry_later(self, claim: store.Claim, **more: Any) -> store.Transition:
        arguments = {"code": "unavailable", "message": "away", **more}
        with self.database.write() as session:
            return store.retry_later(session, claim.id, claim.attempt, **arguments)

    def release(self, claim: store.Claim) -> store.Transition:
        with self.database.write() as session:
            return store.release(session, claim.id, claim.attempt)

    def revoke(self, claim: store.Claim) -> store.Transition:
        with self.database.write() as session:
            return store.revoke(session, claim.id, claim.attempt)

    def cancel(self, task_id: str) -> store.CancelOutcome:
        return store.request_cancel(self.database, task_id, by="user:bea")

    def repeat(self, task_id: str) -> store.Submission:
        return store.retry(self.database, task_id, by="user:bea", known=KNOWN)

    def bump(self) -> int:
        with self.database.write() as session:
            return store.bump_counter(session)

    def pass_once(self) -> Pass:
        return self.reconciler.run_once()

    # --- parents -----------------------------------------------------------------------------------------------------
    def parent(self, children: int = 3, *, own: int = 0, **more: Any) -> tuple[str, list[str]]:
        """A parent that has handed out its children, and their ids."""
        claim = self.running(**more)
        handed = self.finish(
            claim, {"lines": own, "word": "own"}, [store.Child(PLAIN, Work(size=n)) for n in range(children)]
        )
        assert handed
        return claim.id, list(handed.due)

    # --- what can be seen --------------------------------------------------------------------------------------------
    def view(self, task_id: str) -> store.TaskView:
        with self.database.read() as session:
            return store.get(session, task_id)

    def row(self, task_id: str) -> Row[Any]:
        with self.database.read() as session:
            return session.execute(select(*tasks.c).where(tasks.c.id == task_id)).one()

    def count(self) -> int:
        with self.database.read() as session:
            return len(session.execute(select(tasks.c.id)).all())

    # --- time, moved by hand -----------------------------------------------------------------------------------------
    def change(self, task_id: str, **values: Any) -> None:
        with self.database.write() as session:
            session.execute(update(tasks).where(tasks.c.id == task_id).values(**values))

    def expire(self, task_id: str) -> None:
        """The lease ended a moment ago."""
        self.change(task_id, lease_until=db_now(-0.5))

    def make_due(self, task_id: str) -> None:
        self.change(task_id, run_at=db_now(-0.5))

    def lose_message(self, task_id: str, seconds: float = LONG_AGO) -> None:
        """Its message was sent ``seconds`` ago."""
        self.change(task_id, published_at=db_now(-seconds))

    def now(self) -> datetime:
        return self.database.now()


def at_once(*actions: Callable[[], T]) -> list[T]:
    """Runs the actions in threads that start together; raises what any of them raises."""
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], T]) -> T:
        barrier.wait(10)
        return action()

    with ThreadPoolExecutor(len(actions)) as threads:
        return list(threads.map(run, actions))
