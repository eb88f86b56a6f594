"""Claiming is a compare-and-set; every later write is fenced by the attempt it gave."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from core.tests.task_laws.world import FOLLOWED, KNOWN, LEASE, ONCE, PLAIN, Work, World, at_once
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from sicargabox_core.db import db_now
from sicargabox_core.errors import (
    DataFault,
    InvalidInput,
    InvalidResult,
    ResultTooLarge,
    TaskFailed,
    TooManyRequests,
    Unavailable,
)
from sicargabox_core.tasks import reconcile, store
from sicargabox_core.tasks.contracts import FINAL_STATES, State
from sicargabox_core.tasks.lifecycle import retry_delay, told_delay
from sicargabox_core.tasks.models import CounterRow


def test_a_task_claimed_twice_runs_once(world: World) -> None:
    task = world.submitted()
    assert world.claim(task) is not None
    assert world.claim(task) is None
    assert world.view(task).attempt == 1


def test_of_many_claims_at_the_same_moment_one_wins(world: World) -> None:
    for _ in range(5):
        task = world.submitted()
        claims = at_once(*[partial(world.claim, task)] * 4)
        assert sum(claim is not None for claim in claims) == 1
        assert world.view(task).attempt == 1


def test_a_claim_carries_what_the_task_needs(world: World) -> None:
    world.bump()
    task = world.submit(payload=Work(note="x", size=3), request_id="r").task
    before = world.now()
    claim = world.claimed(task.id, worker="w9")
    assert (claim.name, claim.attempt, claim.failures, claim.request_id) == ("law.plain", 1, 0, "r")
    assert claim.arguments == Work(note="x", size=3)
    assert claim.payload == {"note": "x", "size": 3}
    assert claim.data_version == 1
    started = world.view(task.id)
    assert (started.state, started.worker) == (State.STARTED, "w9")
    assert started.lease_until is not None
    assert before <= started.lease_until - timedelta(seconds=LEASE) <= world.now()


def test_an_expired_lease_is_taken_over_as_a_new_attempt_and_counts_as_a_failure(world: World) -> None:
    first = world.running()
    assert world.claim(first.id) is None
    world.expire(first.id)
    second = world.claimed(first.id, worker="w2")
    assert (second.attempt, second.failures) == (2, 1)


def test_an_expired_lease_without_an_attempt_left_is_a_failure(world: World) -> None:
    claim = world.running(ONCE)
    world.expire(claim.id)
    assert world.claim(claim.id) is None
    failed = world.view(claim.id)
    assert (failed.state, failed.error_code, failed.attempt) == (State.FAILURE, "lease_expired", 1)


@pytest.mark.parametrize("end", ["finish", "fail", "revoke"])
def test_a_final_task_is_never_claimed(world: World, end: str) -> None:
    claim = world.running()
    getattr(world, end)(claim)
    assert world.claim(claim.id) is None
    assert world.view(claim.id).state in FINAL_STATES


def test_a_task_asked_to_stop_is_never_claimed_again(world: World) -> None:
    claim = world.running()
    world.cancel(claim.id)
    world.expire(claim.id)
    assert world.claim(claim.id) is None
    assert world.view(claim.id).attempt == 1


def test_a_name_nobody_knows_waits_with_growing_pauses_and_is_shown(world: World) -> None:
    task = world.submitted()
    for pause in (5, 10, 20):
        before = world.now()
        assert world.claim(task, known={}) is None
        after = world.now()
        waiting = world.view(task)
        assert (waiting.state, waiting.attempt, waiting.no_worker_knows_it) == (State.PENDING, 0, True)
        assert before <= waiting.run_at - timedelta(seconds=pause) <= after
        world.make_due(task)
        assert world.pass_once().published == 1
    world.finish(world.claimed(task))
    done = world.view(task)
    assert (done.state, done.error_code, done.no_worker_knows_it) == (State.SUCCESS, None, False)


def test_a_row_of_a_newer_release_is_left_to_newer_workers(world: World) -> None:
    task = world.submitted()
    world.change(task, version=PLAIN.version + 1)
    assert world.claim(task) is None
    assert world.view(task).no_worker_knows_it
    assert world.view(task).failures == 0


def test_a_payload_that_fits_no_longer_is_a_clear_failure(world: World) -> None:
    task = world.submitted()
    world.change(task, payload={"size": "many"})
    assert world.claim(task) is None
    failed = world.view(task)
    assert (failed.state, failed.error_code) == (State.FAILURE, "invalid_payload")
    assert "size" in (failed.error_message or "")


@pytest.mark.parametrize("why", ["payload", "lease"])
def test_whoever_ends_a_task_while_claiming_learns_what_came_of_it(world: World, why: str) -> None:
    # Its entry in Redis must be written and its follow-up published by that process: nobody else knows.
    running = world.running(FOLLOWED)
    world.bump()
    follow_up = world.submitted(FOLLOWED)
    if why == "payload":
        world.change(running.id, state=State.PENDING, lease_until=None, payload={"size": "many"})
    else:
        world.change(running.id, failures=FOLLOWED.max_attempts - 1)
        world.expire(running.id)
    told: list[store.Transition] = []
    assert (
        store.claim(world.database, running.id, worker="w2", lease_seconds=LEASE, known=KNOWN, ended=told.append)
        is None
    )
    assert [(one.state, one.final, one.due) for one in told] == [(State.FAILURE, (running.id,), (follow_up,))]


def test_fields_of_a_newer_producer_are_ignored(world: World) -> None:
    task = world.submitted()
    world.change(task, payload={"size": 2, "colour": "red"})
    assert world.claimed(task).arguments == Work(size=2)


WRITES: dict[str, Callable[[World, store.Claim], object]] = {
    "beat": lambda world, claim: world.beat(claim).alive,
    "finish": lambda world, claim: world.finish(claim),
    "children": lambda world, claim: world.finish(claim, {}, [store.Child(PLAIN, Work())]),
    "fail": lambda world, claim: world.fail(claim),
    "retry_later": lambda world, claim: world.retry_later(claim),
    "release": lambda world, claim: world.release(claim),
    "revoke": lambda world, claim: world.revoke(claim),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("meanwhile", ["taken over", "released", "ended", "cancelled", "waits for children"])
def test_no_write_of_an_attempt_that_lost_its_row_changes_anything(world: World, write: str, meanwhile: str) -> None:
    claim = world.running()
    if meanwhile == "taken over":
        world.expire(claim.id)
        world.claimed(claim.id, worker="w2")
    elif meanwhile == "released":
        world.release(claim)
    elif meanwhile == "ended":
        world.finish(claim, {"lines": 1})
    elif meanwhile == "cancelled":
        world.revoke(claim)
    else:
        world.finish(claim, {"lines": 1}, [store.Child(PLAIN, Work())])
    before, rows = world.row(claim.id), world.count()
    assert not WRITES[write](world, claim)
    assert world.row(claim.id) == before
    assert world.count() == rows


def test_a_success_shows_the_progress_told_last_and_all_of_it(world: World) -> None:
    claim = world.running()
    store.heartbeat(world.database, claim.id, claim.attempt, LEASE, store.Progress(1500, 1511, "1500 of 1511"))
    with world.database.write() as session:
        last = store.Progress(1510, 1511, "1511 of 1511")
        assert store.finish_success(session, claim.id, claim.attempt, {}, progress=last)
    row = world.row(claim.id)
    assert (row.progress_current, row.progress_total, row.progress_message) == (1511, 1511, "1511 of 1511")


def test_effects_of_a_refused_attempt_are_rolled_back_with_it(world: World) -> None:
    claim = world.running()
    world.expire(claim.id)
    world.claimed(claim.id, worker="w2")

    def end_with_effect() -> None:
        with world.database.write() as session:
            session.execute(insert(CounterRow).values(name="effect", value=1))
            if not store.finish_success(session, claim.id, claim.attempt, {}):
                raise LookupError("the attempt was taken over")

    with pytest.raises(LookupError):
        end_with_effect()
    with world.database.read() as session:
        assert store.counter(session, "effect") == 0


def test_a_locked_attempt_is_neither_taken_over_nor_reconciled_nor_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def met_the_lock(_task_id: str, error: DBAPIError) -> None:
        raise error

    monkeypatch.setattr(reconcile, "_leave", met_the_lock)
    claim = world.running()
    world.expire(claim.id)
    with world.database.write() as session:
        assert store.lock_attempt(session, claim.id, claim.attempt)
        if not world.database.is_sqlite:  # there every other writer waits for this one
            assert world.claim(claim.id) is None
            assert world.pass_once().expired == 0
    assert world.beat(claim).alive
    assert world.finish(claim)
    with world.database.write() as session:
        assert not store.lock_attempt(session, claim.id, claim.attempt)


def test_a_heartbeat_extends_the_lease_and_saves_progress(world: World) -> None:
    claim = world.running()
    assert world.view(claim.id).shown_state == "STARTED"
    world.change(claim.id, lease_until=db_now(1))
    assert world.beat(claim, store.Progress(500, 7495, "500/7495 documents indexed")) == store.Beat(True, False)
    shown = world.view(claim.id)
    assert (shown.shown_state, shown.progress_current, shown.progress_total) == ("PROGRESS", 500, 7495)
    assert shown.progress_message == "500/7495 documents indexed"
    assert shown.lease_until is not None
    assert (shown.lease_until - world.now()).total_seconds() > LEASE / 2
    assert world.beat(claim).alive
    assert world.view(claim.id).progress_current == 500


def test_absurd_progress_kills_no_heartbeat(world: World) -> None:
    claim = world.running()
    assert world.beat(claim, store.Progress(-5, 10**12, "a\x00" + "ñ" * 1000)).alive
    shown = world.view(claim.id)
    assert (shown.progress_current, shown.progress_total) == (0, 2**31 - 1)
    assert len(shown.progress_message or "") == 500


def test_a_new_attempt_shows_no_progress_of_the_one_before(world: World) -> None:
    claim = world.running()
    world.beat(claim, store.Progress(5, 10, "half"))
    world.release(claim)
    world.claimed(claim.id)
    shown = world.view(claim.id)
    assert (shown.shown_state, shown.progress_current, shown.progress_message) == ("STARTED", None, None)


def test_a_success_shows_its_result_all_of_its_progress_and_no_error(world: World) -> None:
    claim = world.running()
    world.retry_later(claim, traceback="Traceback …")
    world.make_due(claim.id)
    claim = world.claimed(claim.id)
    world.beat(claim, store.Progress(9, 10))
    ended = world.finish(claim, {"lines": 3})
    assert (ended.state, ended.final, ended.due) == (State.SUCCESS, (claim.id,), ())
    done = world.view(claim.id)
    assert (done.result, done.progress_current, done.error_code, done.lease_until) == ({"lines": 3}, 10, None, None)
    assert done.finished_at is not None
    with world.database.read() as session:
        assert store.traceback_of(session, claim.id) is None


def test_a_drained_task_is_due_at_once_and_has_lost_no_attempt(world: World) -> None:
    claim = world.running(ONCE)
    released = world.release(claim)
    assert (released.state, released.due) == (State.PENDING, (claim.id,))
    again = world.claimed(claim.id)
    assert (again.attempt, again.failures) == (2, 0)


def test_a_retryable_error_waits_and_runs_again_until_no_attempt_is_left(world: World) -> None:
    task = world.submitted()
    for failures in (1, 2):
        claim = world.claimed(task)
        assert world.retry_later(claim, traceback="trace", delay=600).state is State.RETRY
        waiting = world.view(task)
        assert (waiting.state, waiting.failures, waiting.error_code) == (State.RETRY, failures, "unavailable")
        assert world.claim(task) is None
        assert world.pass_once().published == 0
        world.make_due(task)
    last = world.retry_later(world.claimed(task))
    assert (last.state, last.final) == (State.FAILURE, (task,))
    assert world.view(task).failures == 3


def test_a_retry_without_a_given_delay_backs_off(world: World) -> None:
    before = world.now()
    claim = world.running()
    world.retry_later(claim)
    assert world.view(claim.id).run_at >= before + timedelta(seconds=2.5)


def test_pauses_between_attempts_grow_spread_and_end_at_five_minutes() -> None:
    for failures, most in ((1, 5), (2, 10), (3, 20), (10, 300), (10_000, 300)):
        pauses = [retry_delay(failures) for _ in range(50)]
        assert most / 2 <= min(pauses) < max(pauses) <= most


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [(0.0, 0, 5), (-7.0, 0, 5), (10.0, 10, 15), (600.0, 600, 660), (1e9, 3600, 3960), (float("inf"), 3600, 3960)],
)
def test_who_says_not_before_is_believed_for_an_hour_and_no_two_come_back_together(
    told: float, least: float, most: float
) -> None:
    pauses = [told_delay(told) for _ in range(50)]
    assert least <= min(pauses) < max(pauses) <= most
    assert len(set(pauses)) == len(pauses)


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (Unavailable("away"), State.RETRY, "unavailable"),
        (TooManyRequests("slow down", retry_after=100), State.RETRY, "too_many_requests"),
        (ConnectionResetError("reset"), State.RETRY, "unexpected"),
        (TimeoutError("late"), State.RETRY, "unexpected"),
        (OperationalError("SELECT", {}, Exception("gone")), State.RETRY, "unexpected"),
        (IntegrityError("INSERT", {}, Exception("twice")), State.FAILURE, "unexpected"),
        (TaskFailed("never"), State.FAILURE, "task_failed"),
        (DataFault("broken"), State.FAILURE, "data_fault"),
        (InvalidInput("bad", field="f", remedy="r"), State.FAILURE, "invalid_input"),
        (KeyError("bug"), State.FAILURE, "unexpected"),
        (ResultTooLarge("big"), State.FAILURE, "result_too_large"),
    ],
)
def test_only_errors_that_may_pass_are_tried_again(world: World, error: Exception, state: State, code: str) -> None:
    claim = world.running()
    with world.database.write() as session:
        ended = store.record_error(session, claim.id, claim.attempt, error, traceback="trace")
    task = world.view(claim.id)
    assert (ended.state, task.state, task.error_code, task.failures) == (state, state, code, 1)
    if isinstance(error, TooManyRequests):
        assert timedelta(seconds=100) <= task.run_at - task.created_at <= timedelta(seconds=120)


def test_an_error_of_the_database_is_told_without_the_values_it_was_about(world: World) -> None:
    claim = world.running()
    with pytest.raises(IntegrityError) as refused, world.database.write() as session:
        for _ in range(2):
            session.execute(insert(CounterRow).values(name="somebody's secret", value=1))
    assert "INSERT INTO counters" in str(refused.value)
    assert "[parameters" not in str(refused.value)
    with world.database.write() as session:
        store.record_error(session, claim.id, claim.attempt, refused.value)
    message = world.view(claim.id).error_message or ""
    assert message.startswith("IntegrityError: ")
    assert "secret" not in message


def test_results_beyond_64_kb_are_refused_before_anything_is_written(world: World) -> None:
    claim = world.running()
    fits = {"text": "a" * (64 * 1024 - len(json.dumps({"text": ""})))}
    with pytest.raises(ResultTooLarge):
        world.finish(claim, fits | {"more": 1})
    assert world.view(claim.id).state is State.STARTED
    assert world.finish(claim, fits)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, "a\x00b", "\ud800"])
def test_a_result_that_a_database_cannot_keep_is_refused(world: World, value: object) -> None:
    with pytest.raises(InvalidResult):
        world.finish(world.running(), {"value": value})


def test_errors_are_kept_short_and_storable(world: World) -> None:
    claim = world.running()
    world.fail(claim, message="ñ\x00\ud800" * 5000, traceback="ñ\x00" * 50_000 + "the end")
    task = world.view(claim.id)
    assert len(task.error_message or "") == 2000
    with world.database.read() as session:
        trace = store.traceback_of(session, claim.id) or ""
    assert len(trace.encode()) <= 20 * 1024
    assert trace.endswith("the end")


def test_a_view_never_holds_a_traceback_or_a_key(world: World) -> None:
    task = world.submitted(idempotency_key="secret-key")
    world.fail(world.claimed(task), traceback="secret-trace")
    assert "secret" not in repr(world.view(task))


def test_what_was_running_when_data_changed_knows_it(world: World) -> None:
    claim = world.running(FOLLOWED)
    assert claim.data_version == 0
    assert world.bump() == 1
    assert world.bump() == 2
    world.release(claim)
    assert world.claimed(claim.id).data_version == 2


def test_counters_raised_at_the_same_moment_count_every_time(world: World) -> None:
    at_once(*[world.bump] * 6)
    with world.database.read() as session:
        assert store.counter(session) == 6


def test_every_spec_of_these_laws_is_known_to_its_workers() -> None:
    assert all(name == spec.name for name, spec in KNOWN.items())


def test_a_claim_leaves_other_rows_alone(world: World) -> None:
    others = [world.submitted() for _ in range(3)]
    before = [world.row(task) for task in others]
    world.finish(world.running())
    assert [world.row(task) for task in others] == before


def test_times_in_rows_come_from_the_database(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    claim = world.running()
    world.finish(claim)
    row = world.row(claim.id)
    with world.database.read() as session:
        year = session.execute(
            text("SELECT strftime('%Y')" if world.database.is_sqlite else "SELECT to_char(now(), 'YYYY')")
        ).scalar_one()
    assert {str(moment.year) for moment in (row.created_at, row.started_at, row.finished_at)} == {year}
