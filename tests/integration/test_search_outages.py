"""Real writers over a real Elasticsearch that stop, die and meet each other: nothing is lost and nothing is left."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core.tests.search.tariff import LINES, add_keyword, build, fill
from elasticsearch import Elasticsearch

from sicargabox_core.db import Database
from sicargabox_core.errors import SicargaBoxError, Unavailable
from sicargabox_core.search import indexing
from sicargabox_core.search.elasticsearch_engine import ElasticsearchEngine
from sicargabox_core.search.engine import EngineStatus, SearchEngine
from sicargabox_core.search.service import SearchService, make_engine
from sicargabox_core.settings import Settings, load_settings
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
from tests.servers.elasticsearch import ElasticsearchServer, remove_indexes
from tests.servers.elasticsearch_fake import FakeElasticsearch, Hold
from tests.servers.ports import wait_until
from tests.servers.valkey import ValkeyServer
from tests.task_system.system import TaskSystem, Worker

PHONE, HEADPHONES = "8517130000", "8518300000"
PATIENCE = 60.0
ALIAS = "outages"
# What a dead writer's lock lives, shortened; the workers have the product's own.
LOCK_SECONDS = 4.0
# The moments of a rebuild at which it is stopped: in the middle of writing, and when all is written.
WRITING, COUNTING, SWAPPING = r"/_bulk$", r"/_count$", r"/_aliases$"


@pytest.fixture(scope="module")
def server() -> Iterator[ElasticsearchServer]:
    """One server for this module, which may be paused and killed; each test leaves it running."""
    server = ElasticsearchServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def raw(server: ElasticsearchServer) -> Iterator[Elasticsearch]:
    """What an operator's hands do; what tests made is removed after them."""
    with Elasticsearch(server.url, request_timeout=30) as client:
        yield client
    remove_indexes(server.url, ALIAS)


@pytest.fixture
def road(server: ElasticsearchServer) -> Iterator[FakeElasticsearch]:
    """The way to the server, on which requests can be kept back."""
    road = FakeElasticsearch(server.url)
    road.start()
    yield road
    road.stop()


def of(url: str, folder: Path) -> Settings:
    return load_settings(search_url=url, search_index=ALIAS, data_dir=folder)


@pytest.fixture
def engine(server: ElasticsearchServer, raw: Elasticsearch, tmp_path: Path) -> SearchEngine:
    """An engine on the straight way, as another process has it."""
    assert raw.ping()
    return ElasticsearchEngine(of(server.url, tmp_path), lock_seconds=LOCK_SECONDS)


@pytest.fixture
def delayed(road: FakeElasticsearch, tmp_path: Path) -> SearchEngine:
    """An engine whose requests can be kept back."""
    return ElasticsearchEngine(of(road.url, tmp_path), lock_seconds=LOCK_SECONDS)


@pytest.fixture
def catalogue(sqlite_url: str) -> Iterator[Database]:
    """The small tariff."""
    database = Database(sqlite_url)
    fill(database)
    yield database
    database.dispose()


def generations(raw: Elasticsearch) -> set[str]:
    """What the server holds of this alias's indices but its state."""
    names = raw.indices.get(index=f"{ALIAS}-*", expand_wildcards="all")
    return {name for name in names if not name.endswith("-state")}


def audited(database: Database, engine: SearchEngine) -> bool:
    return indexing.audit(database, engine, on_step=lambda *_: None).ok


class Act(threading.Thread):
    """Does something beside the test and keeps what came of it."""

    def __init__(self, act: Any, *arguments: Any) -> None:
        super().__init__(daemon=True)
        self._act, self._arguments = act, arguments
        self.error: SicargaBoxError | None = None
        self.start()

    def run(self) -> None:
        try:
            self._act(*self._arguments)
        except SicargaBoxError as error:
            self.error = error

    def ended(self) -> SicargaBoxError | None:
        """Its error, once it has ended."""
        self.join(PATIENCE)
        assert not self.is_alive()
        return self.error


# --- writers that meet -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("moment", [WRITING, COUNTING, SWAPPING])
def test_an_update_made_at_any_moment_of_a_rebuild_is_there_after_the_swap(
    road: FakeElasticsearch, engine: SearchEngine, delayed: SearchEngine, catalogue: Database, moment: str
) -> None:
    build(catalogue, engine)
    hold = Hold(moment)
    with road.misbehaving(hold):
        rebuild = Act(build, catalogue, delayed, "second")
        assert hold.arrived.wait(PATIENCE)
        add_keyword(catalogue, PHONE, "telefonito")
        update = Act(indexing.update, catalogue, engine, [PHONE])
        # While the rebuild has the lock the update waits for it; else it is made now, and once more after the swap.
        update.join(1)
        hold.release()
        assert (rebuild.ended(), update.ended()) == (None, None)
    assert engine.status().generation == "second"
    assert engine.vocabulary().knows("telefonito")
    assert audited(catalogue, engine)


def overtaken(
    road: FakeElasticsearch, engine: SearchEngine, delayed: SearchEngine, catalogue: Database, moment: str
) -> None:
    """Generation "early" is built and serves while "late" is kept back at ``moment``; "late" then ends refused."""
    hold = Hold(moment)
    with road.misbehaving(hold):
        late = Act(build, catalogue, delayed, "late")
        assert hold.arrived.wait(PATIENCE)
        build(catalogue, engine, "early")
        hold.release()
        assert isinstance(late.ended(), SicargaBoxError)


def test_of_two_rebuilds_at_once_one_serves_and_nothing_is_left_of_the_other(
    road: FakeElasticsearch, engine: SearchEngine, delayed: SearchEngine, catalogue: Database, raw: Elasticsearch
) -> None:
    build(catalogue, engine)
    overtaken(road, engine, delayed, catalogue, WRITING)
    status = engine.status()
    assert (status.generation, status.previous, status.building) == ("early", "first", [])
    assert audited(catalogue, engine)
    build(catalogue, engine, "next")
    assert len(generations(raw)) == 2
    assert engine.status().previous == "early"


def test_a_first_index_has_one_builder_too(
    road: FakeElasticsearch, engine: SearchEngine, delayed: SearchEngine, catalogue: Database, raw: Elasticsearch
) -> None:
    """Without an old index there is none that the swap could expect."""
    overtaken(road, engine, delayed, catalogue, WRITING)
    assert engine.status().generation == "early"
    assert len(generations(raw)) == 1
    assert audited(catalogue, engine)


def test_a_swap_that_arrives_after_another_s_changes_nothing(
    road: FakeElasticsearch, engine: SearchEngine, delayed: SearchEngine, catalogue: Database, raw: Elasticsearch
) -> None:
    """On the way longer than the lock lives: its request names an old index that serves no more."""
    build(catalogue, engine)
    overtaken(road, engine, delayed, catalogue, SWAPPING)
    status = engine.status()
    assert (status.generation, status.documents, status.building) == ("early", len(LINES), [])
    assert len(raw.indices.get_alias(name=ALIAS)) == 1
    assert audited(catalogue, engine)


def test_an_update_that_arrives_after_a_newer_one_changes_nothing(
    road: FakeElasticsearch, engine: SearchEngine, delayed: SearchEngine, catalogue: Database
) -> None:
    """On the way longer than its lock lives: the token it carries is older than that of what it would overwrite."""
    build(catalogue, engine)
    add_keyword(catalogue, PHONE, "telefonito")
    hold = Hold(WRITING)
    with road.misbehaving(hold):
        late = Act(indexing.update, catalogue, delayed, [PHONE])
        assert hold.arrived.wait(PATIENCE)
        add_keyword(catalogue, PHONE, "chunche")
        indexing.update(catalogue, engine, [PHONE])
        assert audited(catalogue, engine)
        hold.release()
        assert isinstance(late.ended(), Unavailable)
    assert audited(catalogue, engine)


def test_a_writer_that_died_with_the_lock_delays_others_no_longer_than_it_lives(
    road: FakeElasticsearch, engine: SearchEngine, delayed: SearchEngine, catalogue: Database
) -> None:
    """Its last request is lost with it, and it never gives the lock back. The others' patience is longer."""
    build(catalogue, engine)
    hold = Hold(WRITING)

    def dead(request: Any, forward: Any) -> Any:
        if hold.arrived.is_set():
            hold.release(lost=True)
            return road.hang(request, forward)
        return hold(request, forward)

    with road.misbehaving(dead):
        Act(indexing.update, catalogue, delayed, [HEADPHONES])
        assert hold.arrived.wait(PATIENCE)
        add_keyword(catalogue, PHONE, "telefonito")
        assert indexing.update(catalogue, engine, [PHONE]).updated == 1
    assert audited(catalogue, engine)


# --- workers -----------------------------------------------------------------------------------------------------
class Scene:
    """Real workers before one server, and what is asked of them."""

    def __init__(self, system: TaskSystem, url: str, road: FakeElasticsearch) -> None:
        self.system, self.road = system, road
        self.engine = make_engine(of(url, system.folder))

    def start(self, url: str | None = None) -> Worker:
        """A worker, whose requests can be kept back unless ``url`` leads past the road."""
        # Without the watchdog, which would end a thawed child before the fence is asked.
        environment = {
            "SICARGABOX_SEARCH_URL": url or self.road.url,
            "SICARGABOX_SEARCH_INDEX": ALIAS,
            "SICARGABOX_TASK_CANCEL_GRACE_SECONDS": "300",
        }
        return self.system.start_worker(
            Queue.ELASTICSEARCH, Queue.CELERY, app="sicargabox_indexer.app", environment=environment
        )

    def submit(self, spec: TaskSpec[Any, Any], payload: Payload) -> str:
        return self.system.service.submit(spec, payload, initiated_by="user:test").task.id

    def rebuilds(self) -> str:
        return self.submit(REBUILD_INDEX, RebuildIndex())

    def ended(self, task_id: str) -> TaskView:
        return self.system.wait_final(task_id, seconds=PATIENCE)

    def waits_to_try_again(self, task_id: str) -> TaskView:
        """The task after an attempt that failed and will be repeated."""
        return wait_until(
            lambda: task if (task := self.system.task(task_id)).state is State.RETRY else None,
            seconds=PATIENCE,
            what="the task waits to be tried again",
        )

    def held(self, moment: str) -> tuple[Hold, contextlib.AbstractContextManager[None]]:
        hold = Hold(moment)
        return hold, self.road.misbehaving(hold)

    def status(self) -> EngineStatus:
        return self.engine.status()

    def whole(self) -> bool:
        """The index is equal to the database, as the task says who audits it."""
        audit = self.ended(self.submit(AUDIT_INDEX, AuditIndex()))
        return audit.state is State.SUCCESS and bool((audit.result or {})["ok"])


@pytest.fixture
def scene(
    sqlite_url: str,
    private_valkey: ValkeyServer,
    tmp_path: Path,
    server: ElasticsearchServer,
    road: FakeElasticsearch,
    raw: Elasticsearch,
) -> Iterator[Scene]:
    """The small tariff; tests start the workers."""
    assert raw.ping()
    with TaskSystem.running(sqlite_url, private_valkey, tmp_path) as system:
        fill(system.database)
        system.publisher.start()
        yield Scene(system, server.url, road)


@pytest.mark.parametrize("moment", [WRITING, COUNTING])
def test_a_frozen_worker_cannot_swap_its_index_in_when_it_wakes_and_cleans_nothing_of_others(
    scene: Scene, server: ElasticsearchServer, raw: Elasticsearch, moment: str
) -> None:
    frozen = scene.start()
    assert scene.ended(scene.rebuilds()).state is State.SUCCESS
    hold, misbehaving = scene.held(moment)
    with misbehaving:
        task_id = scene.rebuilds()
        assert hold.arrived.wait(PATIENCE)
        frozen.signal_all(signal.SIGSTOP)
        other = scene.start(server.url)
        ended = scene.ended(task_id)
        assert (ended.state, ended.attempt) == (State.SUCCESS, 2)
        served = scene.status()
        assert served.generation == f"{task_id}-2"
        other.kill()
        hold.release()
        frozen.signal_all(signal.SIGCONT)
        # It does one thing at a time: when it has audited, it has given up what it was at.
        assert scene.whole()
    now = scene.status()
    assert (now.generation, now.previous, now.number) == (served.generation, served.previous, served.number)
    assert len(generations(raw)) == 2


# A start takes up to half a minute, and the pause between attempts grows meanwhile.
@pytest.mark.timeout(300)
def test_a_server_killed_in_mid_rebuild_serves_the_old_index_again_and_the_task_succeeds(
    scene: Scene, server: ElasticsearchServer, raw: Elasticsearch
) -> None:
    scene.start()
    before = scene.rebuilds()
    assert scene.ended(before).state is State.SUCCESS
    service = SearchService(scene.system.database, scene.system.settings, engine=scene.engine)
    assert not service.search("celular")["degraded"]
    add_keyword(scene.system.database, PHONE, "telefonito")
    hold, misbehaving = scene.held(WRITING)
    with misbehaving:
        task_id = scene.rebuilds()
        assert hold.arrived.wait(PATIENCE)
        server.kill()
        hold.release()
        assert service.search("celular")["degraded"]
        assert service.search("celular")["results"][0]["code"] == PHONE
        waiting = scene.waits_to_try_again(task_id)
    assert "earch" in (waiting.error_message or "")
    server.start()
    wait_until(lambda: not service.search("celular")["degraded"], seconds=PATIENCE, what="the index answers again")
    ended = scene.ended(task_id)
    assert ended.state is State.SUCCESS
    assert ended.attempt > 1
    status = scene.status()
    assert (status.generation, status.previous) == (f"{task_id}-{ended.attempt}", f"{before}-1")
    assert status.building == []
    assert scene.whole()
    assert len(generations(raw)) == 2


def test_a_full_disk_stops_writing_with_a_reason_and_no_search_and_all_is_written_when_there_is_room(
    scene: Scene, raw: Elasticsearch
) -> None:
    """What the server does to every index of a node at its flood-stage watermark."""
    scene.start()
    assert scene.ended(scene.rebuilds()).state is State.SUCCESS
    service = SearchService(scene.system.database, scene.system.settings, engine=scene.engine)
    old = scene.status()
    add_keyword(scene.system.database, PHONE, "telefonito")
    _block(raw, on=True)
    try:
        task_id = scene.submit(UPDATE_LINES, UpdateLines(codes=[PHONE]))
        waiting = scene.waits_to_try_again(task_id)
        assert waiting.error_code == "unavailable"
        assert "watermark" in (waiting.error_message or "")
        assert not service.search("celular")["degraded"]
        assert scene.status().generation == old.generation
    finally:
        _block(raw, on=False)
    ended = scene.ended(task_id)
    told = {"updated": 1, "deleted": 0, "unknown": 0, "unknown_codes": []}
    assert (ended.state, ended.result) == (State.SUCCESS, told)
    assert service.search("telefonito")["results"][0]["code"] == PHONE
    assert scene.whole()


def test_a_full_disk_stops_a_rebuild_and_the_old_index_serves(
    engine: SearchEngine, catalogue: Database, raw: Elasticsearch
) -> None:
    build(catalogue, engine)
    _block(raw, on=True)
    try:
        with pytest.raises(Unavailable, match="watermark"):
            build(catalogue, engine, "second")
        assert engine.status().generation == "first"
        assert audited(catalogue, engine)
    finally:
        _block(raw, on=False)
    assert build(catalogue, engine, "third") == len(LINES)
    assert len(generations(raw)) == 2


def _block(raw: Elasticsearch, *, on: bool) -> None:
    raw.indices.put_settings(
        index=f"{ALIAS}-*",
        expand_wildcards="all",
        settings={"index.blocks.read_only_allow_delete": True if on else None},
    )


def test_a_stopped_server_degrades_searches_and_ends_none(
    server: ElasticsearchServer, engine: SearchEngine, catalogue: Database, tmp_path: Path
) -> None:
    build(catalogue, engine)
    service = SearchService(catalogue, of(server.url, tmp_path), engine=engine)
    assert not service.search("celular")["degraded"]
    server.pause()
    try:
        took = []
        for _ in range(5):
            answer = service.search("celular")
            assert (answer["degraded"], answer["results"][0]["code"]) == (True, PHONE)
            took.append(answer["took_ms"])
        status = engine.status()
        assert (status.health, status.ready) == ("away", False)
        assert status.problem
        print(f"searches while the server is stopped: {took} ms")
    finally:
        server.resume()
    wait_until(lambda: not service.search("celular")["degraded"], seconds=PATIENCE, what="the index answers again")
    assert engine.status().ready


# --- the audit -------------------------------------------------------------------------------------------------------
def test_what_was_broken_by_hand_is_found_and_mended_and_nothing_else(
    engine: SearchEngine, catalogue: Database, raw: Elasticsearch
) -> None:
    build(catalogue, engine)
    assert audited(catalogue, engine)
    (index,) = raw.indices.get_alias(name=ALIAS)
    _spoil(raw, index, PHONE)
    found = indexing.audit(catalogue, engine, on_step=lambda *_: None)
    assert (found.stale_codes, found.missing, found.extra, found.ok) == ([PHONE], 0, 0, False)
    assert indexing.update(catalogue, engine, [PHONE]).updated == 1
    assert audited(catalogue, engine)
    raw.delete_by_query(index=index, query={"term": {"code": HEADPHONES}}, refresh=True)
    found = indexing.audit(catalogue, engine, on_step=lambda *_: None)
    assert (found.missing_codes, found.stale, found.extra) == ([HEADPHONES], 0, 0)
    assert indexing.update(catalogue, engine, [HEADPHONES]).updated == 1
    assert audited(catalogue, engine)


def _spoil(raw: Elasticsearch, index: str, code: str) -> None:
    (hit,) = raw.search(index=index, query={"term": {"code": code}}, version=True)["hits"]["hits"]
    raw.index(index=index, id=hit["_id"], document=hit["_source"] | {"hash": "spoiled"}, refresh=True)
