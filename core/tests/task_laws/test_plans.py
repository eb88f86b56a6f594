"""No statement of the protocol reads the history: each finds its rows by an index, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from core.tests.task_laws.world import EXCLUSIVE, FOLLOWED, KNOWN, PLAIN, Work, World
from sqlalchemy import event, insert, text, update

from sicargabox_core.db import db_now
from sicargabox_core.tasks import reconcile, store
from sicargabox_core.tasks.contracts import State
from sicargabox_core.tasks.rows import tasks

HISTORY = 5000
BACKLOG = 2000


@pytest.fixture
def old_world(world: World) -> World:
    """A world with a history and a backlog of published tasks, and a planner that knows it."""
    claim = world.running()
    world.finish(claim, {"lines": 1})
    row = dict(world.row(claim.id)._mapping)
    waiting = row | {"state": State.PENDING, "finished_at": None, "published_at": world.now() + timedelta(days=1)}
    with world.database.write() as session:
        rows = [row | {"id": f"{number:08d}-0000-0000-0000-000000000000"} for number in range(HISTORY)]
        rows += [waiting | {"id": f"{number:08d}-1111-0000-0000-000000000000"} for number in range(BACKLOG)]
        session.execute(insert(tasks), rows)
    with world.database.write() as session:
        session.execute(text("ANALYZE"))
    return world


@contextmanager
def plans(world: World) -> Iterator[list[str]]:
    """The plans of all statements on ``tasks`` executed in the block; filled when it ends."""
    executed: list[tuple[str, Any]] = []

    def listen(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if "tasks" in statement and not many and not statement.startswith("INSERT"):
            executed.append((statement, parameters))

    found: list[str] = []
    event.listen(world.database.engine, "before_cursor_execute", listen)
    try:
        yield found
    finally:
        event.remove(world.database.engine, "before_cursor_execute", listen)
    explain = "EXPLAIN QUERY PLAN " if world.database.is_sqlite else "EXPLAIN "
    with world.database.engine.connect() as connection:
        for statement, parameters in executed:
            lines = connection.exec_driver_sql(explain + statement, parameters)
            found.append(statement + "\n--\n" + "\n".join(str(line[-1]) for line in lines))


def reads_everything(plan: str) -> bool:
    plan = plan.rpartition("\n--\n")[2]
    return "Seq Scan on tasks" in plan or any(
        "SCAN tasks" in line and "USING" not in line for line in plan.splitlines()
    )


def test_no_step_of_a_tasks_life_reads_the_history(old_world: World) -> None:
    world = old_world
    with plans(world) as found:
        world.submit(idempotency_key="k")
        world.submit(idempotency_key="k")
        claim = world.running(FOLLOWED)
        world.bump()
        world.submit(FOLLOWED)
        world.submit(FOLLOWED)
        world.claim(claim.id)
        world.beat(claim, store.Progress(1, 2))
        world.retry_later(claim)
        world.make_due(claim.id)
        claim = world.claimed(claim.id)
        world.release(claim)
        handed = world.finish(world.claimed(claim.id), {}, [store.Child(PLAIN, Work())] * 2)
        world.finish(world.claimed(handed.due[0]))
        world.view(claim.id)
        world.fail(world.claimed(handed.due[1]))
        world.repeat(claim.id)
        world.cancel(claim.id)
        world.cancel(world.submitted(EXCLUSIVE))
        with world.database.read() as session:
            store.list_tasks(session)
            store.list_tasks(session, id_prefix="0000")
            store.list_tasks(session, parent_id=claim.id)
            store.list_tasks(session, dead=True)
            store.hints(session, [claim.id])
        store.delete_finished(world.database, older_than_days=90)
    assert len(found) > 30
    assert [plan for plan in found if reads_everything(plan)] == []


FILTERS: dict[str, dict[str, Any]] = {
    "names": {"names": ["law.rare"]},
    "queues": {"queues": ["none"]},
    "several names": {"names": ["law.rare", "law.never"]},
    "several queues": {"queues": ["learning", "none"]},
    "initiated_by": {"initiated_by": "user:nobody"},
    "failed": {"states": ["FAILURE"]},
    "unfinished": {"states": ["PENDING", "RETRY", "STARTED"]},
    "running": {"states": ["PROGRESS"]},
    "dead": {"dead": True},
    "all at once": {"states": ["SUCCESS"], "names": ["law.rare"], "queues": ["none"], "initiated_by": "user:nobody"},
}


@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS.keys())
def test_a_list_with_a_filter_that_few_rows_meet_reads_few_rows(old_world: World, filters: dict[str, Any]) -> None:
    world = old_world
    world.change(f"{HISTORY // 2:08d}-0000-0000-0000-000000000000", name="law.rare")
    with plans(world) as found, world.database.read() as session:
        items = store.list_tasks(session, limit=10, **filters).items
    assert len(items) <= 10
    assert [plan for plan in found if reads_everything(plan)] == []
    # ix_tasks_created would be gone through from its end to its beginning for a row that meets the filter.
    assert [plan for plan in found if "ix_tasks_created" in plan] == []


def test_an_end_of_a_page_is_the_beginning_of_the_next_with_several_names(world: World) -> None:
    ids = [world.submitted(spec) for spec in (PLAIN, FOLLOWED, PLAIN, EXCLUSIVE, PLAIN)]
    wanted = [PLAIN.name, FOLLOWED.name]
    with world.database.read() as session:
        first = store.list_tasks(session, names=wanted, limit=3)
        second = store.list_tasks(session, names=wanted, limit=3, before=first.next_cursor)
    assert second.next_cursor is None
    assert sorted(task.id for task in (*first.items, *second.items)) == sorted(ids[:3] + ids[4:])


def test_the_reconciler_finds_its_rows_by_the_partial_indexes(old_world: World) -> None:
    world = old_world
    expired, cancelled, lost, new = world.running(), world.running(), world.submitted(), world.submitted()
    world.expire(expired.id)
    world.cancel(cancelled.id)
    world.change(cancelled.id, cancel_requested_at=db_now(-100))
    world.lose_message(lost)
    world.change(new, published_at=None)
    parent, _ = world.parent(1)
    world.change(parent, cancel_requested_at=db_now(-1))
    with plans(world) as found:
        assert world.pass_once().republished == 1
        world.broker.oldest = world.now() - timedelta(seconds=1)
        assert world.pass_once().republished == 0
    assert [plan for plan in found if reads_everything(plan)] == []
    looks = [plan.rpartition("\n--\n")[2] for plan in found]
    expired_looks = [look for plan, look in zip(found, looks, strict=True) if "ORDER BY tasks.lease_until" in plan]
    assert expired_looks
    for look in expired_looks:
        # By time too: a volatile clock would be compared with every running row instead.
        lines = [line for line in look.splitlines() if "lease_until" in line]
        assert "ix_tasks_lease" in look, look
        assert any("Index Cond" in line or "SEARCH tasks" in line for line in lines), look
    messages = [plan for plan in looks if "ix_tasks_publish" in plan]
    assert len(messages) >= 16  # twice for each of the four queues, and the locking ones
    for plan in messages:
        # The stamp is part of the search, so the backlog of published rows is not gone through.
        searched = [line for line in plan.splitlines() if "Index Cond" in line or "SEARCH tasks" in line]
        assert any("published_at" in line for line in searched), plan


def test_dead_letters_are_found_without_reading_the_history(old_world: World) -> None:
    world = old_world
    failed = world.running()
    world.fail(failed)
    with plans(world) as found:
        with world.database.read() as session:
            page = store.list_tasks(session, dead=True)
            assert [task.id for task in page.items] == [failed.id]
            store.dead_letters_by_task(session)
        store.retry_dead(world.database, [failed.id], by="user:bea", known=KNOWN)
    assert not [plan for plan in found if reads_everything(plan)]
    listing = next(plan for plan in found if "EXISTS" in plan)
    assert "ix_tasks_failed" in listing, listing
    assert "ix_tasks_retried_from" in listing, listing


def test_a_pass_looks_at_a_bounded_part_of_a_backlog_in_back_off_and_at_all_of_it_in_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "WINDOW", 50)
    row = dict(world.row(world.submitted())._mapping)
    stamped, began = [], world.now() - timedelta(seconds=200)
    for number in range(220):
        # Stamped long ago and sent so often that none is due again: 300 s after the last.
        stamp = began + timedelta(milliseconds=10 * number)
        stamped.append(row | {"id": f"{number:08d}-2222-0000-0000-000000000000", "published_at": stamp})
    for one in stamped:
        one["publish_count"] = 9
    with world.database.write() as session:
        session.execute(insert(tasks), stamped)
        # One in the middle and one at the end were sent once only.
        for number in (120, 219):
            session.execute(update(tasks).where(tasks.c.id == stamped[number]["id"]).values(publish_count=1))
    # Each pass meets 50 rows; one that went through all would have sent both at once.
    assert [world.pass_once().republished for _ in range(5)] == [0, 0, 1, 0, 1]
    world.lose_message(stamped[0]["id"], 400)
    assert sum(world.pass_once().republished for _ in range(6)) == 1


def test_lost_messages_are_sent_again_oldest_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "WINDOW", 8)
    monkeypatch.setattr(reconcile, "BATCH", 3)
    ids = [world.submitted() for _ in range(20)]
    for number, task_id in enumerate(ids):
        world.lose_message(task_id, 100.0 - number)
    world.broker.take()
    sent = []
    for _ in range(7):
        world.pass_once()
        sent += world.broker.take()
    assert sent == ids
