"""A worker that stops gives its claims back one by one, whatever their relatives do meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from core.tests.task_laws.world import World
from sqlalchemy import text

from sicargabox_core.db import Database
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import State
from sicargabox_core.tasks.control import release_claims
from tests.servers.ports import wait_until


@dataclass
class Draining:
    """What ``release_claims`` needs of a worker."""

    database: Database
    worker: str = "w1"
    told: list[str] = field(default_factory=list)

    def after(self, task_id: str, _transition: store.Transition) -> None:
        self.told.append(task_id)


def test_a_draining_worker_gives_back_what_it_holds_and_nothing_else(world: World) -> None:
    held, other, ended = world.running(), world.claimed(world.submitted(), worker="w2"), world.running()
    world.finish(ended)
    parent, _ = world.parent(1)
    worker = Draining(world.database)
    assert release_claims(worker) == worker.told == [held.id]  # type: ignore[arg-type]  # a stand-in for the worker
    assert world.view(held.id).state is State.PENDING
    assert [world.view(task).state for task in (other.id, parent)] == [State.STARTED] * 2


def test_draining_cancelled_children_does_not_block_one_that_ends(world: World) -> None:
    # One transaction for both would hold the parent, after the first, and wait for the second, which wants the parent.
    parent, children = world.parent(2)
    first, second = (world.claimed(child) for child in sorted(children))
    world.cancel(parent)
    locked = threading.Event()

    def end_second() -> bool:
        with world.database.write() as session:
            assert store.lock_attempt(session, second.id, second.attempt)
            locked.set()
            if not world.database.is_sqlite:  # there the drain waits for this writer from its first row on
                wait_until(lambda: _someone_waits(world), seconds=30, what="the drain waits for the second child")
            return bool(store.finish_success(session, second.id, second.attempt, {}))

    with ThreadPoolExecutor(1) as thread:
        ending = thread.submit(end_second)
        assert locked.wait(30)
        released = release_claims(Draining(world.database))  # type: ignore[arg-type]  # a stand-in for the worker
        assert ending.result(30)
    assert released == [first.id]
    assert world.view(parent).state is State.REVOKED


def _someone_waits(world: World) -> bool:
    with world.database.read() as session:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(session.execute(text(waiting)).scalar_one())
