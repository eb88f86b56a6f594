"""What surrounds the store in the model test: a clock moved by hand, a broker like Redis' lists, a database between
whose transactions others act.

Nothing here knows the laws; the store, the reconciler and the worker's commit are the real ones.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Executable, Row, event
from sqlalchemy.orm import Session

from sicargabox_core.db import Database
from sicargabox_core.errors import Unavailable
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import Queue
from sicargabox_core.tasks.reconcile import EMPTY, SLACK_SECONDS, OldestMessage

BEGINNING = datetime(2030, 1, 1, 12, tzinfo=UTC)
_TICK = timedelta(milliseconds=1)


class Clock:
    """The database's clock as the model moves it; every statement takes a millisecond, so no two times are equal."""

    def __init__(self) -> None:
        self.now = BEGINNING

    def tick(self) -> datetime:
        self.now += _TICK
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class InterruptedDatabase(Database):
    """The product's database with its SQL, in which only "now" is the clock's.

    ``interruptions`` run one by one before each next transaction that writes: what others do between two transactions
    of a reconciler or a cancel. Commits do not wait for a disk; the laws are about orders, not about power cuts.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        super().__init__(url, pool_size=5)
        self.interruptions: deque[Callable[[], object]] = deque()
        # How many statements may have changed something: who has looked since then need not look again.
        self.writes = 0
        self._clock = clock
        event.listen(self.engine, "connect", self._hurry)
        event.listen(self.engine, "before_cursor_execute", self._at_our_time, retval=True)

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        self._interrupt()
        with super().write() as session:
            yield session

    def at_once(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Row[Any] | None:
        self._interrupt()
        return super().at_once(statement, parameters)

    def _interrupt(self) -> None:
        if self.interruptions:
            interruption = self.interruptions.popleft()
            others, self.interruptions = self.interruptions, deque()
            interruption()
            self.interruptions = others

    def _hurry(self, connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = OFF" if self.is_sqlite else "SET synchronous_commit = off")
        if not self.is_sqlite:
            connection.commit()
        cursor.close()

    def _at_our_time(
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> tuple[str, Any]:
        self.writes += not statement.startswith(("SELECT", "BEGIN"))
        now = f"{self._clock.tick():%Y-%m-%d %H:%M:%S.%f}"
        if self.is_sqlite:
            return statement.replace("'now'", f"'{now[:-3]}'"), parameters
        return statement.replace("clock_timestamp()", f"TIMESTAMPTZ '{now}+00'"), parameters


@dataclass(frozen=True)
class Message:
    """What lies in a list. ``stamp`` is none for a message that is not ours; ``late``: pushed later than the slack."""

    id: str
    stamp: datetime | None
    late: bool = False


@dataclass
class ListBroker:
    """Redis' lists: the last element is delivered next, and what is delivered and not acknowledged may come back.

    ``mood``: ``well``; ``away``; ``full`` (answers, takes nothing); ``leaky`` (takes it and has lost it); ``slow``
    (the publisher holds it back until ``let_go``); ``doubling``.
    """

    clock: Clock
    mood: str = "well"
    refusing: bool = False
    lists: dict[str, deque[Message]] = field(default_factory=lambda: defaultdict(deque))
    unacknowledged: list[tuple[str, Message]] = field(default_factory=list)
    held_back: list[store.Hint] = field(default_factory=list)
    asked_for: list[store.Hint] = field(default_factory=list)
    # What the reconciler was last told of each queue.
    told: dict[str, OldestMessage] = field(default_factory=dict)

    # --- as the reconciler and workers see it ------------------------------------------------------------------------
    def oldest_message_published_at(self, queue: str) -> OldestMessage:
        if self.mood == "away":
            raise Unavailable("the broker is away")
        waiting = self.lists[queue]
        self.told[queue] = waiting[-1].stamp if waiting else EMPTY
        return self.told[queue]

    def publish(self, hints: Sequence[store.Hint], /) -> None:
        self.asked_for += hints
        for hint in hints:
            if self.mood in ("away", "full"):
                self.refusing = True
            elif self.mood == "slow":
                self.held_back.append(hint)
            else:
                self.refusing = False
                for _ in range({"leaky": 0, "doubling": 2}.get(self.mood, 1)):
                    self._push(hint)

    def take(self, queue: str) -> Message | None:
        """The next message; it comes back by ``give_back`` unless it is acknowledged by ``acknowledge``."""
        if self.mood == "away" or not self.lists[queue]:
            return None
        message = self.lists[queue].pop()
        self.unacknowledged.append((queue, message))
        return message

    def acknowledge(self, message: Message) -> None:
        self.unacknowledged = [(queue, one) for queue, one in self.unacknowledged if one is not message]

    # --- what befalls it ---------------------------------------------------------------------------------------------
    def give_back(self) -> None:
        """Everything unacknowledged is to be delivered next, as Celery's sweep does it."""
        for queue, message in self.unacknowledged:
            self.lists[queue].append(message)
        self.unacknowledged.clear()

    def double(self, queue: str) -> None:
        if self.lists[queue]:
            self.lists[queue].appendleft(self.lists[queue][-1])

    def push_foreign(self, queue: str) -> None:
        self.lists[queue].appendleft(Message("not-ours", None))

    def let_go(self) -> None:
        held, self.held_back = self.held_back, []
        for hint in held:
            self._push(hint)

    def forget(self, queues: Sequence[str]) -> None:
        for queue in queues:
            self.lists[queue].clear()
        self.unacknowledged = [(queue, message) for queue, message in self.unacknowledged if queue not in queues]

    def holds(self, task_id: str, queue: str, stamp: datetime) -> bool:
        """Whether a message with this very stamp lies in the list, sent as soon as the reconciler counts on."""
        return any(one.id == task_id and one.stamp == _of_header(stamp) and not one.late for one in self.lists[queue])

    def _push(self, hint: store.Hint) -> None:
        assert hint.published_at is not None, "only what is stamped is published"
        late = self.clock.now - hint.published_at > timedelta(seconds=SLACK_SECONDS)
        self.lists[hint.queue].appendleft(Message(hint.id, _of_header(hint.published_at), late))


def _of_header(stamp: datetime) -> datetime:
    """The stamp as it comes back from a message's header, which holds milliseconds."""
    return datetime.fromtimestamp(round(stamp.timestamp() * 1000) / 1000, UTC)


QUEUES = [queue.value for queue in Queue]
