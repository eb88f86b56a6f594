"""No accepted row stays forgotten: leases, cancels and messages that nobody looks after any more."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from core.tests.task_laws.world import ONCE, PLAIN, Work, World, at_once
from sqlalchemy import update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from sicargabox_core.db import db_now
from sicargabox_core.tasks import reconcile, store
from sicargabox_core.tasks.contracts import State
from sicargabox_core.tasks.lifecycle import end_cancelled, expire_lease
from sicargabox_core.tasks.reconcile import BATCH, Pass
from sicargabox_core.tasks.rows import tasks


def test_an_idle_pass_does_nothing(world: World) -> None:
    world.broker.oldest = world.now() - timedelta(hours=1)
    world.submitted()
    world.running()
    world.finish(world.running())
    assert world.pass_once() == Pass()
    assert world.broker.take() == []


def test_an_expired_lease_is_due_again_at_once_and_published(world: World) -> None:
    claim = world.running()
    world.expire(claim.id)
    assert world.pass_once() == Pass(expired=1, published=1)
    assert world.broker.take() == [claim.id]
    waiting = world.view(claim.id)
    assert (waiting.state, waiting.failures, waiting.error_code) == (State.RETRY, 1, "lease_expired")
    assert not world.beat(claim).alive
    assert world.claimed(claim.id).attempt == 2


def test_a_task_that_keeps_killing_its_workers_waits_longer_and_ends_as_a_failure(world: World) -> None:
    claim = world.running()
    world.change(claim.id, failures=1)
    world.expire(claim.id)
    before = world.now()
    assert world.pass_once() == Pass(expired=1)
    assert world.view(claim.id).run_at >= before + timedelta(seconds=2.5)
    world.make_due(claim.id)
    world.claimed(claim.id)
    world.expire(claim.id)
    assert world.pass_once() == Pass(failed=1)
    assert world.changed == [claim.id, claim.id], "Redis is told of every change, not of ends alone"
    assert world.view(claim.id).error_code == "lease_expired"


def test_a_cancel_nobody_noticed_is_finished_after_the_grace_and_fences_the_worker_out(world: World) -> None:
    claim = world.running()
    world.cancel(claim.id)
    assert world.pass_once() == Pass()
    with world.database.write() as session:
        assert not end_cancelled(session, claim.id, grace_seconds=600)
    world.change(claim.id, cancel_requested_at=db_now(-world.settings.task_cancel_grace_seconds - 1))
    assert world.pass_once() == Pass(revoked=1)
    assert world.changed == [claim.id]
    assert not world.finish(claim, {"lines": 1})
    assert world.view(claim.id).state is State.REVOKED


def test_a_cancelled_task_whose_lease_expires_is_revoked_without_waiting_for_the_grace(world: World) -> None:
    claim = world.running()
    world.cancel(claim.id)
    world.expire(claim.id)
    assert world.pass_once() == Pass(revoked=1)
    assert world.view(claim.id).failures == 0


def test_a_row_whose_message_may_still_be_in_the_broker_is_left_alone(world: World) -> None:
    task = world.submitted()
    world.lose_message(task, seconds=60)
    for later in (-2, 0, 4.9):  # up to the slack
        world.broker.oldest = world.row(task).published_at + timedelta(seconds=later)
        assert world.pass_once() == Pass()
    world.broker.oldest = world.row(task).published_at + timedelta(seconds=5.1)
    assert world.pass_once() == Pass(republished=1)


def test_a_row_older_than_the_oldest_message_is_published_again(world: World) -> None:
    task = world.submitted()
    world.lose_message(task, seconds=60)
    world.broker.oldest = world.now() - timedelta(seconds=50)
    assert world.pass_once() == Pass(republished=1)
    (hint,) = world.broker.given
    assert (hint.id, hint.name, hint.queue) == (task, "law.plain", "celery")
    assert hint.published_at > world.broker.oldest
    assert world.row(task).published_at == hint.published_at
    assert world.pass_once() == Pass()


def test_with_an_empty_broker_a_row_is_published_again_after_the_slack(world: World) -> None:
    task = world.submitted()
    world.lose_message(task, seconds=-60)
    assert world.pass_once() == Pass()
    world.lose_message(task, seconds=6)
    assert world.pass_once() == Pass(republished=1)


def test_a_foreign_message_without_a_stamp_holds_republishing_back_but_not_first_messages(world: World) -> None:
    old, new = world.submitted(), world.submitted()
    world.lose_message(old)
    world.change(new, published_at=None)
    world.broker.oldest = None
    assert world.pass_once() == Pass(published=1)
    assert world.broker.take() == [new]


@pytest.mark.parametrize(("sent", "seconds"), [(1, 5), (2, 10), (3, 20), (4, 40), (7, 300), (50, 300)])
def test_pauses_between_messages_for_one_row_double_up_to_five_minutes(world: World, sent: int, seconds: int) -> None:
    task = world.submitted()
    world.broker.oldest = world.now() + timedelta(hours=1)  # no message is left, so the pause alone decides
    world.change(task, publish_count=sent, published_at=db_now(0 if seconds == 5 else -seconds / 2))
    assert world.pass_once() == Pass()
    world.lose_message(task, seconds + 1)
    assert world.pass_once() == Pass(republished=1)
    assert world.view(task).publish_count == sent + 1


def test_a_row_offered_again_and_again_is_shown_as_one_that_no_worker_knows(world: World) -> None:
    task = world.submitted()
    for _ in range(4):
        assert not world.view(task).no_worker_knows_it
        world.lose_message(task)
        world.pass_once()
    assert world.view(task).no_worker_knows_it
    world.claimed(task)
    assert not world.view(task).no_worker_knows_it


def test_rows_never_published_are_published_oldest_first(world: World) -> None:
    ids = [world.submitted() for _ in range(3)]
    for age, task in enumerate(ids):
        world.change(task, published_at=None, publish_count=0, run_at=db_now(-100 + age))
    assert world.pass_once() == Pass(published=3)
    assert world.broker.take() == ids


def test_one_pass_takes_a_bounded_number_of_rows(world: World) -> None:
    with world.database.write() as session:
        for _ in range(BATCH + 20):
            store.submit(session, PLAIN, Work(), initiated_by="cli")
        session.execute(update(tasks).values(published_at=db_now(-100)))
    assert world.pass_once().republished == BATCH
    assert world.pass_once().republished == 20


def test_two_reconcilers_at_the_same_moment_send_one_message_a_row(world: World) -> None:
    ids = [world.submitted() for _ in range(30)]
    for task in ids:
        world.lose_message(task)
    others = [world.another_reconciler() for _ in range(3)]
    at_once(*[other.run_once for other in others])
    world.pass_once()
    assert sorted(world.broker.take()) == sorted(ids)


def test_two_reconcilers_at_the_same_moment_count_an_expired_lease_once(world: World) -> None:
    claims = [world.running() for _ in range(5)]
    for claim in claims:
        world.expire(claim.id)
    at_once(*[world.another_reconciler().run_once for _ in range(3)])
    assert [world.view(claim.id).failures for claim in claims] == [1] * 5


def test_a_worker_and_a_reconciler_at_the_same_moment_end_an_expired_task_once(world: World) -> None:
    for _ in range(5):
        claim = world.running(ONCE)
        world.expire(claim.id)
        ended, done = at_once(partial(world.finish, claim), world.pass_once)
        assert isinstance(done, Pass)
        assert bool(ended) != bool(done.failed)
        assert world.view(claim.id).state is (State.SUCCESS if ended else State.FAILURE)


def test_with_redis_away_leases_and_cancels_are_still_dealt_with_and_nothing_is_stamped(world: World) -> None:
    world.broker.away = True
    expired, cancelled = world.running(), world.running()
    world.expire(expired.id)
    world.cancel(cancelled.id)
    world.expire(cancelled.id)
    assert world.pass_once() == Pass(expired=1, revoked=1, broker_away=True)
    assert world.broker.take() == []
    assert world.view(expired.id).published_at is None
    world.broker.away = False
    assert world.pass_once() == Pass(published=1)
    assert world.broker.take() == [expired.id]


def test_a_full_redis_is_tried_with_one_row_a_queue_and_given_all_when_it_has_room(world: World) -> None:
    ids = [world.submitted() for _ in range(5)]
    for task in ids:
        world.lose_message(task)
    new = [world.submitted() for _ in range(5)]
    for task in new:
        world.change(task, published_at=None)
    world.broker.refusing = True
    for _ in range(2):
        assert world.pass_once() == Pass(published=1, republished=1)
    world.broker.take()
    world.broker.refusing = False
    assert world.pass_once() == Pass(published=3, republished=3)


def test_rows_are_stamped_and_committed_before_they_are_published(world: World) -> None:
    task = world.submitted()
    world.lose_message(task)
    seen = []

    class Look:
        refusing = False

        def publish(self, hints: object, /) -> None:
            # Another connection sees the stamp and can lock the row: nothing is held while Redis is told.
            with world.database.write() as session:
                assert store.get(session, task).publish_count == 2
                session.execute(update(tasks).where(tasks.c.id == task).values(worker="seen"))
            seen.append(hints)

    world.reconciler._publisher = Look()
    world.pass_once()
    assert len(seen) == 1


def test_a_released_task_whose_message_was_lost_is_published_again(world: World) -> None:
    claim = world.running()
    world.release(claim)
    world.lose_message(claim.id)
    assert world.pass_once() == Pass(republished=1)


def test_a_final_row_is_never_published(world: World) -> None:
    claim = world.running()
    world.finish(claim)
    world.lose_message(claim.id)
    assert world.pass_once() == Pass()
    with world.database.read() as session:
        assert store.hints(session, [claim.id]) == []


def test_hints_are_of_waiting_rows_in_the_order_of_their_stamps(world: World) -> None:
    first, second, running = world.submitted(), world.submitted(), world.running()
    world.lose_message(second)
    with world.database.read() as session:
        assert [hint.id for hint in store.hints(session, [running.id, first, second])] == [second, first]
        assert store.hints(session, []) == []


def test_a_row_that_cannot_be_dealt_with_does_not_stop_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = world.running(), world.running()
    world.expire(bad.id)
    world.expire(good.id)

    def locked_once(session: Session, task_id: str) -> store.Transition:
        if task_id == bad.id:
            raise OperationalError("UPDATE tasks", {}, Exception("canceling statement due to lock timeout"))
        return expire_lease(session, task_id)

    monkeypatch.setattr(reconcile, "expire_lease", locked_once)
    assert world.pass_once() == Pass(expired=1, published=1)
    assert [world.view(task.id).state for task in (bad, good)] == [State.STARTED, State.RETRY]


def test_leases_that_ended_while_the_database_was_away_may_be_renewed_first(world: World) -> None:
    alive, dead = world.running(), world.running()
    world.pass_once()
    world.passed += 60
    world.expire(alive.id)
    world.expire(dead.id)
    assert world.pass_once() == Pass()
    assert world.beat(alive).alive
    world.passed += world.settings.task_heartbeat_seconds
    assert world.pass_once() == Pass()
    world.passed += world.settings.task_heartbeat_seconds
    assert world.pass_once() == Pass(expired=1, published=1)
    assert [world.view(task.id).failures for task in (alive, dead)] == [0, 1]


def test_passes_that_are_always_late_take_the_tasks_of_dead_workers_all_the_same(world: World) -> None:
    claim = world.running()
    world.expire(claim.id)
    late = []
    for _ in range(2):
        world.passed += 60
        late.append(world.pass_once().expired)
    assert late == [0, 1]


def test_a_database_that_is_away_stops_the_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = world.running()
    world.expire(claim.id)

    def gone(_session: Session, _task_id: str) -> store.Transition:
        raise OperationalError("UPDATE tasks", {}, Exception("server closed"), connection_invalidated=True)

    monkeypatch.setattr(reconcile, "expire_lease", gone)
    with pytest.raises(OperationalError):
        world.pass_once()
