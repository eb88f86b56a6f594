"""A task is accepted when its row is committed; what a second request means is decided by unique indexes."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from core.tests.task_laws.world import BESIDE, EXCLUSIVE, FOLLOWED, PLAIN, Work, World, at_once

from sicargabox_core.errors import AlreadyRunning, IdempotencyMismatch, InvalidInput, NotFound
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import Payload, Queue, State, TaskSpec
from sicargabox_core.tasks.submission import PAYLOAD_BYTES, payload_hash


def test_an_accepted_task_is_a_pending_row_with_everything_that_was_asked(world: World) -> None:
    submission = world.submit(payload=Work(note="hola ñ", size=7), request_id="r-1")
    task = world.view(submission.task.id)
    assert submission.created
    assert task == submission.task
    assert (task.state, task.payload, task.initiated_by) == (State.PENDING, {"note": "hola ñ", "size": 7}, "user:ana")
    assert (task.request_id, task.queue, task.attempt, task.failures) == ("r-1", "celery", 0, 0)
    assert task.created_at.utcoffset() == timedelta(0)
    assert submission.due == (task.id,)


def test_a_rolled_back_submit_leaves_nothing(world: World) -> None:
    def accept_and_fail() -> None:
        with world.database.write() as session:
            store.submit(session, PLAIN, Work(), initiated_by="cli")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        accept_and_fail()
    assert world.count() == 0


def test_the_same_key_and_body_gives_the_same_task_even_after_it_ended(world: World) -> None:
    first = world.submit(idempotency_key="k")
    again = world.submit(idempotency_key="k")
    assert (again.task.id, again.created) == (first.task.id, False)
    world.finish(world.claimed(first.task.id))
    ended = world.submit(idempotency_key="k")
    assert (ended.task.id, ended.task.state, ended.due) == (first.task.id, State.SUCCESS, ())
    assert world.count() == 1


def test_the_same_key_with_another_body_is_refused(world: World) -> None:
    world.submit(idempotency_key="k", payload=Work(size=1))
    with pytest.raises(IdempotencyMismatch):
        world.submit(idempotency_key="k", payload=Work(size=2))
    assert world.count() == 1


def test_a_key_belongs_to_its_principal_and_task(world: World) -> None:
    world.submit(idempotency_key="k")
    assert world.submit(idempotency_key="k", by="user:bea").created
    assert world.submit(EXCLUSIVE, idempotency_key="k").created
    assert world.count() == 3


def test_two_requests_with_one_key_at_the_same_moment_make_one_row(world: World) -> None:
    answers = at_once(*[partial(world.submit, idempotency_key="k")] * 4)
    assert len({answer.task.id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert world.count() == 1


def test_a_new_field_with_a_default_does_not_change_what_a_body_means() -> None:
    class Before(Payload):
        codes: list[str]

    class After(Payload):
        codes: list[str]
        languages: tuple[str, ...] = ("es",)

    assert payload_hash(Before(codes=["01"])) == payload_hash(After(codes=["01"]))
    assert payload_hash(After(codes=["01"])) != payload_hash(After(codes=["01"], languages=("en",)))


@pytest.mark.parametrize("state", ["waiting", "running"])
def test_an_exclusive_task_asked_for_again_is_answered_by_the_unfinished_one(world: World, state: str) -> None:
    first = world.submitted(EXCLUSIVE)
    if state == "running":
        world.claimed(first)
    again = world.submit(EXCLUSIVE)
    assert (again.task.id, again.created, again.already_running, again.due) == (first, False, True, ())


def test_an_exclusive_task_with_another_payload_is_refused_naming_the_unfinished_one(world: World) -> None:
    first = world.submitted(EXCLUSIVE)
    with pytest.raises(AlreadyRunning) as refusal:
        world.submit(EXCLUSIVE, payload=Work(size=2))
    assert refusal.value.task_id == first


@pytest.mark.parametrize("end", ["finish", "fail", "revoke"])
def test_an_exclusive_key_is_free_again_after_any_end(world: World, end: str) -> None:
    claim = world.running(EXCLUSIVE)
    assert getattr(world, end)(claim)
    assert world.submit(EXCLUSIVE, payload=Work(size=2)).created


def test_exclusive_requests_at_the_same_moment_make_one_row(world: World) -> None:
    answers = at_once(*[partial(world.submit, EXCLUSIVE)] * 4)
    assert sum(answer.created for answer in answers) == 1
    assert {answer.already_running for answer in answers} == {True, False}
    assert world.count() == 1


def test_data_changed_under_a_running_task_makes_exactly_one_follow_up_that_waits_for_it(world: World) -> None:
    world.bump()
    running = world.running(FOLLOWED)
    assert world.submit(FOLLOWED).already_running
    world.bump()
    follow_up = world.submit(FOLLOWED)
    assert (follow_up.created, follow_up.follow_up, follow_up.due) == (True, True, ())
    assert follow_up.task.waits_for == running.id
    again = world.submit(FOLLOWED)
    assert (again.created, again.follow_up, again.task.id) == (False, True, follow_up.task.id)
    assert world.claim(follow_up.task.id) is None
    world.pass_once()
    assert world.broker.take() == []
    assert world.count() == 2


@pytest.mark.parametrize("end", ["finish", "fail", "revoke", "expired", "cancelled"])
def test_a_follow_up_is_due_with_its_predecessors_end_whoever_makes_it(world: World, end: str) -> None:
    running = world.running(FOLLOWED)
    world.bump()
    follow_up = world.submit(FOLLOWED).task.id
    if end == "expired":
        world.change(running.id, failures=FOLLOWED.max_attempts - 1)
        world.expire(running.id)
        assert world.pass_once().failed == 1
        assert world.broker.take() == [follow_up]
    elif end == "cancelled":
        world.cancel(running.id)
        world.change(running.id, cancel_requested_at=world.now() - timedelta(hours=1))
        assert world.pass_once().revoked == 1
        assert world.broker.take() == [follow_up]
    else:
        assert getattr(world, end)(running).due == (follow_up,)
    released = world.view(follow_up)
    assert (released.waits_for, released.exclusive_key) == (None, "law.followed")
    assert world.submit(FOLLOWED).task.id == follow_up
    assert world.claim(follow_up) is not None


def test_a_follow_up_is_not_released_by_a_retry_of_its_predecessor(world: World) -> None:
    running = world.running(FOLLOWED)
    world.bump()
    follow_up = world.submitted(FOLLOWED)
    world.retry_later(running)
    assert world.view(follow_up).waits_for == running.id
    assert world.submit(FOLLOWED).task.id == running.id


def test_no_follow_up_for_a_task_that_has_not_begun(world: World) -> None:
    first = world.submitted(FOLLOWED)
    world.bump()
    assert world.submit(FOLLOWED).task.id == first
    assert world.count() == 1


@pytest.mark.parametrize("end", ["finish", "cancelled while it waits"])
def test_what_may_follow_begins_when_another_kind_under_its_key_ends(world: World, end: str) -> None:
    other = world.submitted(BESIDE)
    follow_up = world.submit(FOLLOWED)
    assert (follow_up.created, follow_up.follow_up, follow_up.due) == (True, True, ())
    again = world.submit(FOLLOWED)
    assert (again.created, again.already_running, again.task.id) == (False, True, follow_up.task.id)
    assert world.claim(follow_up.task.id) is None
    if end == "finish":
        assert world.finish(world.claimed(other)).due == (follow_up.task.id,)
    else:
        assert world.cancel(other).due == (follow_up.task.id,)
    assert world.view(follow_up.task.id).exclusive_key == "law.followed"
    assert world.claim(follow_up.task.id) is not None


def test_another_kind_under_the_same_key_that_may_not_follow_is_refused(world: World) -> None:
    standing = world.submitted(FOLLOWED)
    with pytest.raises(AlreadyRunning, match=r"law\.followed is PENDING") as refusal:
        world.submit(BESIDE)
    assert refusal.value.task_id == standing
    assert world.count() == 1


def test_a_new_attempt_has_seen_the_newest_data(world: World) -> None:
    first = world.running(FOLLOWED)
    world.bump()
    world.release(first)
    world.claimed(first.id)
    assert world.submit(FOLLOWED).task.id == first.id


def test_a_follow_up_asked_for_in_the_moment_of_the_end_is_never_left_waiting(world: World) -> None:
    for _ in range(10):
        running = world.running(FOLLOWED)
        world.bump()
        submission, ended = at_once(partial(world.submit, FOLLOWED), partial(world.finish, running))
        assert isinstance(submission, store.Submission)
        assert ended
        follow_up = world.view(submission.task.id)
        assert (follow_up.state, follow_up.waits_for) == (State.PENDING, None)
        world.finish(world.claimed(follow_up.id))


def test_a_delayed_task_is_not_offered_before_it_is_due(world: World) -> None:
    delayed = world.submit(run_at=world.now() + timedelta(hours=1))
    assert delayed.due == ()
    assert world.pass_once().published == 0
    assert world.claim(delayed.task.id) is None
    world.make_due(delayed.task.id)
    assert world.pass_once().published == 1
    assert world.claim(delayed.task.id) is not None


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"idempotency_key": "k" * 201}, "Idempotency-Key"),
        ({"idempotency_key": ""}, "Idempotency-Key"),
        ({"by": "u" * 101}, "initiated_by"),
        ({"request_id": "r" * 65}, "X-Request-ID"),
        ({"payload": Work(note="a\x00b")}, "payload"),
        ({"payload": Work(note="a" * PAYLOAD_BYTES)}, "payload"),
    ],
)
def test_what_one_database_could_not_keep_both_refuse(world: World, more: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        world.submit(**more)  # type: ignore[arg-type]  # wrong on purpose
    assert refusal.value.field == field
    assert world.count() == 0


def test_a_backslash_before_u0000_is_just_text(world: World) -> None:
    assert world.view(world.submitted(payload=Work(note="\\u0000"))).payload["note"] == "\\u0000"


def test_an_exclusive_child_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be a child"):
        store.Child(EXCLUSIVE, Work())


def test_an_unknown_id_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        world.view("01a20795-9feb-7767-98b4-e63910cf95f5")


def test_ids_sort_by_the_time_of_acceptance(world: World) -> None:
    ids = [world.submitted() for _ in range(20)]
    assert ids == sorted(ids)


def test_an_overlong_exclusive_key_is_refused(world: World) -> None:
    long = TaskSpec(
        name="law.long", queue=Queue.CELERY, payload=Work, result=Work, title="", exclusive=lambda _: "x" * 200
    )
    with pytest.raises(InvalidInput):
        world.submit(long)
