"""Nothing accepted is ever forgotten: the pass that finds rows nobody works on and brings them back.

Expired leases become due again or FAILURE, cancels that nobody noticed become REVOKED, and due rows get a message when
they never had one or when theirs cannot be in the broker any more. Any number of replicas may run it: what one has in
hand the others skip.

The queue is first in, first out, so its oldest message tells what the broker can still hold: a row stamped clearly
before that message has lost its own. Workers must acknowledge late and take one message at a time for that.

Its searches begin at the oldest row that was still to be found some seconds ago. An index keeps the entries of rows
that are done until a vacuum may remove them, and while a foreign transaction holds an old snapshot it may not: reading
60,000 such entries cost 55 ms of every pass, on a quiet machine (docs/adr/0009).

It speaks SQL only; the broker is two small protocols. Redis is asked before and told after, never during a
transaction, and when it is away the rest of the pass is done all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cache, partial
from typing import Any, Final, Literal, Protocol

import structlog
from sqlalchemy import ColumnElement, Integer, Select, bindparam, func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sicargabox_core import observability
from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import Unavailable
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.cancellation import cancel_children
from sicargabox_core.tasks.contracts import Queue, State
from sicargabox_core.tasks.endings import Transition
from sicargabox_core.tasks.lifecycle import end_cancelled, expire_lease
from sicargabox_core.tasks.rows import STARTED, UNFINISHED, WAITING, at, now, resend_delay, tasks
from sicargabox_core.tasks.views import HINT, Hint, hints

log = structlog.get_logger(__name__)

BATCH = 500
# Rows with an old stamp that one pass looks at in a queue. 100,000 in back-off, with nothing in the broker, cost every
# pass 46 ms on PostgreSQL and 130 ms on SQLite; the next pass goes on where this one ended.
WINDOW = 2000
# Between the stamp, the commit and the push, a message may be that much younger in the list than its stamp says.
SLACK_SECONDS = 5.0
# How long a scheduler keeps the floor of its searches. Finding it reads every dead entry once, each search those of
# this time only.
FLOOR_SECONDS = 20.0


class _Empty(Enum):
    EMPTY = "empty"


EMPTY: Final = _Empty.EMPTY
OldestMessage = datetime | Literal[_Empty.EMPTY] | None


class BrokerView(Protocol):
    """What the reconciler must know of the broker."""

    def oldest_message_published_at(self, queue: str) -> OldestMessage:
        """The stamp of the message that will be delivered next; ``EMPTY`` without one, None when it carries none.

        Raises ``Unavailable`` when the broker does not answer, within a bounded time.
        """
        ...


class HintPublisher(Protocol):
    """Where messages go; must not block, and may lose what it is given."""

    @property
    def refusing(self) -> bool:
        """Whether the last message was not taken: Redis is full, read-only or about to be away."""
        ...

    def publish(self, tasks: Sequence[Hint], /) -> None:
        """Asks for a message per task."""
        ...


@dataclass
class Pass:
    """What one pass did, as numbers of rows. ``broker_away``: no message was asked for."""

    expired: int = 0
    failed: int = 0
    revoked: int = 0
    published: int = 0
    republished: int = 0
    broker_away: bool = False


class Reconciler:
    """One per scheduler process; ``run_once`` every ``reconcile_interval_seconds``."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        broker_view: BrokerView,
        publisher: HintPublisher,
        *,
        changed: Callable[[Sequence[str]], None] = lambda _ids: None,
        clock: Callable[[], float] = time.monotonic,
        floor_seconds: float = 0.0,
    ) -> None:
        """``changed`` is told the ids whose state changed here, after the commit, so that copies can follow.

        ``floor_seconds``: how long a floor of the searches is kept, 0 for one pass only; what is committed below it is
        found that much later at most.
        """
        self._database = database
        self._settings = settings
        self._broker = broker_view
        self._publisher = publisher
        self._changed = changed
        self._clock = clock
        self._floor_seconds = floor_seconds
        self._floors: _Floors | None = None
        self._seen = self._leases_count_from = clock()
        self._waited = False
        self._looked_until: dict[Queue, datetime | None] = {}

    def run_once(self) -> Pass:
        """One pass: work in proportion to the rows that need it, at most 500 of each kind.

        Raises what the database raises when it is away; a single row that cannot be dealt with is logged and left.
        """
        done = Pass()
        due: list[str] = []
        grace = self._settings.task_cancel_grace_seconds
        with self._database.read() as session:
            floors = self._kept_floors(session)
            expired = session.scalars(expired_leases(), {"floor": floors.lease}).all()
            overdue = session.scalars(overdue_cancels(grace)).all()
            parents = session.scalars(cancelled_parents()).all()
        for task_id in expired if self._leases_count() else ():
            due += self._apply(task_id, expire_lease, done)
        for task_id in overdue:
            due += self._apply(task_id, partial(end_cancelled, grace_seconds=grace), done)
        for task_id in parents:
            due += self._cancel_below(task_id, done)
        self._publish_due(due, done, floors)
        for action in ("expired", "failed", "revoked", "republished"):
            if count := getattr(done, action):
                observability.RECONCILED.labels(action).inc(count)
        self._seen = self._clock()
        return done

    def _leases_count(self) -> bool:
        """False for two heartbeats after the database was away for so long that leases ended without a fault of theirs.

        No worker could renew one meanwhile; those that live do it now, and only the others' tasks are taken from them.
        """
        settings, instant = self._settings, self._clock()
        away = instant - self._seen > settings.task_lease_seconds / 2 + 2 * settings.reconcile_interval_seconds
        self._seen = instant
        if away and not self._waited:
            self._leases_count_from = instant + 2 * settings.task_heartbeat_seconds
        # Once only: passes that are always late, on a machine that is too slow, must not keep dead workers' tasks.
        self._waited = instant < self._leases_count_from
        return not self._waited

    def _kept_floors(self, session: Session) -> _Floors:
        if self._floors is None or self._clock() - self._floors.asked_at >= self._floor_seconds:
            self._floors = _Floors.ask(session, self._clock())
        return self._floors

    # --- transitions -------------------------------------------------------------------------------------------------
    def _apply(self, task_id: str, change: Callable[[Session, str], Transition], done: Pass) -> tuple[str, ...]:
        # Each row is its own transaction: a final one reaches upwards to its parent, and two passes that held several
        # at once could wait for each other in a circle.
        try:
            with self._database.write() as session:
                transition = change(session, task_id)
        except DBAPIError as error:
            _leave(task_id, error)
            return ()
        if transition:
            log.info("reconciled a task", task_id=task_id, state=str(transition.state))
            done.expired += transition.state is State.RETRY
            done.failed += transition.state is State.FAILURE
            done.revoked += transition.state is State.REVOKED
            self._changed(tuple(dict.fromkeys((task_id, *transition.final))))
        return transition.due

    def _cancel_below(self, parent_id: str, done: Pass) -> tuple[str, ...]:
        try:
            due, final = cancel_children(self._database, parent_id, by=f"task {parent_id}")
        except DBAPIError as error:
            _leave(parent_id, error)
            return ()
        done.revoked += len(final)
        if final:
            self._changed(final)
        return due

    # --- messages ----------------------------------------------------------------------------------------------------
    def _publish_due(self, stamped: list[str], done: Pass, floors: _Floors) -> None:
        if stamped:
            with self._database.read() as session:
                offered = hints(session, stamped)
            done.published += len(offered)
            self._publisher.publish(offered)
        try:
            oldest = {queue: self._broker.oldest_message_published_at(queue) for queue in Queue}
        except Unavailable as error:
            # Unstamped rows stay unstamped, so they get their message in the first pass after it is back.
            log.debug("the broker is away", error=str(error))
            done.broker_away = True
            return
        # A Redis that answers and takes nothing, since it is full, is tried with one row a queue: all the others would
        # be stamped again and again, and wait for up to five minutes after it has room.
        most = 1 if self._publisher.refusing else BATCH
        with self._database.read() as session:
            new = [look for queue in Queue if (look := _Look.never_published(queue, most)).ids(session)]
            searches = [
                self._lost(session, queue, stamp, floors.published[queue], most)
                for queue, stamp in oldest.items()
                if stamp is not None
            ]
            lost = [search for search in searches if search is not None]
        done.published += sum(map(self._offer, new))
        done.republished += sum(map(self._offer, lost))

    def _lost(
        self,
        session: Session,
        queue: Queue,
        oldest: datetime | Literal[_Empty.EMPTY],
        floor: datetime,
        most: int,
    ) -> _Look | None:
        """The search that finds lost messages among the next ``WINDOW`` rows with an old stamp; none finds none."""
        since = max(floor, self._looked_until.get(queue) or floor)
        window = _Window(queue, since, None if oldest is EMPTY else oldest - timedelta(seconds=SLACK_SECONDS))
        until = window.end(session)
        look = window.look(until, most)
        found = look.ids(session)
        # With more to find here the next pass stays, so that the oldest are published first.
        if len(found) < most:
            # Of one stamp there may be more than a window; those beyond it wait for the next round.
            self._looked_until[queue] = until if until != since else until + timedelta(milliseconds=1)
        return look if found else None

    def _offer(self, look: _Look) -> int:
        with self._database.write() as session:
            ids = look.ids(session, lock=True)
            rows = session.execute(
                update(tasks)
                .where(tasks.c.id.in_(ids))
                .values(published_at=db_now(), publish_count=tasks.c.publish_count + 1)
                .returning(*HINT)
            ).all()
        # Only after the commit: a worker that is faster than our commit would find nothing to claim.
        order = {task_id: place for place, task_id in enumerate(ids)}
        self._publisher.publish(sorted((Hint(*row) for row in rows), key=lambda hint: order[hint.id]))
        return len(rows)


def _leave(task_id: str, error: DBAPIError) -> None:
    """One row that cannot be dealt with must not stop the pass; a database that is away must."""
    if error.connection_invalidated:
        raise error
    log.warning("a task could not be reconciled", task_id=task_id, error=str(error.orig))


# --- which rows ------------------------------------------------------------------------------------------------------
# Cached: an idle scheduler asks all of them twice a second, and building a statement costs more than executing it.
@cache
def expired_leases() -> Select[str]:
    """Rows whose worker stopped answering; the statement takes ``floor``, before which no lease ends."""
    begin = bindparam("floor", type_=tasks.c.lease_until.type)
    return (
        select(tasks.c.id)
        .where(STARTED, tasks.c.lease_until >= begin, tasks.c.lease_until < now())
        .order_by(tasks.c.lease_until)
        .limit(BATCH)
    )


@cache
def overdue_cancels(grace_seconds: float) -> Select[str]:
    """Running rows that were asked to stop and did not within the grace."""
    return (
        select(tasks.c.id)
        .where(UNFINISHED, tasks.c.children_open.is_(None), tasks.c.cancel_requested_at <= at(-grace_seconds))
        .limit(BATCH)
    )


@cache
def cancelled_parents() -> Select[str]:
    """Waiting parents that were asked to stop, with children that were not."""
    child = tasks.alias()
    below = select(child.c.id).where(
        child.c.parent_id == tasks.c.id, child.c.finished_at.is_(None), child.c.cancel_requested_at.is_(None)
    )
    return (
        select(tasks.c.id)
        .where(UNFINISHED, tasks.c.children_open > 0, tasks.c.cancel_requested_at.is_not(None), below.exists())
        .limit(BATCH)
    )


@cache
def never_published(queue: Queue, *, lock: bool) -> Select[str]:
    """Due rows without a message; the statement takes ``most``."""
    statement = _due(queue).where(tasks.c.published_at.is_(None)).order_by(tasks.c.published_at, tasks.c.run_at)
    return statement.with_for_update(skip_locked=True) if lock else statement


@cache
def lost_messages(queue: Queue, *, empty: bool, until: bool, lock: bool) -> Select[str]:
    """Due rows whose message cannot be in the broker any more, and whose back-off since it was sent is over.

    The statement takes ``most``, ``floor``, before which nothing that waits was stamped, and, unless the broker is
    ``empty``, ``before``: what was stamped earlier is gone; with ``until`` the last stamp that it looks at.
    """
    waited = tasks.c.published_at <= db_now(-resend_delay(tasks.c.publish_count))
    statement = _due(queue).where(*_stamped(empty=empty, until=until), waited).order_by(tasks.c.published_at)
    return statement.with_for_update(skip_locked=True) if lock else statement


@cache
def end_of_window(queue: Queue, *, empty: bool) -> Select[datetime]:
    """The stamp of the last row of a search, none when it meets them all; ``skipped`` are a window but one."""
    return (
        select(tasks.c.published_at)
        .where(tasks.c.queue == queue.value, WAITING, *_stamped(empty=empty, until=False))
        .order_by(tasks.c.published_at)
        .offset(bindparam("skipped", type_=Integer()))
        .limit(1)
    )


def _stamped(*, empty: bool, until: bool) -> list[ColumnElement[bool]]:
    stamp = tasks.c.published_at
    before = at(-SLACK_SECONDS) if empty else bindparam("before", type_=stamp.type)
    last = [stamp <= bindparam("until", type_=stamp.type)] if until else []
    return [stamp >= bindparam("floor", type_=stamp.type), stamp < before, *last]


def _due(queue: Queue) -> Select[str]:
    return (
        select(tasks.c.id)
        .where(tasks.c.queue == queue.value, WAITING, tasks.c.waits_for.is_(None), tasks.c.run_at <= now())
        .limit(bindparam("most", type_=Integer()))
    )


@cache
def oldest_rows() -> Select[Any]:
    """The first lease to end, the oldest stamp of what waits in each queue, and the database's clock."""
    lease = select(func.min(tasks.c.lease_until)).where(STARTED, tasks.c.lease_until.is_not(None)).scalar_subquery()
    stamps = [
        select(func.min(tasks.c.published_at))
        .where(tasks.c.queue == queue.value, WAITING, tasks.c.published_at.is_not(None))
        .scalar_subquery()
        for queue in Queue
    ]
    return select(db_now(), lease, *stamps)


@dataclass(frozen=True)
class _Floors:
    """Where the searches begin. Below it was nothing to be found when they were asked, and nothing comes to be there:

    a lease ends after it was given, and a stamp is of now. A transaction that stamps a row and commits after the
    slack puts it below; the next floors see it.
    """

    lease: datetime
    published: Mapping[Queue, datetime]
    asked_at: float

    @classmethod
    def ask(cls, session: Session, asked_at: float) -> _Floors:
        moment, lease, *stamps = session.execute(oldest_rows()).one()
        recent = moment - timedelta(seconds=SLACK_SECONDS)
        return cls(
            lease=min(lease or moment, moment),
            published={queue: min(stamp or recent, recent) for queue, stamp in zip(Queue, stamps, strict=True)},
            asked_at=asked_at,
        )


@dataclass(frozen=True)
class _Look:
    """One search for rows to publish: first without a lock, since mostly there are none, then with it."""

    statement: Callable[..., Select[str]]
    parameters: dict[str, Any]

    @classmethod
    def never_published(cls, queue: Queue, most: int) -> _Look:
        return cls(partial(never_published, queue), {"most": most})

    def ids(self, session: Session, *, lock: bool = False) -> Sequence[str]:
        return session.scalars(self.statement(lock=lock), self.parameters).all()


@dataclass(frozen=True)
class _Window:
    """Rows of a queue stamped from ``floor`` to ``before`` its oldest message; none: a moment ago, as it has none."""

    queue: Queue
    floor: datetime
    before: datetime | None

    def end(self, session: Session) -> datetime | None:
        parameters = self._parameters() | {"skipped": WINDOW - 1}
        return session.scalar(end_of_window(self.queue, empty=self.before is None), parameters)

    def look(self, until: datetime | None, most: int) -> _Look:
        bounds = {} if until is None else {"until": until}
        statement = partial(lost_messages, self.queue, empty=self.before is None, until=until is not None)
        return _Look(statement, {**self._parameters(), **bounds, "most": most})

    def _parameters(self) -> dict[str, Any]:
        return {"floor": self.floor} | ({} if self.before is None else {"before": self.before})
