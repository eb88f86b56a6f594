"""The index's tasks through a real worker: started, cancelled, killed and paused, with an engine that others read."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sicargabox_core.catalogue.models import Keyword, KeywordState
from sicargabox_core.catalogue.starter_catalogue import load_starter
from sicargabox_core.search.indexing import audit
from sicargabox_core.search.service import SearchService
from sicargabox_core.search.tantivy_engine import TantivyEngine
from sicargabox_core.tasks.contracts import (
    AUDIT_INDEX,
    REBUILD_INDEX,
    UPDATE_LINES,
    AuditIndex,
    Payload,
    Queue,
    RebuildIndex,
    State,
    TaskSpec,
    UpdateLines,
)
from sicargabox_core.tasks.views import TaskView
from tests.servers.ports import wait_until
from tests.servers.valkey import ValkeyServer
from tests.task_system.system import TaskSystem, Worker

APP = "sicargabox_indexer.app"
PHONE = "8517130000"


@pytest.fixture
def system(sqlite_url: str, private_valkey: ValkeyServer, tmp_path: Path) -> Iterator[TaskSystem]:
    """A database with the starter catalogue, a Redis and a scheduler; tests start the workers."""
    system = TaskSystem(sqlite_url, private_valkey, tmp_path)
    load_starter(system.database)
    system.start_scheduler()
    system.publisher.start()
    yield system
    system.close()


@pytest.fixture
def engine(system: TaskSystem) -> TantivyEngine:
    """The engine as the API reads it."""
    return TantivyEngine(system.settings.data_dir / "search")


def start(system: TaskSystem) -> Worker:
    return system.start_worker(Queue.ELASTICSEARCH, Queue.CELERY, app=APP)


def submit(system: TaskSystem, spec: TaskSpec[Any, Any], payload: Payload) -> str:
    return system.service.submit(spec, payload, initiated_by="user:test").task.id


def run(system: TaskSystem, spec: TaskSpec[Any, Any], payload: Payload) -> TaskView:
    return system.wait_final(submit(system, spec, payload), seconds=60)


def test_rebuild_update_and_audit_keep_the_index_equal_to_the_database(
    system: TaskSystem, engine: TantivyEngine
) -> None:
    start(system)
    rebuilt = run(system, REBUILD_INDEX, RebuildIndex())
    assert rebuilt.state == State.SUCCESS, rebuilt
    result = rebuilt.result or {}
    documents = result["documents"]
    assert set(result) == {"documents", "time", "seconds"}
    assert result["time"] == f"{max(1, round(result['seconds']))}s"
    assert engine.status().generation == f"{rebuilt.id}-{rebuilt.attempt}"
    assert rebuilt.progress_message == f"{documents}/{documents} documents indexed"

    service = SearchService(system.database, system.settings, engine=engine)
    assert "8518300000" in {hit["code"] for hit in service.search("audífonos bluetooth")["results"]}

    with system.database.write() as session:
        session.add(
            Keyword(
                line_code=PHONE,
                language="es",
                text="telefonito chunche",
                normalized="telefonito chunche",
                source="staff",
                state=KeywordState.APPROVED,
                created_by="test",
            )
        )
    found = run(system, AUDIT_INDEX, AuditIndex()).result or {}
    assert (found["ok"], found["missing"], found["extra"], found["stale_codes"]) == (False, 0, 0, [PHONE])
    done = run(system, UPDATE_LINES, UpdateLines(codes=[PHONE])).result
    assert done == {"updated": 1, "deleted": 0, "unknown": 0, "unknown_codes": []}
    assert service.search("telefonito chunche")["results"][0]["code"] == PHONE
    found = run(system, AUDIT_INDEX, AuditIndex()).result or {}
    assert (found["ok"], found["database"], found["index"]) == (True, documents, documents)


def test_a_worker_killed_in_mid_rebuild_leaves_the_old_index_and_another_finishes(
    system: TaskSystem, engine: TantivyEngine
) -> None:
    first = start(system)
    before = run(system, REBUILD_INDEX, RebuildIndex())
    old = engine.status()
    with engine._write_lock():  # The rebuild stands still in its middle: it can neither begin nor swap.
        task_id = submit(system, REBUILD_INDEX, RebuildIndex())
        wait_until(lambda: system.task(task_id).state == State.STARTED, seconds=30, what="the rebuild starts")
        first.kill()
        assert engine.status() == old
    start(system)
    ended = system.wait_final(task_id, seconds=60)
    assert (ended.state, ended.attempt) == (State.SUCCESS, 2)
    assert engine.status().generation == f"{task_id}-2"
    assert engine.status().previous == f"{before.id}-1"
    assert audit(system.database, engine, on_step=lambda *_: None).ok


def test_a_paused_worker_cannot_put_its_index_over_a_newer_one(system: TaskSystem, engine: TantivyEngine) -> None:
    paused = start(system)
    with engine._write_lock():
        task_id = submit(system, REBUILD_INDEX, RebuildIndex())
        wait_until(lambda: system.task(task_id).state == State.STARTED, seconds=30, what="the rebuild starts")
        paused.signal_all(signal.SIGSTOP)
    other = start(system)
    ended = system.wait_final(task_id, seconds=60)
    assert (ended.state, ended.attempt) == (State.SUCCESS, 2)
    served = engine.status()
    other.kill()
    paused.signal_all(signal.SIGCONT)
    # It does one thing at a time: when it has done the next rebuild, it has given up the old one.
    next_id = submit(system, REBUILD_INDEX, RebuildIndex())
    assert system.wait_final(next_id, seconds=60).state == State.SUCCESS
    status = engine.status()
    assert (status.number, status.previous) == (served.number + 1, f"{task_id}-2")


def test_a_worker_frozen_before_its_swap_cannot_swap_its_finished_index_in(
    system: TaskSystem, engine: TantivyEngine
) -> None:
    # Without the watchdog, which would end the thawed child before the fence is asked.
    patient = {"SICARGABOX_TASK_CANCEL_GRACE_SECONDS": "300"}
    frozen = system.start_worker(Queue.ELASTICSEARCH, Queue.CELERY, app=APP, environment=patient)
    run(system, REBUILD_INDEX, RebuildIndex())
    task_id = submit(system, REBUILD_INDEX, RebuildIndex())
    place = engine._generations / f"{task_id}-1"
    wait_until((place / "journal.jsonl").exists, seconds=30, what="its generation is begun", interval=0.001)
    with engine._write_lock():
        # It may go on building, and waits for this lock before it swaps.
        wait_until(lambda: system.task(task_id).progress_current, seconds=30, what="documents are written")
        frozen.signal_all(signal.SIGSTOP)
    assert (place / "meta.json").exists()
    other = start(system)
    assert system.wait_final(task_id, seconds=60).attempt == 2
    served = engine.status()
    assert served.generation == f"{task_id}-2"
    other.kill()
    frozen.signal_all(signal.SIGCONT)
    audited = run(system, AUDIT_INDEX, AuditIndex())
    assert (audited.state, (audited.result or {})["ok"]) == (State.SUCCESS, True)
    assert engine.status() == served
    assert not place.exists()


def test_an_audit_without_an_index_fails_at_once_and_says_what_to_do(system: TaskSystem) -> None:
    start(system)
    audited = run(system, AUDIT_INDEX, AuditIndex())
    assert (audited.state, audited.attempt) == (State.FAILURE, 1)
    assert (audited.error_code, audited.error_message) == (
        "task_failed",
        "there is no search index, and none is being built. Rebuild it first.",
    )


def test_an_audit_before_the_first_rebuild_has_ended_is_tried_again(system: TaskSystem, engine: TantivyEngine) -> None:
    system.start_worker(Queue.ELASTICSEARCH, Queue.CELERY, app=APP, concurrency=2)
    with engine._write_lock():
        rebuild_id = submit(system, REBUILD_INDEX, RebuildIndex())
        wait_until(lambda: system.task(rebuild_id).state == State.STARTED, seconds=30, what="the rebuild starts")
        audit_id = submit(system, AUDIT_INDEX, AuditIndex())
        wait_until(lambda: system.task(audit_id).state == State.RETRY, seconds=30, what="the audit is put off")
    assert system.wait_final(rebuild_id, seconds=60).state == State.SUCCESS
    audited = system.wait_final(audit_id, seconds=60)
    assert (audited.state, (audited.result or {})["ok"]) == (State.SUCCESS, True)


def test_a_cancelled_rebuild_leaves_the_old_index(system: TaskSystem, engine: TantivyEngine) -> None:
    start(system)
    run(system, REBUILD_INDEX, RebuildIndex())
    old = engine.status()
    with engine._write_lock():
        task_id = submit(system, REBUILD_INDEX, RebuildIndex())
        wait_until(lambda: system.task(task_id).state == State.STARTED, seconds=30, what="the rebuild starts")
        system.service.cancel(task_id, by="user:test")
        # The pulse brings the news with a heartbeat (the second one for certain), the task acts on it when it goes on.
        for _ in range(2):
            _wait_for_heartbeat(system, task_id)
    ended = system.wait_final(task_id, seconds=60)
    assert ended.state == State.REVOKED
    assert engine.status() == old


def _wait_for_heartbeat(system: TaskSystem, task_id: str) -> None:
    before = system.task(task_id).lease_until
    wait_until(lambda: system.task(task_id).lease_until != before, seconds=30, what="a heartbeat")
