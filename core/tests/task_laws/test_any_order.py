"""Whatever workers, people and reconcilers do, in whatever order, the laws hold: a model test by Hypothesis.

Several workers hold claims, also such as were taken from them; leases expire, messages get lost, tasks end in every way
there is. After each step the rows are compared with what must never happen, and at the end everything is brought to
its end.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from core.tests.task_laws.world import EXCLUSIVE, FOLLOWED, ONCE, PLAIN, Work, World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Row, delete, select, update

from sicargabox_core.db import db_now
from sicargabox_core.errors import AlreadyRunning, Conflict, IdempotencyMismatch
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import FINAL_STATES, State
from sicargabox_core.tasks.rows import counters, tasks

SPECS = [PLAIN, ONCE, EXCLUSIVE, FOLLOWED]
ANY = st.integers(0, 10**6)
# A search for rare orders: SICARGABOX_TEST_EXAMPLES=500 (random), the suite itself repeats the same 15.
EXAMPLES = int(os.environ.get("SICARGABOX_TEST_EXAMPLES", "0"))


class Life(RuleBasedStateMachine):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        with world.database.write() as session:
            session.execute(delete(tasks))
            session.execute(delete(counters))
        self.ids: list[str] = []
        self.claims: list[store.Claim] = []
        self.successes: Counter[str] = Counter()
        self.final: dict[str, Row[Any]] = {}
        self.attempts: Counter[str] = Counter()

    # --- people ------------------------------------------------------------------------------------------------------
    @rule(spec=st.sampled_from(SPECS), size=st.integers(1, 2), key=st.sampled_from([None, "a", "b"]))
    def submit(self, spec: Any, size: int, key: str | None) -> None:
        try:
            submission = self.world.submit(spec, payload=Work(size=size), idempotency_key=key)
        except (AlreadyRunning, IdempotencyMismatch):
            return
        self.know(submission.task.id)

    @precondition(lambda self: self.ids)
    @rule(which=ANY)
    def cancel(self, which: int) -> None:
        self.world.cancel(self.pick(which))

    @precondition(lambda self: self.ids)
    @rule(which=ANY)
    def flower_revokes(self, which: int) -> None:
        with self.world.database.write() as session:
            store.revoke(session, self.pick(which), by="flower")

    @precondition(lambda self: self.ids)
    @rule(which=ANY)
    def repeat(self, which: int) -> None:
        try:
            submission = self.world.repeat(self.pick(which))
        except Conflict:
            return
        self.know(submission.task.id)
        self.know(*submission.due)

    @rule()
    def data_changes(self) -> None:
        self.world.bump()

    # --- workers -----------------------------------------------------------------------------------------------------
    @precondition(lambda self: self.ids)
    @rule(which=ANY, worker=st.sampled_from(["w1", "w2", "w3"]))
    def claim(self, which: int, worker: str) -> None:
        claim = self.world.claim(self.pick(which), worker=worker)
        if claim is not None:
            self.claims.append(claim)

    @precondition(lambda self: self.ids)
    @rule(which=ANY)
    def an_old_worker_meets_it(self, which: int) -> None:
        assert self.world.claim(self.pick(which), known={}) is None

    @precondition(lambda self: self.claims)
    @rule(which=ANY)
    def heartbeat(self, which: int) -> None:
        self.world.beat(self.held(which), store.Progress(1, 2, "half"))

    @precondition(lambda self: self.claims)
    @rule(which=ANY)
    def finish(self, which: int) -> None:
        claim = self.held(which)
        self.successes[claim.id] += bool(self.world.finish(claim, {"lines": 1}))

    @precondition(lambda self: self.claims)
    @rule(which=ANY, count=st.integers(1, 3))
    def hand_out(self, which: int, count: int) -> None:
        claim = self.held(which)
        children = [store.Child(ONCE if n else PLAIN, Work(size=n + 1)) for n in range(count)]
        if self.world.finish(claim, {"lines": 0}, children):
            with self.world.database.read() as session:
                self.know(*session.scalars(select(tasks.c.id).where(tasks.c.parent_id == claim.id)))

    @precondition(lambda self: self.claims)
    @rule(which=ANY, end=st.sampled_from(["fail", "retry_later", "release", "revoke"]))
    def end_otherwise(self, which: int, end: str) -> None:
        getattr(self.world, end)(self.held(which))

    # --- what befalls them -------------------------------------------------------------------------------------------
    @rule()
    def reconcile(self) -> None:
        self.world.pass_once()

    @precondition(lambda self: self.ids)
    @rule(which=ANY)
    def a_worker_dies(self, which: int) -> None:
        with self.world.database.write() as session:
            running = (tasks.c.id == self.pick(which), tasks.c.lease_until.is_not(None))
            session.execute(update(tasks).where(*running).values(lease_until=db_now(-1)))

    @rule()
    def messages_are_lost_and_time_passes(self) -> None:
        with self.world.database.write() as session:
            session.execute(update(tasks).values(published_at=db_now(-3600)).where(tasks.c.published_at.is_not(None)))
            session.execute(update(tasks).values(run_at=db_now(-1)))
            asked = tasks.c.cancel_requested_at.is_not(None)
            session.execute(update(tasks).where(asked).values(cancel_requested_at=db_now(-3600)))

    # --- what must hold ----------------------------------------------------------------------------------------------
    @invariant()
    def the_laws_hold(self) -> None:
        with self.world.database.read() as session:
            rows = {row.id: row for row in session.execute(select(*tasks.c))}
        assert set(self.ids) == set(rows), "an accepted task is there, and nothing else is"
        open_children = Counter(row.parent_id for row in rows.values() if row.state not in FINAL_STATES)
        for row in rows.values():
            assert self.successes[row.id] <= 1, "one success at most"
            assert row.attempt >= self.attempts[row.id], "the fencing token never goes back"
            self.attempts[row.id] = row.attempt
            if row.state in FINAL_STATES:
                assert state_of(self.final.setdefault(row.id, row)) == state_of(row), "a final state never changes"
                assert row.lease_until is None
                assert row.finished_at is not None
                assert row.children_open in (None, 0), "a parent ends after its children"
            else:
                assert row.id not in self.final
                assert row.finished_at is None
            if row.children_open is not None:
                assert row.children_open == open_children[row.id], "open children are counted exactly"
            if row.state == State.STARTED:
                assert (row.lease_until is None) == (row.children_open is not None), "running means leased"
            if row.waits_for is not None:
                assert rows[row.waits_for].state not in FINAL_STATES, "nobody waits for a task that has ended"
            if row.state == State.SUCCESS and row.children_total is None:
                assert self.successes[row.id] == 1, "a success was made by its worker"

    def teardown(self) -> None:
        left: Sequence[str] = ()
        for _ in range(30):
            self.messages_are_lost_and_time_passes()
            self.world.pass_once()
            offered = self.world.broker.take()
            for task in offered:
                claim = self.world.claim(task)
                if claim is not None:
                    assert self.world.finish(claim, {"lines": 1})
                    self.successes[task] += 1
            for claim in self.claims:  # whoever still thinks to hold a row
                self.successes[claim.id] += bool(self.world.finish(claim, {"lines": 1}))
            self.the_laws_hold()
            with self.world.database.read() as session:
                left = session.scalars(select(tasks.c.id).where(tasks.c.finished_at.is_(None))).all()
            if not left:
                return
        raise AssertionError(f"these never end: {left}")

    # --- small words -------------------------------------------------------------------------------------------------
    def know(self, *ids: str) -> None:
        self.ids += [task for task in ids if task not in self.ids]

    def pick(self, which: int) -> str:
        return self.ids[which % len(self.ids)]

    def held(self, which: int) -> store.Claim:
        return self.claims[which % len(self.claims)]


def state_of(row: Row[Any]) -> tuple[Any, ...]:
    return row.state, row.result, row.finished_at, row.error_code, row.error_message, row.attempt, row.failures


@pytest.mark.timeout(0 if EXAMPLES else 300)
def test_the_laws_hold_in_any_order(world: World) -> None:
    class LifeHere(Life):
        def __init__(self) -> None:
            super().__init__(world)

    run_state_machine_as_test(
        LifeHere,
        settings=settings(
            max_examples=EXAMPLES or 15,
            stateful_step_count=40,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
