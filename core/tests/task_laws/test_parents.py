"""A parent hands out children and holds no worker meanwhile; the last child's end completes it, whoever makes it."""

from __future__ import annotations

from functools import partial
from uuid import UUID, uuid5

import pytest
from core.tests.task_laws.world import EXCLUSIVE, FOLLOWED, ONCE, PLAIN, Work, World, at_once
from sqlalchemy import event

from sicargabox_core.errors import AlreadyRunning, Conflict, DataFault, NotFound
from sicargabox_core.tasks import cancellation, store
from sicargabox_core.tasks.contracts import State
from sicargabox_core.tasks.parents import PUBLISHED_AT_ONCE


def test_children_are_rows_of_the_parents_own_ids_and_principal(world: World) -> None:
    parent, children = world.parent(3)
    assert children == [str(uuid5(UUID(parent), str(n))) for n in range(3)]
    first = world.view(children[0])
    assert (first.parent_id, first.initiated_by, first.state, first.payload["size"]) == (
        parent,
        "user:ana",
        State.PENDING,
        0,
    )


def test_a_waiting_parent_is_started_without_a_lease_and_nobody_can_take_it(world: World) -> None:
    parent, _ = world.parent(3)
    waiting = world.view(parent)
    assert (waiting.state, waiting.shown_state, waiting.lease_until) == (State.STARTED, "PROGRESS", None)
    assert (waiting.children_open, waiting.children_total, waiting.children_failed) == (3, 3, 0)
    assert waiting.result is None
    assert world.claim(parent) is None
    assert world.pass_once().expired == 0


def test_the_last_child_completes_the_parent_with_the_sum_of_the_numbers(world: World) -> None:
    parent, children = world.parent(3, own=100)
    for number, child in enumerate(children):
        ended = world.finish(world.claimed(child), {"lines": 10**number, "word": "child", "else": 5})
        assert (parent in ended.final) == (number == 2)
    done = world.view(parent)
    assert (done.state, done.result) == (State.SUCCESS, {"lines": 211, "word": "own"})
    assert (done.children_open, done.progress_current, done.progress_total) == (0, 3, 3)


def test_children_that_end_at_the_same_moment_complete_the_parent_once(world: World) -> None:
    for _ in range(3):
        parent, children = world.parent(4)
        claims = [world.claimed(child) for child in children]
        endings = at_once(*[partial(world.finish, claim, {"lines": 1}) for claim in claims])
        assert sum(parent in ended.final for ended in endings) == 1
        done = world.view(parent)
        assert (done.state, done.result, done.children_open) == (State.SUCCESS, {"lines": 4, "word": "own"}, 0)


def test_a_failed_child_fails_the_parent_with_counts_when_all_have_ended(world: World) -> None:
    parent, children = world.parent(3)
    world.fail(world.claimed(children[0]))
    assert world.view(parent).state is State.STARTED
    world.finish(world.claimed(children[1]), {"lines": 5})
    world.cancel(children[2])
    failed = world.view(parent)
    assert (failed.state, failed.error_code, failed.children_failed) == (State.FAILURE, "children_failed", 2)
    assert failed.error_message == "Of 3 parts 1 failed and 1 were cancelled."
    assert failed.result == {"lines": 5, "word": "own"}


def test_a_child_that_will_be_tried_again_counts_nothing_down(world: World) -> None:
    parent, children = world.parent(1)
    world.retry_later(world.claimed(children[0]))
    world.make_due(children[0])
    world.release(world.claimed(children[0]))
    assert world.view(parent).children_open == 1


@pytest.mark.parametrize("how", ["lease", "payload", "cancel"])
def test_a_child_ended_by_others_counts_down_too(world: World, how: str) -> None:
    claim = world.running()
    child = world.finish(claim, {}, [store.Child(ONCE, Work())]).due[0]
    if how == "lease":
        world.claimed(child)
        world.expire(child)
        assert world.pass_once().failed == 1
        assert world.changed == [child, claim.id]
    elif how == "payload":
        world.change(child, payload={"size": "many"})
        assert world.claim(child) is None
    else:
        assert world.cancel(child).final == (child, claim.id)
    assert world.view(claim.id).state is State.FAILURE


def test_progress_of_a_parent_is_the_sum_of_its_childrens(world: World) -> None:
    claim = world.running()
    handed = world.finish(claim, {}, [store.Child(PLAIN, Work(), size=size) for size in (10, 20, 30)])
    first, second, _ = handed.due
    world.beat(world.claimed(first), store.Progress(4))
    world.beat(world.claimed(second), store.Progress(20, 20))
    shown = world.view(claim.id)
    assert (shown.progress_current, shown.progress_total) == (24, 60)
    with world.database.read() as session:
        listed = store.list_tasks(session, states=["PROGRESS"]).items
    assert {task.id for task in listed} == {claim.id, first, second}
    assert next(task for task in listed if task.id == claim.id) == shown


def test_children_of_unknown_size_are_counted(world: World) -> None:
    parent, children = world.parent(4)
    world.finish(world.claimed(children[0]))
    shown = world.view(parent)
    assert (shown.progress_current, shown.progress_total) == (1, 4)


def test_a_child_may_be_a_parent_itself(world: World) -> None:
    top, children = world.parent(1, own=1)
    middle = world.finish(world.claimed(children[0]), {"lines": 10}, [store.Child(PLAIN, Work())])
    ended = world.finish(world.claimed(middle.due[0]), {"lines": 100})
    assert ended.final == (middle.due[0], children[0], top)
    assert world.view(top).result == {"lines": 111, "word": "own"}


def test_the_end_of_an_exclusive_parent_releases_its_follow_up(world: World) -> None:
    claim = world.running(FOLLOWED)
    handed = world.finish(claim, {}, [store.Child(PLAIN, Work())])
    world.bump()
    follow_up = world.submit(FOLLOWED)
    assert follow_up.follow_up
    ended = world.finish(world.claimed(handed.due[0]))
    assert ended.due == (follow_up.task.id,)


def test_many_children_are_offered_by_and_by(world: World) -> None:
    world.broker.oldest = None
    total = PUBLISHED_AT_ONCE + 700
    _, offered = world.parent(total)
    assert len(offered) == PUBLISHED_AT_ONCE
    world.pass_once()
    assert len(world.broker.take()) == 500
    world.pass_once()
    assert len(world.broker.take()) == 200


# --- cancel ----------------------------------------------------------------------------------------------------------
def test_cancelling_a_waiting_task_revokes_it_at_once(world: World) -> None:
    task = world.submitted()
    outcome = world.cancel(task)
    assert (outcome.state, outcome.revoked, outcome.requested) == (State.REVOKED, True, False)
    gone = world.view(task)
    assert (gone.state, gone.error_code, gone.error_message) == (State.REVOKED, "cancelled", "Cancelled by user:bea.")
    assert world.claim(task) is None


def test_cancelling_a_running_task_asks_it_to_stop(world: World) -> None:
    claim = world.running()
    outcome = world.cancel(claim.id)
    assert (outcome.state, outcome.revoked, outcome.requested) == (State.STARTED, False, True)
    assert world.beat(claim) == store.Beat(alive=True, cancel_requested=True)
    assert world.revoke(claim)
    assert world.view(claim.id).error_message == "Cancelled by user:bea."


def test_a_success_committed_first_wins_and_the_answer_says_so(world: World) -> None:
    claim = world.running()
    world.cancel(claim.id)
    assert world.finish(claim, {"lines": 1})
    outcome = world.cancel(claim.id)
    assert (outcome.state, outcome.revoked, outcome.requested) == (State.SUCCESS, False, False)
    done = world.view(claim.id)
    assert (done.state, done.result, done.error_code) == (State.SUCCESS, {"lines": 1}, None)


def test_a_task_asked_to_stop_neither_retries_nor_goes_back_to_the_queue(world: World) -> None:
    for write in (world.retry_later, world.release):
        claim = world.running()
        world.cancel(claim.id)
        assert write(claim).state is State.REVOKED


def test_cancel_and_success_at_the_same_moment_agree_with_the_row(world: World) -> None:
    for _ in range(5):
        claim = world.running()
        outcome, ended = at_once(partial(world.cancel, claim.id), partial(world.finish, claim))
        assert ended
        assert isinstance(outcome, store.CancelOutcome)
        assert outcome.state is (State.STARTED if outcome.requested else State.SUCCESS)
        assert world.view(claim.id).state is State.SUCCESS


def test_cancel_and_claim_at_the_same_moment_never_run_a_revoked_task(world: World) -> None:
    for _ in range(10):
        task = world.submitted()
        outcome, claim = at_once(partial(world.cancel, task), partial(world.claim, task))
        assert isinstance(outcome, store.CancelOutcome)
        assert outcome.revoked == (claim is None)
        assert world.view(task).state is (State.REVOKED if claim is None else State.STARTED)


def test_cancelling_a_parent_cancels_its_children_and_ends_with_the_last(world: World) -> None:
    parent, children = world.parent(3)
    running = world.claimed(children[0])
    outcome = world.cancel(parent)
    assert (outcome.requested, outcome.state) == (True, State.STARTED)
    assert [world.view(child).state for child in children] == [State.STARTED, State.REVOKED, State.REVOKED]
    assert world.beat(running).cancel_requested
    assert world.revoke(running).final == (children[0], parent)
    assert world.view(parent).state is State.REVOKED


def test_cancelling_a_parent_of_waiting_children_revokes_it_at_once(world: World) -> None:
    parent, children = world.parent(2)
    outcome = world.cancel(parent)
    assert (outcome.revoked, outcome.state, outcome.final) == (True, State.REVOKED, (*children, parent))


def test_a_parent_whose_children_all_succeeded_in_spite_of_the_cancel_is_a_success(world: World) -> None:
    parent, children = world.parent(2)
    claims = [world.claimed(child) for child in children]
    world.cancel(parent)
    for claim in claims:
        world.finish(claim, {"lines": 1})
    assert world.view(parent).state is State.SUCCESS


def test_a_cancelled_parent_ends_its_waiting_children_in_few_transactions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One by one, three thousand children took 12 s of a request, and of the reconciler that looks after leases.
    monkeypatch.setattr(cancellation, "CHILDREN_AT_ONCE", 4)
    parent, children = world.parent(11)
    running = [world.claimed(child) for child in children[:2]]
    commits: list[object] = []
    event.listen(world.database.engine, "commit", commits.append)
    outcome = world.cancel(parent)
    assert len(commits) == 7  # the parent, three of the waiting children, one that found none, two that run
    assert sorted(outcome.final) == sorted(children[2:])
    assert [world.view(child).state for child in children[2:]] == [State.REVOKED] * 9
    assert world.view(parent).children_open == 2
    assert world.view(parent).children_failed == 9
    for claim in running:
        world.revoke(claim)
    assert world.view(parent).state is State.REVOKED


def test_a_child_claimed_in_the_moment_of_the_cancel_is_asked_to_stop(world: World) -> None:
    for _ in range(5):
        parent, children = world.parent(3)
        outcome, claim = at_once(partial(world.cancel, parent), partial(world.claim, children[1]))
        world.pass_once()
        if claim is not None:
            assert isinstance(claim, store.Claim)
            assert world.beat(claim).cancel_requested
            world.revoke(claim)
        assert world.view(parent).state is State.REVOKED, outcome


def test_children_handed_out_after_the_cancel_are_revoked_before_any_runs(world: World) -> None:
    claim = world.running()
    world.cancel(claim.id)
    handed = world.finish(claim, {}, [store.Child(PLAIN, Work())] * 2)
    assert handed.due == ()
    world.pass_once()
    assert world.broker.take() == []
    assert world.view(claim.id).state is State.REVOKED
    assert len(world.changed) == 3


def test_an_unknown_task_cannot_be_cancelled(world: World) -> None:
    with pytest.raises(NotFound):
        world.cancel("01a20795-9feb-7767-98b4-e63910cf95f5")


def test_celerys_revoke_ends_a_task_in_any_unfinished_state(world: World) -> None:
    waiting, running = world.submitted(), world.running()
    parent, children = world.parent(1)
    with world.database.write() as session:
        assert store.revoke(session, waiting, by="flower")
        assert store.revoke(session, running.id, by="flower")
        assert not store.revoke(session, parent, by="flower")
    assert world.view(waiting).state is State.REVOKED
    assert not world.finish(running)
    assert world.view(parent).cancel_requested_at is not None
    world.pass_once()
    assert [world.view(task).state for task in (parent, *children)] == [State.REVOKED] * 2


# --- again -----------------------------------------------------------------------------------------------------------
def test_repeating_makes_a_new_row_and_leaves_the_old_one_alone(world: World) -> None:
    claim = world.running(payload=Work(size=4))
    world.fail(claim)
    before = world.row(claim.id)
    again = world.repeat(claim.id)
    assert again.created
    assert again.due == (again.task.id,)
    assert (again.task.retried_from, again.task.initiated_by) == (claim.id, "user:bea")
    assert again.task.payload == {"note": "", "size": 4}
    assert (again.task.failures, again.task.attempt) == (0, 0)
    assert world.row(claim.id) == before


def test_an_unfinished_task_cannot_be_repeated(world: World) -> None:
    for task in (world.submitted(), world.running().id):
        with pytest.raises(Conflict):
            world.repeat(task)


def test_two_clicks_at_the_same_moment_repeat_once(world: World) -> None:
    claim = world.running()
    world.fail(claim)
    answers = at_once(*[partial(world.repeat, claim.id)] * 3)
    assert len({answer.task.id for answer in answers}) == 1
    assert world.count() == 2
    world.fail(world.claimed(answers[0].task.id))
    assert world.repeat(claim.id).created


def test_repeating_an_exclusive_task_meets_the_same_rules_as_starting_it(world: World) -> None:
    ended = world.running(EXCLUSIVE)
    world.finish(ended)
    unfinished = world.submitted(EXCLUSIVE)
    assert world.repeat(ended.id).task.id == unfinished
    world.cancel(unfinished)
    other = world.submitted(EXCLUSIVE, payload=Work(size=2))
    with pytest.raises(AlreadyRunning) as refusal:
        world.repeat(ended.id)
    assert refusal.value.task_id == other


def test_repeating_a_parent_runs_only_its_failed_children_and_keeps_the_others_numbers(world: World) -> None:
    parent, children = world.parent(3, own=1000)
    world.finish(world.claimed(children[0]), {"lines": 1})
    world.fail(world.claimed(children[1]))
    world.cancel(children[2])
    again = world.repeat(parent)
    assert (again.created, again.task.children_total, again.task.shown_state) == (True, 2, "PROGRESS")
    assert world.claim(again.task.id) is None
    assert again.due == tuple(str(uuid5(UUID(again.task.id), str(n))) for n in range(2))
    rerun = [world.view(child) for child in again.due]
    assert sorted((task.payload["size"], task.retried_from) for task in rerun) == [(1, children[1]), (2, children[2])]
    for number, child in enumerate(again.due):
        world.finish(world.claimed(child), {"lines": 10 * 10**number})
    done = world.view(again.task.id)
    assert (done.state, done.result) == (State.SUCCESS, {"lines": 1111, "word": "own"})


def test_a_repeated_parent_never_waits_behind_the_one_that_runs(world: World) -> None:
    # Its children would run at once beside those of the other, and nothing would ever take its place in the queue.
    parent = world.running(FOLLOWED)
    child = world.finish(parent, {"lines": 1}, [store.Child(PLAIN, Work())]).due[0]
    world.fail(world.claimed(child))
    running = world.running(FOLLOWED)
    world.bump()
    again = world.repeat(parent.id)
    assert (again.task.id, again.created, again.already_running) == (running.id, False, True)


def test_what_cannot_be_repeated_says_why(world: World) -> None:
    with pytest.raises(NotFound):
        world.repeat("01a20795-9feb-7767-98b4-e63910cf95f5")
    claim = world.running()
    world.fail(claim)
    with pytest.raises(Conflict, match="does not know"):
        store.retry(world.database, claim.id, by="user:bea", known={})
    world.change(claim.id, payload={"size": "many"})
    with pytest.raises(DataFault):
        world.repeat(claim.id)
