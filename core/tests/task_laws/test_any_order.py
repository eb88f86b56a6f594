"""Whatever workers, people, schedulers and Redis do, in whatever order, the laws hold: a model test by Hypothesis.

The store, the reconciler, the schedules, the drain and the worker's commit are the real ones, on real databases. Around
them are a clock moved by hand, lists that lose, double, delay and refuse messages, workers that die or freeze and write
later, and others that act between two transactions of a pass. After each step all rows are compared with those before
it and with what must never happen; at the end everything is brought to its end, within a bounded number of passes.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import count as count_up
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from uuid import UUID

import pytest
from core.tests.task_laws.modelled import QUEUES, Clock, InterruptedDatabase, ListBroker, Message
from core.tests.task_laws.world import EXCLUSIVE, FOLLOWED, KNOWN, ONCE, PLAIN, Work
from hypothesis import HealthCheck, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Column, Integer, MetaData, Row, String, Table, delete, insert, select, text

from sicargabox_core.db import Database
from sicargabox_core.errors import (
    AlreadyRunning,
    Conflict,
    IdempotencyMismatch,
    TaskFailed,
    TooManyRequests,
    Unavailable,
)
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.settings import Settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.context import TaskCancelled, TaskContext
from sicargabox_core.tasks.contracts import FINAL_STATES, State, TaskSpec
from sicargabox_core.tasks.control import release_claims
from sicargabox_core.tasks.models import ScheduleRow
from sicargabox_core.tasks.reconcile import EMPTY, SLACK_SECONDS, Reconciler
from sicargabox_core.tasks.results import KEY_PREFIX, ResultEntries
from sicargabox_core.tasks.rows import counters, tasks
from sicargabox_core.tasks.schedules import Recurring, make_due
from sicargabox_core.tasks.worker import _commit, _record_time_limit
from tests.settings import machine

Rows = dict[str, Row[Any]]

# Each success writes one row here, in the transaction that ends its task.
effects = Table("model_effects", MetaData(), Column("task_id", String(36)), Column("attempt", Integer))
schedules = cast(Table, ScheduleRow.__table__)
SCHEDULES = (Recurring("law.daily", PLAIN, Work(), 6, 30), Recurring("law.nightly", EXCLUSIVE, Work(), 2, 0))

SPECS = [PLAIN, PLAIN, PLAIN, ONCE, EXCLUSIVE, FOLLOWED, FOLLOWED]
Choice = Callable[[random.Random], Any]


def one_of(things: Sequence[Any]) -> Choice:
    return lambda chance: chance.choice(things)


ANY: Choice = one_of(range(10**6))
WORKERS = ["w1", "w2", "w3"]
DAY = 24 * 3600.0
LEASE = 10.0
RETENTION_DAYS = 2
# So many rows are enough for every law, and keep a step short.
MOST_ROWS = 30
LONGEST_PAUSE = 301.0
PATIENCE_SECONDS = 120.0
# A chunk of examples has its own seed: what Hypothesis remembers of one run grows with its length.
# For each of the two databases, so 300 in all; on a busy machine that is some minutes.
DEFAULT_EXAMPLES = 150
CHUNK = 250


@dataclass
class Arena:
    """What all examples of one test share."""

    database: InterruptedDatabase
    clock: Clock
    entries: ResultEntries
    redis: Any
    settings: Settings
    examples: int = 0
    accepted: int = 0

    def next_id(self) -> UUID:
        """In place of random ids: what is ordered by id must be so again when an example is repeated."""
        self.accepted += 1
        return UUID(int=(7 << 76) + (2 << 62) + self.accepted)

    def clear(self) -> None:
        self.clock.__init__()  # type: ignore[misc]  # every example begins at the same time
        self.accepted = 0
        self.redis.flushdb()
        self.database.interruptions.clear()
        # A DELETE of few rows is quicker than ten indexes' new files; what it leaves behind is cleared at times.
        often = self.database.is_sqlite or self.examples % 50
        with self.database.write() as session:
            for table in (tasks, counters, schedules, effects):
                session.execute(delete(table) if often else text(f"TRUNCATE {table.name}"))


@dataclass
class Worker:
    """What ``release_claims``, the worker's commit and its time limit need of a worker's runtime."""

    worker: str
    database: Database
    after: Callable[[str, store.Transition], None]


@dataclass(frozen=True)
class Held:
    """A claim as a worker thinks to hold it, and the message it came by."""

    claim: store.Claim
    worker: str
    message: Message | None = None


@dataclass
class Expected:
    """What the next look at the rows must find, told by the step before it."""

    nothing_changed: bool = False
    stamped_are_published: bool = True
    gone: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Action:
    """A step of the model: how often it is taken, when it can be, and how its details are chosen."""

    weight: int
    when: Callable[[Any], object]
    choices: dict[str, Choice]


ACTIONS: dict[str, Action] = {}
Step = TypeVar("Step", bound=Callable[..., None])


def may_happen(
    weight: int, *, when: Callable[[Any], object] = lambda _life: True, **choices: Choice
) -> Callable[[Step], Step]:
    def register(step: Step) -> Step:
        ACTIONS[step.__name__] = Action(weight, when, choices)
        return step

    return register


class Life(RuleBasedStateMachine):
    def __init__(self, arena: Arena) -> None:
        super().__init__()
        arena.clear()
        self.arena = arena
        self.database = arena.database
        self.clock = arena.clock
        self.broker = ListBroker(arena.clock)
        self.process_time = [0.0, 0.0]
        self.late = [False, False]
        self.reconcilers = [self.reconciler(number) for number in range(2)]
        self.ids: list[str] = []
        self.deleted: set[str] = set()
        self.held: list[Held] = []
        self.rows: Rows = {}
        self.seen: Rows = {}
        self.seen_after = -1
        self.effects: Sequence[Any] = ()
        self.expected = Expected()
        self.keys: dict[tuple[str, str], tuple[str, int]] = {}
        self.data_version = 0
        self.promised: dict[str, int] = {}
        self.successes: Counter[str] = Counter()
        self.with_effect: set[str] = set()
        self.views: list[store.TaskView] = []
        self.places: dict[str, int] = {}

    def reconciler(self, number: int) -> Reconciler:
        return Reconciler(
            self.database,
            self.arena.settings,
            self.broker,
            self.broker,
            changed=self.see,
            clock=lambda: self.process_time[number],
        )

    # --- people ------------------------------------------------------------------------------------------------------
    @may_happen(
        8,
        when=lambda self: len(self.ids) < MOST_ROWS,
        spec=one_of(SPECS),
        size=one_of([1] * 5 + [2]),
        key=one_of([None, None, "a"]),
        wait=one_of([None, None, None, 20.0]),
        data_changed=one_of([False, True]),
    )
    def submit(
        self, spec: TaskSpec[Any, Any], size: int, key: str | None, wait: float | None, data_changed: bool
    ) -> None:
        if data_changed and spec.follow_up:
            with self.database.write() as session:
                self.data_version = store.bump_counter(session)
        same_key = self.keys.get((spec.name, key or ""))
        alone = [row for row in self.unfinished() if row.name == spec.name and row.waits_for is None]
        in_the_way = alone[0] if spec.exclusive is not None and alone else None
        try:
            with self.database.write() as session:
                accepted = store.submit(
                    session,
                    spec,
                    Work(size=size),
                    initiated_by="user:ana",
                    idempotency_key=key,
                    run_at=None if wait is None else self.clock.now + timedelta(seconds=wait),
                )
        except IdempotencyMismatch:
            assert same_key is not None, "a key is refused only where it was used"
            assert same_key[1] != size, "the same request with the same key is the same task"
            self.nothing_changes()
            return
        except AlreadyRunning as error:
            assert same_key is None
            assert in_the_way is not None
            assert (in_the_way.id, True) == (error.task_id, in_the_way.payload["size"] != size)  # noqa: PT017  # one of three ends
            self.nothing_changes()
            return
        task_id = accepted.task.id
        if same_key is not None:
            assert same_key == (task_id, size), "a key used twice is one task"
            assert not accepted.created
        elif in_the_way is not None:
            assert accepted.already_running or accepted.follow_up, "an exclusive key has one task at a time"
            assert in_the_way.payload["size"] == size
        else:
            assert accepted.created
        if not accepted.created:
            self.nothing_changes()
        elif key is not None:
            self.keys[spec.name, key] = task_id, size
        if spec.follow_up and same_key is None:
            self.promised[task_id] = self.data_version
        self.know(task_id)
        self.publish(accepted.due)

    @may_happen(2, when=lambda self: self.ids, which=ANY)
    def cancel(self, which: int) -> None:
        before = self.rows[self.pick(which)]
        outcome = store.request_cancel(self.database, before.id, by="user:bea")
        self.publish(outcome.due)
        self.see(outcome.final)
        after = self.row(before.id)
        assert outcome.state == after.state
        assert outcome.revoked == (before.state not in FINAL_STATES and after.state == State.REVOKED)
        assert outcome.requested == (after.state == State.STARTED and after.cancel_requested_at is not None)
        if before.state in FINAL_STATES:
            self.nothing_changes()
        else:
            assert outcome.revoked or outcome.requested, "a cancel of what has not ended is heard"

    @may_happen(2, when=lambda self: self.ids, which=ANY)
    def repeat(self, which: int) -> None:
        old = self.rows[self.pick(which)]
        failed = {
            row.id for row in self.rows.values() if row.parent_id == old.id and row.state in ("FAILURE", "REVOKED")
        }
        try:
            again = store.retry(self.database, old.id, by="user:bea", known=KNOWN)
        except AlreadyRunning:
            assert old.exclusive_key is not None
            self.nothing_changes()
            return
        except Conflict:
            assert old.state not in FINAL_STATES, "what has ended can be repeated"
            self.nothing_changes()
            return
        assert old.state in FINAL_STATES
        new = self.row(again.task.id)
        if again.created:
            assert new.retried_from == old.id
            below = [row for row in self.look().values() if row.parent_id == new.id]
            assert {row.retried_from for row in below} == failed, "of a parent only what failed is repeated"
            assert len(below) == len(failed)
            self.know(new.id, *sorted(row.id for row in below))
        else:
            assert new.state not in FINAL_STATES
            self.nothing_changes()
        self.publish(again.due)

    @may_happen(1, when=lambda self: self.ids, which=ANY, more=ANY)
    def repeat_the_dead(self, which: int, more: int) -> None:
        ids = [self.pick(which), self.pick(more), self.pick(which)]
        repeated_before = {row.retried_from for row in self.rows.values()}
        answer = store.retry_dead(self.database, ids, by="user:bea", known=KNOWN)
        assert sorted([*answer.repeated, *(one.id for one in answer.skipped)]) == sorted(set(ids)), "each has an answer"
        for task_id, again in answer.repeated.items():
            assert self.rows[task_id].state == State.FAILURE
            assert self.rows[task_id].parent_id is None
            assert task_id not in repeated_before, "a dead letter is repeated in bulk once"
            assert self.row(again.task.id).retried_from == task_id
            below = [row.id for row in self.look().values() if row.parent_id == again.task.id]
            self.know(again.task.id, *sorted(below))
            self.publish(again.due)
        if not answer.repeated:
            self.nothing_changes()

    # --- workers -----------------------------------------------------------------------------------------------------
    def take_a_message(self, first: int, worker: str) -> None:
        for step in range(len(QUEUES)):
            message = self.broker.take(QUEUES[(first + step) % len(QUEUES)])
            if message is not None:
                self.claim(message.id, worker, message)
                return

    @may_happen(6, first=ANY, worker=one_of(WORKERS))
    def take_messages(self, first: int, worker: str) -> None:
        for number in range(1 + first % 3):
            self.take_a_message(first + number, worker)

    @may_happen(2, first=ANY, worker=one_of(WORKERS))
    def take_messages_and_end_the_last(self, first: int, worker: str) -> None:
        self.take_messages(first, worker)
        if self.held:
            self.end(self.held[-1], {"lines": 1}, None)

    @may_happen(2, when=lambda self: self.ids, which=ANY, worker=one_of(WORKERS))
    def take_a_message_from_nowhere(self, which: int, worker: str) -> None:
        self.claim(self.pick(which), worker, None)

    @may_happen(1, when=lambda self: self.ids, which=ANY)
    def an_old_worker_meets_it(self, which: int) -> None:
        before = self.rows[self.pick(which)]
        claim = store.claim(
            self.database,
            before.id,
            worker="old",
            lease_seconds=LEASE,
            known={},
            # Its last lease has ended, so the claim ends it, and what waited for it is due.
            ended=lambda transition: self.after(before.id, transition),
        )
        assert claim is None
        after = self.row(before.id)
        assert after.attempt == before.attempt, "what a worker does not know costs nothing"
        if not (before.state == State.STARTED and exhausted(before)):
            assert (after.failures, after.state) == (before.failures, before.state)

    @may_happen(2, when=lambda self: self.held, which=ANY)
    def heartbeat(self, which: int) -> None:
        claim = self.pick_held(which).claim
        holds = self.holds_its_row(claim)
        beat = store.heartbeat(self.database, claim.id, claim.attempt, LEASE, store.Progress(1, 2, "half"))
        assert beat.alive == holds
        if holds:
            assert beat.cancel_requested == (self.rows[claim.id].cancel_requested_at is not None)
            assert self.row(claim.id).lease_until > self.clock.now + timedelta(seconds=LEASE - 1)

    @may_happen(4, when=lambda self: self.held, which=ANY, effect=one_of([False, True]))
    def finish(self, which: int, effect: bool) -> None:
        self.end(self.pick_held(which), {"lines": 1}, None, effect=effect)

    @may_happen(4, when=lambda self: self.held and len(self.ids) < MOST_ROWS, which=ANY, children=one_of(range(1, 4)))
    def hand_out(self, which: int, children: int) -> None:
        self.end(self.pick_held(which), {"lines": 0}, None, children)

    @may_happen(
        3,
        when=lambda self: self.held,
        which=ANY,
        failure=one_of(
            [TaskFailed("no"), Unavailable("away"), TooManyRequests("slow", retry_after=8), TaskCancelled()]
        ),
    )
    def end_badly(self, which: int, failure: BaseException) -> None:
        self.end(self.pick_held(which), {}, failure)

    @may_happen(1, when=lambda self: self.held, which=ANY)
    def reach_the_time_limit(self, which: int) -> None:
        held = self.pick_held(which)
        if not self.holds_its_row(held.claim):
            self.nothing_changes()
        _record_time_limit(cast(Any, self.runtime(held.worker)), KNOWN[held.claim.name], held.claim)

    @may_happen(1, when=lambda self: self.held, which=ANY)
    def give_back(self, which: int) -> None:
        held = self.pick_held(which)
        holds = self.holds_its_row(held.claim)
        with self.database.write() as session:
            transition = store.release(session, held.claim.id, held.claim.attempt)
        assert bool(transition) == holds
        if not holds:
            self.nothing_changes()
        self.after(held.claim.id, transition)

    @may_happen(2, when=lambda self: self.held, which=ANY)
    def a_task_runs_on_though_cancelled(self, which: int) -> None:
        claim = self.pick_held(which).claim
        if self.holds_its_row(claim):
            self.publish(store.request_cancel(self.database, claim.id, by="user:bea").due)
            self.time_passes(self.arena.settings.task_cancel_grace_seconds + 1, 3)
            assert store.heartbeat(self.database, claim.id, claim.attempt, LEASE).cancel_requested

    @may_happen(2, when=lambda self: self.held, which=ANY)
    def drain(self, which: int) -> None:
        worker = self.pick_held(which).worker
        mine = {
            row.id: row
            for row in self.rows.values()
            if row.worker == worker and row.state == State.STARTED and row.children_open is None
        }
        released = release_claims(cast(Any, self.runtime(worker)))
        assert set(released) == set(mine), "a draining worker gives back what it holds, all of it and nothing else"
        for task_id, before in mine.items():
            after = self.row(task_id)
            assert after.failures == before.failures, "giving back costs no failure"
            asked = before.cancel_requested_at is not None
            assert after.state == (State.REVOKED if asked else State.PENDING)
        self.broker.give_back()

    # --- what befalls them -------------------------------------------------------------------------------------------
    @may_happen(
        3,
        which=one_of(range(2)),
        others=lambda chance: [
            (chance.choice(["take", "claim", "finish", "beat", "cancel", "pass", "drain"]), ANY(chance))
            for _ in range(chance.choice([0, 0, 0, 1, 2, 3]))
        ],
    )
    def reconcile(self, which: int, others: list[tuple[str, int]]) -> None:
        for what, number in others:
            self.database.interruptions.append(partial(self.meanwhile, what, number))
        started, refusing, told_before = self.clock.now, self.broker.refusing, len(self.broker.asked_for)
        in_the_list = {
            row.id: row.published_at
            for row in self.waiting()
            if row.published_at is not None and self.broker.holds(row.id, row.queue, row.published_at)
        }
        self.broker.told.clear()
        done = self.reconcilers[which].run_once()
        undisturbed = len(self.database.interruptions) == len(others)
        self.database.interruptions.clear()
        if not undisturbed:
            self.expected.stamped_are_published = False
            return
        asked_for = Counter(hint.id for hint in self.broker.asked_for[told_before:])
        assert not asked_for or max(asked_for.values()) == 1, "one pass sends one message a task"
        after = self.look()
        for task_id, stamp in in_the_list.items():
            assert after[task_id].published_at == stamp, "what lies in the list is not sent again"
            assert task_id not in asked_for
        assert done.broker_away == (self.broker.mood == "away")
        if refusing:
            tried = Counter(row.queue for row in self.waiting() if row.id in asked_for)
            assert all(number <= 2 for number in tried.values()), "a Redis that takes nothing is not tried with all"
        grace = timedelta(seconds=self.arena.settings.task_cancel_grace_seconds)
        for row in self.rows.values():
            if row.lease_until is not None and row.cancel_requested_at is not None:
                overdue = row.cancel_requested_at + grace < started
                assert not overdue or after[row.id].state != State.STARTED, "a cancel nobody noticed is done by a pass"
        if not refusing and not done.broker_away:
            for row in self.waiting():
                if row.waits_for is not None or after[row.id].state not in WAITING:
                    continue  # the same pass has ended what it waits for, or itself with its parent
                must, may = self.needs_a_message(row, started), self.needs_a_message(row, self.clock.now)
                sent = after[row.id].published_at != row.published_at
                assert not must or sent, "a task whose message is gone gets another one in the next pass"
                assert may or not sent, "a task whose message may still be there gets no other"
        if not self.late[which]:
            for row in self.rows.values():
                if row.state == State.STARTED and row.lease_until is not None and row.lease_until < started:
                    assert after[row.id].state != State.STARTED, "a lease that has ended is noticed in the next pass"

    @may_happen(2, seconds=one_of([0.4, 3.0, 6.0, 11.0, 11.0, 31.0, LONGEST_PAUSE, DAY / 2, 2 * DAY]), late=ANY)
    def time_passes(self, seconds: float, late: int) -> None:
        self.clock.pass_by(seconds)
        for number in range(2):
            if late % 4 == number:
                self.process_time[number] += seconds
                self.late[number] = True

    @may_happen(2, mood=one_of(["well"] * 5 + ["away", "full", "leaky", "slow", "doubling"]))
    def redis_changes(self, mood: str) -> None:
        self.broker.mood = mood

    @may_happen(
        2,
        what=one_of(["wiped", "one wiped", "given back", "doubled", "foreign", "let go"]),
        queue=one_of(QUEUES),
    )
    def messages_are(self, what: str, queue: str) -> None:
        if what == "wiped":
            self.broker.forget(QUEUES)
        elif what == "one wiped":
            self.broker.forget([queue])
        elif what == "given back":
            self.broker.give_back()
        elif what == "doubled":
            self.broker.double(queue)
        elif what == "foreign":
            self.broker.push_foreign(queue)
        else:
            self.broker.let_go()

    @may_happen(3, when=lambda self: self.held, which=ANY, taken_over=one_of([False, True]))
    def a_worker_freezes_or_dies_of_its_task(self, which: int, taken_over: bool) -> None:
        claim = self.pick_held(which).claim
        if self.holds_its_row(claim):
            self.time_passes(LEASE + 1, 3)
            self.broker.give_back()
            if taken_over:
                self.claim(claim.id, "w3", None)

    @may_happen(1)
    def two_schedulers_look_at_the_clock(self) -> None:
        def other() -> None:
            self.accept_due(make_due(self.database, "America/Tegucigalpa", SCHEDULES))

        with self.database.read() as session:
            last = {row.name: row.last_due for row in session.execute(select(schedules))}
        made_before = {(row.schedule, row.scheduled_for) for row in self.rows.values() if row.schedule}
        self.database.interruptions.append(other)
        self.accept_due(made := make_due(self.database, "America/Tegucigalpa", SCHEDULES))
        self.database.interruptions.clear()
        after = self.look()
        made_now = Counter(
            (row.schedule, row.scheduled_for)
            for row in after.values()
            if row.schedule and (row.schedule, row.scheduled_for) not in made_before
        )
        assert all(number == 1 for number in made_now.values()), "replicas make one run of a due instant"
        assert len({name for name, _ in made_now}) == len(made_now), "after a pause the last missed run is made, once"
        for schedule in SCHEDULES:
            due = last.get(schedule.name)
            if due is not None and self.clock.now - due > timedelta(days=1) and not made:
                ran = schedule.name in {name for name, _ in made_now}
                assert ran or schedule.spec is EXCLUSIVE, "a schedule that is due runs"

    @may_happen(1)
    def the_old_is_deleted(self) -> None:
        limit = self.clock.now - timedelta(days=RETENTION_DAYS)
        gone = {
            row.id
            for row in self.rows.values()
            if row.parent_id is None and row.finished_at and row.finished_at < limit
        }
        while below := {row.id for row in self.rows.values() if row.parent_id in gone} - gone:
            gone |= below
        assert store.delete_finished(self.database, older_than_days=RETENTION_DAYS, batch=3) == len(gone)
        assert not any(row.id in gone for row in self.unfinished()), "what has not ended is never deleted"
        self.expected.gone = gone
        self.ids = [task_id for task_id in self.ids if task_id not in gone]
        self.keys = {key: value for key, value in self.keys.items() if value[0] not in gone}

    @may_happen(1, when=lambda self: self.views, which=ANY)
    def a_result_entry_is_written_late_or_twice(self, which: int) -> None:
        self.write_entry(self.views[which % len(self.views)])

    @initialize(salt=st.integers(0, 2**60))
    def begin(self, salt: int) -> None:
        self.salt = salt
        chance = random.Random(salt)
        for _ in range(chance.randrange(2, 7)):
            self.do("submit", chance)
            self.the_laws_hold()

    @rule(step=st.integers(0, 2**16 - 1))
    def something_happens(self, step: int) -> None:
        """Hypothesis chooses a number and leaves steps out until only those are left that a failure needs.

        What the number means, a generator of its own decides: Hypothesis likes small and repeated values, with which
        an example had a few tasks and one claim, and half of the broken stores passed.
        """
        chance = random.Random(f"{self.salt} {step}")
        possible = [name for name, action in ACTIONS.items() if action.when(self)]
        (name,) = chance.choices(possible, [ACTIONS[one].weight for one in possible])
        self.do(name, chance)

    def do(self, name: str, chance: random.Random) -> None:
        details = {what: choose(chance) for what, choose in ACTIONS[name].choices.items()}
        note(f"{name} {details}")
        getattr(self, name)(**details)

    # --- what must hold ----------------------------------------------------------------------------------------------
    @invariant()
    def the_laws_hold(self) -> None:
        before, rows, expected = self.rows, self.look(), self.expected
        self.expected = Expected()
        assert set(self.ids) == set(rows), "an accepted task is there until retention, and nothing else is"
        assert not expected.nothing_changed or rows == before, "what was refused has changed nothing"
        sent = {(hint.id, hint.published_at) for hint in self.broker.asked_for}
        alone = Counter(row.name for row in rows.values() if row.state not in FINAL_STATES and row.waits_for is None)
        for spec in (EXCLUSIVE, FOLLOWED):
            assert alone[spec.name] <= 1, "an exclusive key has one task at a time"
        below: dict[str, list[Row[Any]]] = {}
        for row in rows.values():
            if row.parent_id is not None:
                below.setdefault(row.parent_id, []).append(row)
        for row in rows.values():
            if (old := before.get(row.id)) is not None:
                follows(old, row)
            self.a_row_is_sound(row, rows, below.get(row.id, []))
            if row.state in WAITING and row.published_at is not None and expected.stamped_are_published:
                assert (row.id, row.published_at) in sent, "what is stamped is published"
        self.effects_are_there_once(rows, expected.gone)
        self.rows = rows

    def a_row_is_sound(self, row: Row[Any], rows: Rows, children: list[Row[Any]]) -> None:
        assert row.failures <= row.max_attempts, "no task is tried more often than it may"
        assert row.failures <= row.attempt, "only what ran can fail"
        if row.state in FINAL_STATES:
            assert row.lease_until is None
            assert row.finished_at is not None
            assert row.waits_for is None
        else:
            assert row.finished_at is None
        if row.state in WAITING:
            assert row.lease_until is None, "what waits is nobody's"
            assert row.failures < row.max_attempts, "what waits has an attempt left"
            assert row.cancel_requested_at is None, "what waits and is cancelled has ended"
        if row.state == State.STARTED:
            assert (row.lease_until is None) == (row.children_open is not None), "running means leased"
        if row.waits_for is not None:
            assert rows[row.waits_for].state not in FINAL_STATES, "nobody waits for a task that has ended"
        if row.state == State.FAILURE and row.error_code in ("lease_expired", "unavailable", "time_limit"):
            assert row.failures == row.max_attempts, "what another attempt may mend has had all its attempts"
        if row.state == State.SUCCESS and row.id in self.promised:
            assert row.data_version >= self.promised[row.id], "who asks after a change is answered by a run after it"
        if row.children_total is None:
            assert not children
            if row.state == State.SUCCESS:
                assert self.successes[row.id] == 1, "a success was made by its worker, once"
            return
        ended = [child for child in children if child.state in FINAL_STATES]
        assert len(children) == row.children_total
        assert row.children_open == len(children) - len(ended), "open children are counted exactly"
        assert row.children_failed == sum(child.state != State.SUCCESS for child in ended)
        if row.state in FINAL_STATES:
            assert row.children_open == 0, "a parent ends after its children"
            good = [child for child in children if child.state == State.SUCCESS]
            assert (row.state == State.SUCCESS) == (len(good) == len(children))
            if row.attempt:
                assert row.result["lines"] == sum(child.result["lines"] for child in good)
        else:
            assert row.children_open > 0, "a parent ends with its last child"

    def effects_are_there_once(self, rows: Rows, gone: set[str]) -> None:
        self.deleted |= gone
        written = [row for row in self.effects if row.task_id not in self.deleted]
        found = Counter(row.task_id for row in written)
        for row in rows.values():
            own_part = row.children_total is not None and row.attempt > 0
            wanted = own_part or (row.children_total is None and row.state == State.SUCCESS)
            assert found[row.id] == (wanted and row.id in self.with_effect), (
                "effects are there once after a success, and else not"
            )
        for row in written:
            assert row.attempt == rows[row.task_id].attempt, "the effects are those of the attempt that ended it"

    def teardown(self) -> None:
        self.nobody_works_any_more()
        self.broker.mood = "well"
        self.broker.let_go()
        for rounds in count_up():
            assert rounds < 20, f"these never end: {[(row.id, row.state) for row in self.unfinished()]}"
            # What a frozen worker still believes in changes nothing, also now.
            for held in self.held:
                if not self.holds_its_row(held.claim):
                    self.end(held, {"lines": 1}, None)
                    self.the_laws_hold()
            self.held.clear()
            while message := next(filter(None, map(self.broker.take, QUEUES)), None):
                self.claim(message.id, "w9", message)
                self.the_laws_hold()
            for held in self.held:
                self.end(held, {"lines": 1}, None)
                self.the_laws_hold()
            if not self.unfinished():
                break
            self.clock.pass_by(LONGEST_PAUSE)
            for _ in range(2):
                self.reconcile(0, [])
                self.the_laws_hold()
        self.entries_say_what_rows_say()
        self.arena.examples += 1

    def nobody_works_any_more(self) -> None:
        """Without any worker, leases end and cancels are done, in a few passes."""
        for _ in range(6):
            self.clock.pass_by(LONGEST_PAUSE)
            self.process_time[0] += 2 * self.arena.settings.task_heartbeat_seconds
            self.reconcile(0, [])
            self.the_laws_hold()
        for row in self.unfinished():
            assert row.cancel_requested_at is None, "a cancel ends a task, whatever its worker does"
            assert row.lease_until is None, "a dead worker's task is nobody's"

    def entries_say_what_rows_say(self) -> None:
        self.see(self.ids)
        stale = self.views[: -len(self.ids) or None]
        for view in self.views[-len(self.ids) :] if self.ids else []:
            self.write_entry(view)
        for view in stale[-10:]:
            self.write_entry(view)
        for row in self.rows.values():
            raw = self.arena.redis.get(KEY_PREFIX + row.id)
            if raw is not None:
                assert json.loads(raw)["status"] == row.state, "a result entry ends as its row did"

    # --- small words -------------------------------------------------------------------------------------------------
    def look(self) -> Rows:
        if self.seen_after != self.database.writes:
            self.seen_after = self.database.writes
            with self.database.engine.connect() as connection:
                self.seen = {row.id: row for row in connection.execute(select(*tasks.c))}
                self.effects = connection.execute(select(effects.c.task_id, effects.c.attempt)).all()
        return self.seen

    def row(self, task_id: str) -> Row[Any]:
        return self.look()[task_id]

    def unfinished(self) -> list[Row[Any]]:
        return [row for row in self.rows.values() if row.state not in FINAL_STATES]

    def waiting(self) -> list[Row[Any]]:
        return [row for row in self.rows.values() if row.state in WAITING]

    def know(self, *ids: str) -> None:
        self.ids += [task for task in ids if task not in self.ids]

    def pick(self, which: int) -> str:
        return self.ids[which % len(self.ids)]

    def pick_held(self, which: int) -> Held:
        """Any claim, and often one whose row another attempt holds by now, or one that holds its row."""
        running = {row.id: row.attempt for row in self.look().values() if row.state == State.STARTED}
        chosen: list[Held] = []
        if which % 4 == 0:
            chosen = [one for one in self.held if one.claim.attempt < running.get(one.claim.id, 0)]
        elif which % 4 < 3:
            chosen = [one for one in self.held if one.claim.attempt == running.get(one.claim.id)]
        chosen = chosen or self.held
        return chosen[which // 4 % len(chosen)]

    def nothing_changes(self) -> None:
        self.expected.nothing_changed = True

    def runtime(self, worker: str) -> Worker:
        return Worker(worker, self.database, self.after)

    def after(self, task_id: str, transition: store.Transition) -> None:
        self.see((task_id, *transition.final))
        self.publish(transition.due)

    def see(self, ids: Sequence[str]) -> None:
        with self.database.read() as session:
            self.views += store.found(session, ids)

    def publish(self, due: Sequence[str]) -> None:
        with self.database.read() as session:
            self.broker.publish(store.hints(session, due))

    def accept_due(self, made: Sequence[store.Submission]) -> None:
        for accepted in made:
            self.know(accepted.task.id)
            self.publish(accepted.due)

    def holds_its_row(self, claim: store.Claim) -> bool:
        row = self.look().get(claim.id)
        if row is None or row.children_open is not None:
            return False
        return bool(row.state == State.STARTED and row.attempt == claim.attempt)

    def needs_a_message(self, row: Row[Any], moment: datetime) -> bool:
        """Whether the reconciler, asked at ``moment``, has to send one for a waiting row."""
        if row.waits_for is not None or row.run_at > moment:
            return False
        if row.published_at is None:
            return True
        oldest = self.broker.told.get(row.queue)
        if oldest is None:
            return False
        slack, pause = timedelta(seconds=SLACK_SECONDS), 5.0 * 2 ** max(0, row.publish_count - 1)
        gone = row.published_at < (moment if oldest is EMPTY else oldest) - slack
        return bool(gone and row.published_at + timedelta(seconds=min(300.0, pause)) <= moment)

    def claim(self, task_id: str, worker: str, message: Message | None) -> None:
        before = self.look().get(task_id)
        claim = store.claim(
            self.database,
            task_id,
            worker=worker,
            lease_seconds=LEASE,
            known=KNOWN,
            ended=lambda transition: self.after(task_id, transition),
        )
        if claim is None:
            assert before is None or not claimable(before, self.clock.now), "a task that is due can be taken"
            if message is not None:
                self.broker.acknowledge(message)
            return
        assert before is not None
        assert claimable(before, self.clock.now), "nobody takes what another holds, what has ended or is not due"
        assert claim.attempt == before.attempt + 1
        after = self.row(task_id)
        assert after.failures == before.failures + (before.state == State.STARTED), "an expired lease is a failure"
        assert after.worker == worker
        self.held.append(Held(claim, worker, message))

    def end(
        self,
        held: Held,
        result: dict[str, Any],
        failure: BaseException | None,
        children: int = 0,
        *,
        effect: bool = True,
    ) -> None:
        """The worker's own commit, with an effect or without; refused, it must have changed nothing."""
        claim = held.claim
        holds, before = self.holds_its_row(claim), self.look()
        context = TaskContext(
            settings=self.arena.settings,
            database=self.database,
            task_id=claim.id,
            name=claim.name,
            attempt=claim.attempt,
            request_id=None,
        )
        written = {"task_id": claim.id, "attempt": claim.attempt}
        if effect:
            context.effects(lambda session: session.execute(insert(effects).values(written)))  # type: ignore[arg-type]  # its answer is not asked for
        for number in range(children):
            context.submit(ONCE if number else PLAIN, Work(size=number + 1))
        transition = _commit(cast(Any, SimpleNamespace(database=self.database)), context, claim, result, failure)
        assert bool(transition) == holds, "who holds its row ends it, and nobody else"
        after = self.look()
        if not transition:
            assert after == before, "a write of an attempt that was overtaken changes nothing"
            return
        self.successes[claim.id] += transition.state is State.SUCCESS
        if effect and failure is None:
            self.with_effect.add(claim.id)
        self.know(*sorted(row.id for row in after.values() if row.parent_id == claim.id))
        self.after(claim.id, transition)
        if held.message is not None:
            self.broker.acknowledge(held.message)

    def meanwhile(self, what: str, number: int) -> None:
        """Something that another process does between two transactions."""
        held = self.pick_held(number) if self.held else None
        if what == "take":
            self.take_a_message(number, "w1")
        elif what == "claim" and self.ids:
            self.claim(self.pick(number), "w2", None)
        elif what == "finish" and held:
            self.end(held, {"lines": 1}, None)
        elif what == "beat" and held:
            store.heartbeat(self.database, held.claim.id, held.claim.attempt, LEASE)
        elif what == "cancel" and self.ids:
            outcome = store.request_cancel(self.database, self.pick(number), by="user:bea")
            self.publish(outcome.due)
        elif what == "pass":
            self.reconcilers[number % 2].run_once()
        elif what == "drain":
            release_claims(cast(Any, self.runtime(WORKERS[number % 3])))

    def write_entry(self, view: store.TaskView) -> None:
        assert self.arena.entries.write(view)
        raw = self.arena.redis.get(KEY_PREFIX + view.id)
        if raw is None:
            return
        place = json.loads(raw)["place"]
        assert place >= self.places.get(view.id, 0), "a result entry never goes back"
        self.places[view.id] = place


WAITING = (State.PENDING, State.RETRY)


def exhausted(row: Row[Any]) -> bool:
    return bool(row.failures + 1 >= row.max_attempts)


def claimable(row: Row[Any], moment: datetime) -> bool:
    if row.cancel_requested_at is not None:
        return False
    if row.state in WAITING:
        return bool(row.waits_for is None and row.run_at <= moment)
    return bool(
        row.state == State.STARTED and row.lease_until is not None and row.lease_until < moment and not exhausted(row)
    )


def follows(old: Row[Any], new: Row[Any]) -> None:
    """What may become of a row, whoever wrote it."""
    assert old.state not in FINAL_STATES or old == new, "what has ended never changes"
    assert new.attempt >= old.attempt, "the fencing token never goes back"
    assert new.failures >= old.failures
    assert (old.name, old.payload, old.created_at) == (new.name, new.payload, new.created_at)
    assert old.cancel_requested_at is None or new.cancel_requested_at == old.cancel_requested_at


@pytest.fixture
def arena(
    request: pytest.FixtureRequest, kind: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Arena]:
    clock = Clock()
    database = InterruptedDatabase(request.getfixturevalue(f"{kind}_url"), clock)
    effects.metadata.create_all(database.engine)
    options = Settings(redis_url=redis_url)
    # The laws are about orders: a machine so busy that Redis answers late must not break one (seen at nice 19).
    monkeypatch.setattr("sicargabox_core.tasks.results.TIMEOUT_SECONDS", PATIENCE_SECONDS)
    client = connect(options, Db.RESULTS, timeout=PATIENCE_SECONDS)
    arena = Arena(database, clock, ResultEntries(options), client, options)
    monkeypatch.setattr("uuid_utils.uuid7", arena.next_id)
    yield arena
    client.close()
    database.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.timeout(0 if machine().examples else 3600)
def test_the_laws_hold_in_any_order(arena: Arena, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """150 examples each, always the same; ``SICARGABOX_TEST_EXAMPLES`` asks for another number, of random ones."""
    wanted = machine().examples
    first_seed = machine().seed
    if first_seed is None:
        first_seed = random.randrange(10**9) if wanted else 0

    class LifeHere(Life):
        def __init__(self) -> None:
            super().__init__(arena)

    for number, done in enumerate(range(0, wanted or DEFAULT_EXAMPLES, CHUNK)):
        run_state_machine_as_test(
            seed(first_seed + number)(LifeHere),
            settings=settings(
                max_examples=min(CHUNK, (wanted or DEFAULT_EXAMPLES) - done),
                stateful_step_count=60,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        if wanted:
            with capsys.disabled():
                print(f"\n{kind}: {arena.examples} of {wanted} examples, seed {first_seed}", end="", flush=True)
