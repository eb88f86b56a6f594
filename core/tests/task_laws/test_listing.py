"""Lists are pages by time of acceptance; retention takes away what ended long ago."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from core.tests.task_laws.world import EXCLUSIVE, PLAIN, Work, World, at_once
from sqlalchemy import update

from sicargabox_core.db import db_now
from sicargabox_core.errors import InvalidInput, NotFound
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import State
from sicargabox_core.tasks.rows import tasks


def listed(world: World, **filters: Any) -> list[str]:
    with world.database.read() as session:
        return [task.id for task in store.list_tasks(session, **filters).items]


def test_pages_hold_every_task_once_newest_first_even_when_many_share_a_moment(world: World) -> None:
    with world.database.write() as session:
        ids = [store.submit(session, PLAIN, Work(), initiated_by="cli").task.id for _ in range(23)]
        session.execute(update(tasks).values(created_at=world.now()))
    seen: list[str] = []
    before = None
    while True:
        with world.database.read() as session:
            page = store.list_tasks(session, limit=5, before=before)
        seen += [task.id for task in page.items]
        before = page.next_cursor
        if before is None:
            break
    assert seen == sorted(ids, reverse=True)


def test_tasks_accepted_while_one_pages_do_not_shift_the_pages(world: World) -> None:
    ids = [world.submitted() for _ in range(4)]
    with world.database.read() as session:
        first = store.list_tasks(session, limit=2)
    world.submitted()
    with world.database.read() as session:
        second = store.list_tasks(session, limit=2, before=first.next_cursor)
    assert [task.id for task in (*first.items, *second.items)] == ids[::-1]


def test_each_filter_narrows_the_list(world: World) -> None:
    plain = world.submitted()
    exclusive = world.submitted(EXCLUSIVE, by="user:bea")
    running = world.running()
    parent, (child,) = world.parent(1)
    assert listed(world, states=["PENDING"]) == [child, exclusive, plain]
    assert listed(world, states=[State.STARTED]) == [parent, running.id]
    assert listed(world, states=["PROGRESS"]) == [parent]
    assert listed(world, states=["PROGRESS", "SUCCESS", "PENDING"]) == [child, parent, exclusive, plain]
    assert listed(world, names=["law.exclusive"]) == [exclusive]
    assert listed(world, queues=["learning"]) == [exclusive]
    assert listed(world, initiated_by="user:bea") == [exclusive]
    assert listed(world, parent_id=parent) == [child]
    assert listed(world, id_prefix=plain) == [plain]
    assert listed(world, id_prefix=child[:11].upper()) == [child]
    assert listed(world, since=world.now() + timedelta(hours=1)) == []
    assert len(listed(world, until=world.now() + timedelta(hours=1))) == 5
    world.change(plain, created_at=db_now(-3600))
    assert listed(world, until=world.now() - timedelta(minutes=30)) == [plain]


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"before": "nonsense"}, "before"),
        ({"before": "bm9uc2Vuc2U="}, "before"),
        ({"before": "ñ"}, "before"),
        ({"states": ["DONE"]}, "state"),
        ({"limit": 0}, "limit"),
        ({"limit": 501}, "limit"),
        ({"id_prefix": "01a2%"}, "id_prefix"),
        ({"id_prefix": "0" * 37}, "id_prefix"),
        ({"names": ["a\x00b"]}, "name"),
        ({"initiated_by": "a\x00b"}, "initiated_by"),
    ],
)
def test_a_wrong_filter_names_its_field(world: World, filters: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        listed(world, **filters)
    assert refusal.value.field == field


@pytest.mark.parametrize("text", ["", "x", "a\x00b", "01a20795-9feb-7767-98b4-e63910cf95f", "'; --"])
def test_a_text_that_is_no_id_is_not_found(world: World, text: str) -> None:
    for ask in (world.view, world.cancel, world.repeat):
        with pytest.raises(NotFound):
            ask(text)


def test_retention_deletes_what_ended_long_ago_and_nothing_else(world: World) -> None:
    old, young, unfinished = world.running(), world.running(), world.running()
    world.finish(old)
    world.finish(young)
    world.change(old.id, finished_at=db_now(-91 * 86400))
    world.change(young.id, finished_at=db_now(-89 * 86400))
    world.change(unfinished.id, created_at=db_now(-400 * 86400))
    assert store.delete_finished(world.database, older_than_days=90) == 1
    assert set(listed(world)) == {young.id, unfinished.id}


def test_children_go_with_their_parent_and_not_before(world: World) -> None:
    parent, children = world.parent(3)
    for child in children:
        world.finish(world.claimed(child))
        world.change(child, finished_at=db_now(-100 * 86400))
    assert store.delete_finished(world.database, older_than_days=90) == 0
    world.change(parent, finished_at=db_now(-100 * 86400))
    assert store.delete_finished(world.database, older_than_days=90) == 4
    assert world.count() == 0


def test_retention_works_in_batches_until_nothing_is_left(world: World) -> None:
    for _ in range(7):
        world.finish(world.running())
    with world.database.write() as session:
        session.execute(update(tasks).values(finished_at=db_now(-100 * 86400)))
    assert store.delete_finished(world.database, older_than_days=90, batch=3) == 7
    assert world.count() == 0


def test_retention_takes_parents_with_many_children_in_several_batches(world: World) -> None:
    for _ in range(3):
        _parent, children = world.parent(3)
        for child in children:
            world.finish(world.claimed(child))
    unfinished = world.submitted()
    with world.database.write() as session:
        session.execute(update(tasks).where(tasks.c.id != unfinished).values(finished_at=db_now(-100 * 86400)))
    seen = []
    deleted = store.delete_finished(
        world.database, older_than_days=90, batch=5, between=lambda: seen.append(world.count())
    )
    assert deleted == 12
    assert seen[:2] == [9, 5]
    assert listed(world) == [unfinished]


def test_two_that_delete_at_once_delete_everything_once(world: World) -> None:
    for _ in range(40):
        world.finish(world.running())
    with world.database.write() as session:
        session.execute(update(tasks).values(finished_at=db_now(-100 * 86400)))

    def delete() -> int:
        return store.delete_finished(world.database, older_than_days=90, batch=3)

    assert sum(at_once(delete, delete)) + delete() == 40
    assert world.count() == 0
