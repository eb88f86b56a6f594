"""The gate: whatever is wrong with a document of the index, the audit finds exactly it and an update mends it.

Through real tasks and a real worker. Fixtures of the module that inherits: ``system`` (the starter catalogue and a
worker that indexes it), ``hands`` (reaches into the engine's storage as no code of ours would).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import select

from sicargabox_core.accounts.models import AuditEntry
from sicargabox_core.catalogue.starter_catalogue import load_starter
from sicargabox_core.search.service import SearchService, make_engine
from sicargabox_core.tasks.contracts import (
    AUDIT_INDEX,
    DELETE_INDEX,
    REBUILD_INDEX,
    UPDATE_LINES,
    AuditIndex,
    DeleteIndex,
    Payload,
    Queue,
    RebuildIndex,
    State,
    TaskSpec,
    UpdateLines,
)
from sicargabox_core.tasks.views import TaskView
from tests.servers.valkey import ValkeyServer
from tests.task_system.system import TaskSystem

PHONE, HEADPHONES, INVENTED = "8517130000", "8518300000", "0101210000"


class Hands(Protocol):
    """Reaches into an engine's storage behind its back."""

    def spoil(self, code: str) -> None:
        """The document says something else than its line."""

    def remove(self, code: str) -> None:
        """The document is gone."""

    def invent(self, code: str) -> None:
        """There is a document of a line that does not exist."""


@contextmanager
def indexing_system(database_url: str, valkey: ValkeyServer, folder: Path) -> Iterator[TaskSystem]:
    """The starter catalogue, and a worker that indexes it with the engine of the environment's settings."""
    system = TaskSystem(database_url, valkey, folder)
    load_starter(system.database)
    system.start_scheduler()
    system.publisher.start()
    system.start_worker(Queue.ELASTICSEARCH, Queue.CELERY, app="sicargabox_indexer.app")
    yield system
    system.close()


def run(system: TaskSystem, spec: TaskSpec[Any, Any], payload: Payload) -> TaskView:
    task = system.service.submit(spec, payload, initiated_by="user:ana").task
    return system.wait_final(task.id, seconds=60)


def audited(system: TaskSystem) -> tuple[bool, list[str], list[str], list[str]]:
    ended = run(system, AUDIT_INDEX, AuditIndex())
    assert ended.state is State.SUCCESS, ended
    found = ended.result or {}
    assert (found["missing"], found["extra"], found["stale"]) == (
        len(found["missing_codes"]),
        len(found["extra_codes"]),
        len(found["stale_codes"]),
    )
    return found["ok"], found["missing_codes"], found["extra_codes"], found["stale_codes"]


class GateLaws:
    """See above."""

    def test_an_audit_finds_exactly_what_was_broken_by_hand_and_an_update_mends_it(
        self, system: TaskSystem, hands: Hands
    ) -> None:
        assert run(system, REBUILD_INDEX, RebuildIndex()).state is State.SUCCESS
        assert audited(system) == (True, [], [], [])
        hands.spoil(PHONE)
        assert audited(system) == (False, [], [], [PHONE])
        assert run(system, UPDATE_LINES, UpdateLines(codes=[PHONE])).state is State.SUCCESS
        assert audited(system) == (True, [], [], [])

        hands.remove(HEADPHONES)
        hands.invent(INVENTED)
        assert audited(system) == (False, [HEADPHONES], [INVENTED], [])
        mended = run(system, UPDATE_LINES, UpdateLines(codes=[HEADPHONES, INVENTED]))
        done = {"updated": 1, "deleted": 1, "unknown": 1, "unknown_codes": [INVENTED]}
        assert (mended.state, mended.result) == (State.SUCCESS, done)
        assert audited(system) == (True, [], [], [])
        found = SearchService(system.database, system.settings).search("audífonos bluetooth")
        assert (found["degraded"], found["results"][0]["code"][:4]) == (False, "8518")

    def test_an_index_is_deleted_by_name_alone_and_the_trail_says_who_wanted_it(self, system: TaskSystem) -> None:
        rebuilt = run(system, REBUILD_INDEX, RebuildIndex())
        documents = (rebuilt.result or {})["documents"]
        engine = make_engine(system.settings)
        serving = engine.status().generation or ""

        refused = run(system, DELETE_INDEX, DeleteIndex(generation="another"))
        assert (refused.state, refused.error_code, refused.attempt) == (State.FAILURE, "conflict", 1)
        assert engine.status().generation == serving

        deleted = run(system, DELETE_INDEX, DeleteIndex(generation=serving))
        assert (deleted.state, deleted.result) == (State.SUCCESS, {"documents": documents})
        assert (engine.status().ready, engine.status().generations) == (False, [])
        with system.database.read() as session:
            (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.action == "index.delete"))
            assert (entry.actor, entry.object_id, entry.before) == ("user:ana", serving, {"documents": documents})
        assert SearchService(system.database, system.settings).search("audífonos")["degraded"] is True

        again = run(system, DELETE_INDEX, DeleteIndex(generation=serving))
        assert (again.state, again.result) == (State.SUCCESS, {"documents": 0})
        assert run(system, REBUILD_INDEX, RebuildIndex()).state is State.SUCCESS
        assert audited(system) == (True, [], [], [])
