"""What failed and nobody repeated: listed, counted, and repeated once each, singly or in bulk."""

from __future__ import annotations

from typing import Any

from core.tests.task_laws.world import EXCLUSIVE, KNOWN, ONCE, PLAIN, Work, World, at_once
from sqlalchemy import select

from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import State, TaskSpec
from sicargabox_core.tasks.rows import tasks


def failed(world: World, spec: TaskSpec[Any, Any] = PLAIN, **more: Any) -> str:
    claim = world.running(spec, **more)
    world.fail(claim)
    return claim.id


def dead(world: World, **conditions: Any) -> list[str]:
    with world.database.read() as session:
        return [task.id for task in store.list_tasks(session, dead=True, **conditions).items]


def repeat(world: World, *ids: str, **more: Any) -> store.Repetitions:
    return store.retry_dead(world.database, ids, by="user:bea", known=KNOWN, **more)


def test_a_dead_letter_is_a_task_that_failed_and_that_nobody_repeated(world: World) -> None:
    world.finish(world.running())
    running = world.running().id
    first, second = failed(world), failed(world)
    assert dead(world) == [second, first]
    world.repeat(first)
    assert dead(world) == [second]
    assert running not in dead(world)


def test_a_repeat_that_fails_is_the_dead_letter_in_the_place_of_the_first(world: World) -> None:
    first = failed(world)
    again = repeat(world, first).repeated[first].task.id
    assert dead(world) == []
    claim = world.claimed(again)
    world.fail(claim)
    assert dead(world) == [again]


def test_a_dead_letter_is_repeated_in_bulk_once(world: World) -> None:
    ids = [failed(world), failed(world)]
    once = repeat(world, *ids, *ids, request_id="request-7")
    assert set(once.repeated) == set(ids)
    assert [world.row(one.task.id).request_id for one in once.repeated.values()] == ["request-7"] * 2
    for submission in once.repeated.values():
        assert submission.due == (submission.task.id,)
        world.finish(world.claimed(submission.task.id))
    # Not even after the repeat has ended, as a person's own repeat of one task would.
    again = repeat(world, *ids)
    assert again.repeated == {}
    assert [(one.id, one.code) for one in again.skipped] == [(one, "already_repeated") for one in ids]
    with world.database.read() as session:
        assert len(session.scalars(select(tasks.c.id).where(tasks.c.retried_from.in_(ids))).all()) == 2


def test_two_bulk_repeats_at_once_make_one_task_each(world: World) -> None:
    ids = [failed(world) for _ in range(5)]
    outcomes = at_once(*[lambda: repeat(world, *ids)] * 4)
    made = [one.task.id for outcome in outcomes for one in outcome.repeated.values()]
    assert len(made) == len(set(made)) == 5
    assert dead(world) == []


def test_what_is_not_a_dead_letter_is_left_and_named(world: World) -> None:
    done = world.running()
    world.finish(done)
    waiting = world.submitted()
    nobody = "00000000-0000-0000-0000-000000000000"
    outcome = repeat(world, done.id, waiting, nobody, "no id")
    assert [one.code for one in outcome.skipped] == ["not_failed", "not_failed", "not_found", "not_found"]
    assert outcome.repeated == {}


def test_an_exclusive_task_that_runs_keeps_its_dead_letter_and_stops_no_other(world: World) -> None:
    blocked = failed(world, EXCLUSIVE)
    other = failed(world, EXCLUSIVE, payload=Work(note="other"))
    free = failed(world)
    running = world.submitted(EXCLUSIVE)
    outcome = repeat(world, blocked, other, free)
    assert set(outcome.repeated) == {free}
    assert [(one.id, one.code, one.task_id) for one in outcome.skipped] == [
        (blocked, "already_running", running),
        (other, "already_running", running),
    ]
    assert dead(world) == [other, blocked]


def test_a_failed_part_is_its_parents_matter(world: World) -> None:
    parent, (good, bad) = world.parent(2)
    world.finish(world.claimed(good))
    world.fail(world.claimed(bad))
    assert dead(world) == [parent]
    assert [one.code for one in repeat(world, bad).skipped] == ["part"]
    again = repeat(world, parent, request_id="request-8").repeated[parent]
    assert again.task.children_total == 1
    assert [world.row(part).request_id for part in again.due] == ["request-8"]
    assert dead(world) == []


def test_what_the_caller_may_not_start_is_left_to_others(world: World) -> None:
    one = failed(world)
    assert [skipped.code for skipped in repeat(world, one, allowed=lambda _task: False).skipped] == ["forbidden"]
    assert dead(world) == [one]


def test_dead_letters_are_found_by_their_error_and_counted_by_task(world: World) -> None:
    one = failed(world)
    claim = world.running(ONCE)
    world.fail(claim, code="other_code")
    assert dead(world, error_codes=["other_code"]) == [claim.id]
    assert one in dead(world)
    with world.database.read() as session:
        assert store.dead_letters_by_task(session) == {PLAIN.name: 1, ONCE.name: 1}
    assert world.row(claim.id).state == State.FAILURE
