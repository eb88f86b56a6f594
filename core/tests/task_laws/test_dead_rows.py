"""What tasks leave behind in the database stays small, and costs those that come after them nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from core.tests.task_laws.world import PLAIN, Work, World
from sqlalchemy import event, insert, text

from sicargabox_core.db import Database
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import State
from sicargabox_core.tasks.reconcile import FLOOR_SECONDS
from sicargabox_core.tasks.rows import tasks

LIVES = 6000
# Of any one statement; an update writes into a dozen indexes, two or three pages each. LIVES tasks left many more.
PAGES_MOST = 60


@contextmanager
def writes(database: Database) -> Iterator[list[int]]:
    """Rows of ``tasks`` written by each statement of the block."""
    found: list[int] = []

    def listen(_connection: Any, cursor: Any, statement: str, *_more: Any) -> None:
        if statement.lstrip().startswith(("INSERT INTO tasks", "UPDATE tasks")):
            found.append(cursor.rowcount)

    event.listen(database.engine, "after_cursor_execute", listen)
    try:
        yield found
    finally:
        event.remove(database.engine, "after_cursor_execute", listen)


def test_a_task_that_meets_no_trouble_is_written_three_times(world: World) -> None:
    with writes(world.database) as found:
        claim = world.running()
        world.pass_once()
        world.finish(claim, {"lines": 1})
        world.pass_once()
    assert len(found) == 3, "accepted, claimed, finished: each further version is a dead row more"


def test_a_row_below_the_floor_is_found_when_the_floor_is_asked_again(world: World) -> None:
    world.reconciler = world.another_reconciler(floor_seconds=FLOOR_SECONDS)
    lost, expired = world.submitted(), world.running()
    assert world.pass_once().republished == 0
    # As if a transaction had committed long after it took the time.
    world.lose_message(lost, seconds=600)
    world.expire(expired.id)
    republished = expired_leases = 0
    for _ in range(8):  # as a scheduler does; after a long pause it would give the leases time
        world.passed += FLOOR_SECONDS / 8
        done = world.pass_once()
        republished, expired_leases = republished + done.republished, expired_leases + done.expired
    assert (republished, expired_leases) == (1, 1)
    assert world.view(expired.id).state is State.RETRY


def test_a_floor_hides_nothing_that_comes_after_it(world: World) -> None:
    world.reconciler = world.another_reconciler(floor_seconds=FLOOR_SECONDS)
    world.pass_once()
    claim = store.claim(world.database, world.submitted(), worker="w1", lease_seconds=-0.001, known={PLAIN.name: PLAIN})
    assert claim is not None
    assert world.pass_once().expired == 1


# --- PostgreSQL keeps dead rows for as long as anybody may look at them ----------------------------------------------
@pytest.fixture
def held_world(postgres_url: str) -> Iterator[World]:
    """Thousands of finished tasks in a database where a foreign transaction has kept an old snapshot all the while."""
    database, foreign = Database(postgres_url), Database(postgres_url)
    try:
        with foreign.engine.connect() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            connection.execute(text("SELECT pg_current_xact_id(), count(*) FROM tasks"))
            world = World(database)
            first = dict(world.row(world.submitted())._mapping)
            past = world.now() - timedelta(minutes=5)
            rows = [
                first | {"id": f"{number:08d}-0000-7000-a000-000000000000", "published_at": past, "run_at": past}
                for number in range(LIVES)
            ]
            with database.write() as session:
                session.execute(insert(tasks), rows)
            for step in (
                "state = 'STARTED', attempt = 1, lease_until = run_at, started_at = run_at",
                "state = 'SUCCESS', finished_at = run_at, lease_until = NULL, result = '{}'",
            ):
                with database.write() as session:
                    session.execute(text(f"UPDATE tasks SET {step}"))
            with database.engine.connect() as reader:
                reader.execute(text("ANALYZE tasks"))
                reader.commit()
            yield world
    finally:
        database.dispose()
        foreign.dispose()


@contextmanager
def pages(world: World) -> Iterator[dict[str, int]]:
    """Pages that each statement of the block touches to find its rows, by its words; filled when the block ends."""
    executed: list[tuple[str, Any]] = []

    def listen(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if not statement.startswith("INSERT"):
            executed.append((statement, parameters))

    found: dict[str, int] = {}
    event.listen(world.database.engine, "before_cursor_execute", listen)
    try:
        yield found
    finally:
        event.remove(world.database.engine, "before_cursor_execute", listen)
    # Again and rolled back: what a guard refuses the second time is looked for all the same.
    with world.database.engine.connect() as connection:
        for statement, parameters in executed:
            explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
            plan = explained.scalar_one()[0]["Plan"]
            found[f"{statement} {parameters}"] = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def too_many(found: dict[str, int]) -> dict[str, int]:
    return {words: count for words, count in found.items() if count > PAGES_MOST}


def test_a_pass_does_not_read_what_finished_tasks_left_while_a_snapshot_is_held(held_world: World) -> None:
    world = held_world
    world.reconciler = world.another_reconciler(floor_seconds=3600.0)
    with pages(world) as asking_for_floors:
        world.pass_once()
    assert max(asking_for_floors.values()) > 3 * PAGES_MOST, "there is something that is not to be read"
    with pages(world) as found:
        world.pass_once()
    assert len(found) > 10
    assert too_many(found) == {}


def test_no_step_of_a_tasks_life_reads_what_others_left_while_a_snapshot_is_held(held_world: World) -> None:
    world = held_world
    with pages(world) as found:
        claim = world.running()
        world.beat(claim, store.Progress(1, 2))
        world.retry_later(claim)
        world.make_due(claim.id)
        claim = world.claimed(claim.id)
        world.release(claim)
        handed = world.finish(world.claimed(claim.id), {}, [store.Child(PLAIN, Work())] * 2)
        world.finish(world.claimed(handed.due[0]))
        world.fail(world.claimed(handed.due[1]))
        expired, waiting, running = world.running(), world.submitted(), world.running()
        world.expire(expired.id)
        world.claim(expired.id)
        world.cancel(waiting)
        world.cancel(running.id)
        with world.database.read() as session:
            store.hints(session, [claim.id])
    assert len(found) > 15
    assert too_many(found) == {}


def test_dead_rows_are_vacuumed_long_before_they_are_a_fifth_of_the_history(postgres_url: str) -> None:
    database = Database(postgres_url)
    try:
        with database.read() as session:
            options = session.scalars(text("SELECT unnest(reloptions) FROM pg_class WHERE relname = 'tasks'")).all()
    finally:
        database.dispose()
    assert "autovacuum_vacuum_scale_factor=0.01" in options
