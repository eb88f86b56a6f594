"""An Elasticsearch that misbehaves: what its errors say, and that searches are answered meanwhile and after.

The server before the real one does what a real one cannot be made to do, or only by chance.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
import structlog
from core.tests.search.tariff import LINES, add_keyword, build, fill
from pydantic import SecretStr
from services.api.tests.running import serving
from structlog.testing import capture_logs

from sicargabox_core.db import Database, migrate
from sicargabox_core.errors import InvalidSetting, SicargaBoxError, TaskFailed, Unavailable
from sicargabox_core.search import indexing
from sicargabox_core.search.engine import EngineStatus, Filters, Lookup, SearchEngine
from sicargabox_core.search.service import SearchService, make_engine
from sicargabox_core.settings import Settings, load_settings
from tests.servers.elasticsearch import remove_indexes
from tests.servers.elasticsearch_fake import (
    RED,
    BulkItems,
    FakeElasticsearch,
    Fault,
    broken,
    cut,
    lookalike,
    of_version,
    refusing,
    something_else,
)
from tests.servers.ports import free_port, wait_until

API_KEY = "Z2VoZWltZXItc2NobHVlc3NlbDpuaWVtYW5kLXNpZWh0LWlobg=="
QUERY = "audífonos bluetooth"
HEADPHONES = "8518300000"
PATIENCE = 20.0
UNAUTHORIZED = refusing(401, "security_exception", f"unable to authenticate with [ApiKey {API_KEY}]")
FORBIDDEN = refusing(
    403, "security_exception", "action [indices:data/read/search] is unauthorized for API key", path="^/.+"
)

# Each makes a server that gives no answer one can use, and what people are told of it. Those of the second kind only
# somebody who looks anew notices.
Kind = tuple[Callable[[FakeElasticsearch], Fault], str]
AWAY: dict[str, Kind] = {
    "hanging": (lambda fake: fake.hang, "in time"),
    "slow by 5 s": (lambda fake: fake.slow(5), "in time"),
    "red": (lambda _: RED, "all shards failed"),
    "answers cut": (lambda _: cut, "SICARGABOX_SEARCH_URL"),
    "too many requests": (lambda _: refusing(429, "es_rejected_execution_exception", "queue capacity"), "queue"),
    "a proxy without a server": (lambda _: refusing(502, "bad_gateway", "no server"), "no server"),
}
WRONG: dict[str, Kind] = {
    "unauthorized": (lambda _: UNAUTHORIZED, "SICARGABOX_SEARCH_API_KEY"),
    "forbidden": (lambda _: FORBIDDEN, "SICARGABOX_SEARCH_API_KEY"),
    "version 8": (lambda _: of_version("8.19.3"), "8.19.3"),
    "version 10": (lambda _: of_version("10.0.1"), "10.0.1"),
    "another web server": (lambda _: something_else, "SICARGABOX_SEARCH_URL"),
    "a fork": (lambda _: lookalike, "SICARGABOX_SEARCH_URL"),
}


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    # Each search that SQL answers is a line.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def fake(elasticsearch_url: str) -> Iterator[FakeElasticsearch]:
    """A well server; tests have it misbehave for a while."""
    fake = FakeElasticsearch(elasticsearch_url)
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture(scope="module")
def settings(
    elasticsearch_url: str, fake: FakeElasticsearch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Settings that lead to it, with a key that nobody must see and an alias of this module alone."""
    alias = f"faults-{uuid4().hex[:12]}"
    folder = tmp_path_factory.mktemp("faults")
    yield load_settings(
        search_url=fake.url,
        search_index=alias,
        search_api_key=SecretStr(API_KEY),
        data_dir=folder,
        database_url=f"sqlite:///{folder / 'sicargabox.db'}",
    )
    remove_indexes(elasticsearch_url, alias)


@pytest.fixture(scope="module")
def catalogue(settings: Settings) -> Iterator[Database]:
    """The small tariff."""
    database = Database.from_settings(settings)
    migrate(database)
    fill(database)
    yield database
    database.dispose()


@pytest.fixture(scope="module")
def _first_generation(settings: Settings, catalogue: Database) -> None:
    build(catalogue, make_engine(settings))


@pytest.fixture
def engine(settings: Settings, _first_generation: None) -> SearchEngine:
    """An engine that has asked nothing yet; a generation serves."""
    return make_engine(settings)


@pytest.fixture
def service(settings: Settings, catalogue: Database, engine: SearchEngine) -> SearchService:
    """A search over it."""
    service = SearchService(catalogue, settings, engine=engine)
    assert recovers(service)
    return service


@pytest.fixture
def before(fake: FakeElasticsearch, engine: SearchEngine) -> EngineStatus:
    """How the index was before a rebuild that fails."""
    return wait_until(
        lambda: status if (status := engine.status()).ready else None, seconds=PATIENCE, what="the index answers"
    )


def codes(service: SearchService) -> list[str]:
    return [result["code"] for result in service.search(QUERY)["results"]]


def raised(act: Callable[[], object]) -> SicargaBoxError:
    """What ``act`` raises; neither it nor the log shows the key."""
    with capture_logs() as logs, pytest.raises(SicargaBoxError) as told:
        act()
    assert API_KEY not in f"{told.value} {told.value.remedy} {told.value!r} {logs}"
    return told.value


def look(engine: SearchEngine) -> object:
    return engine.vocabulary(), engine.candidates(Lookup(code="8518"), 10, Filters())


def recovers(service: SearchService) -> bool:
    """By itself: nobody tells it, people go on searching."""
    wait_until(lambda: not service.search(QUERY)["degraded"], seconds=PATIENCE, what="the index answers again")
    return codes(service)[0] == HEADPHONES and not service.suggest("audif")["degraded"]


# --- searching -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", AWAY)
def test_searches_are_answered_from_sql_while_the_server_is_not_well_and_it_recovers_by_itself(
    fake: FakeElasticsearch, service: SearchService, name: str
) -> None:
    fault, told = AWAY[name]
    with fake.misbehaving(fault(fake)), capture_logs() as logs:
        took = []
        for _ in range(5):
            answer = service.search(QUERY)
            assert (answer["degraded"], answer["engine"]) == (True, "sql")
            assert HEADPHONES in [result["code"] for result in answer["results"]]
            took.append(answer["took_ms"])
        assert service.suggest("audif")["degraded"]
        status = service.engine.status()
        assert told in (status.problem or "")
        assert API_KEY not in f"{logs} {status}"
        print(f"{name}: {took} ms; {status.health}: {status.problem}")
    assert recovers(service)


@pytest.mark.parametrize("name", WRONG)
def test_searches_are_answered_from_sql_while_the_server_is_not_ours_to_use(
    fake: FakeElasticsearch, settings: Settings, catalogue: Database, engine: SearchEngine, name: str
) -> None:
    assert engine.status().ready
    fault, told = WRONG[name]
    with fake.misbehaving(fault(fake)), capture_logs() as logs:
        service = SearchService(catalogue, settings)
        answer = service.search(QUERY)
        assert (answer["degraded"], answer["engine"]) == (True, "sql")
        assert HEADPHONES in [result["code"] for result in answer["results"]]
        assert service.suggest("audif")["degraded"]
        status = service.engine.status()
        assert not status.ready
        assert told in (status.problem or "")
        assert API_KEY not in f"{logs} {status}"
        print(f"{name}: {answer['took_ms']} ms; {status.health}: {status.problem}")
    assert recovers(service)


def test_a_hanging_server_costs_few_searches_their_time(fake: FakeElasticsearch, service: SearchService) -> None:
    """The breaker: most searches do not even ask."""
    with fake.misbehaving(fake.hang):
        before = len(fake.asked)
        for _ in range(200):
            assert service.search(QUERY)["degraded"]
        assert len(fake.asked) - before <= 20
    assert recovers(service)


def fetch(engine: SearchEngine) -> object:
    return engine.candidates(Lookup(code="8518"), 10, Filters())


def is_asked(fake: FakeElasticsearch, engine: SearchEngine) -> bool:
    """Whether a search that ends without an answer has asked the server at all."""
    before = len(fake.asked)
    raised(lambda: fetch(engine))
    return any(request.path.endswith("/_search") for request in fake.asked[before:])


def test_a_late_answer_is_no_outage_and_several_in_a_row_are(fake: FakeElasticsearch, service: SearchService) -> None:
    engine = service.engine
    for _ in range(2):
        wait_until(lambda: answers(engine), seconds=PATIENCE, what="the index answers")
        with fake.misbehaving(fake.hang):
            assert [is_asked(fake, engine) for _ in range(2)] == [True, True]
    with fake.misbehaving(fake.hang):
        assert [is_asked(fake, engine) for _ in range(2)] == [True, False]
    assert recovers(service)


def answers(engine: SearchEngine) -> bool:
    try:
        return bool(fetch(engine))
    except Unavailable:
        return False


def test_a_connection_that_breaks_is_an_outage_at_once(fake: FakeElasticsearch, service: SearchService) -> None:
    with fake.misbehaving(broken):
        assert [is_asked(fake, service.engine) for _ in range(2)] == [True, False]
    assert recovers(service)


def test_an_audit_waits_longer_than_a_search_for_a_server_that_is_busy(
    fake: FakeElasticsearch, settings: Settings, catalogue: Database, engine: SearchEngine
) -> None:
    assert engine.status().ready
    with fake.misbehaving(fake.slow(settings.search_timeout_seconds * 2)):
        assert indexing.audit(catalogue, make_engine(settings), on_step=lambda *_: None).ok


@pytest.mark.parametrize("name", ["hanging", "version 8"])
def test_the_api_stays_ready_and_answers_in_time_whatever_the_server_does(
    fake: FakeElasticsearch, settings: Settings, engine: SearchEngine, redis_url: str, name: str
) -> None:
    assert engine.status().ready
    with serving(load_settings(**settings.model_dump(exclude_unset=True) | {"redis_url": redis_url})) as api:
        visitor = api.visitor()
        fault, _ = (AWAY | WRONG)[name]
        with fake.misbehaving(fault(fake)):
            answers = [visitor.get("/api/v1/search", params={"q": QUERY}) for _ in range(3)]
            ready = visitor.get("/readyz")
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert all(answer.json()["degraded"] and answer.json()["results"] for answer in answers)
        print(f"{name}: {[round(answer.elapsed.total_seconds() * 1000) for answer in answers]} ms over HTTP")
        assert (ready.status_code, ready.json()["status"], ready.json()["search"]) == (200, "ready", "away")
        wait_until(
            lambda: not visitor.get("/api/v1/search", params={"q": QUERY}).json()["degraded"],
            seconds=PATIENCE,
            what="the index answers again",
        )
        assert visitor.get("/readyz").json()["search"] == "ok"


def test_nobody_listening_is_one_clear_error(settings: Settings) -> None:
    engine = make_engine(settings.model_copy(update={"search_url": f"http://127.0.0.1:{free_port()}"}))
    error = raised(lambda: look(engine))
    assert isinstance(error, Unavailable)
    status = engine.status()
    assert (status.ready, status.health) == (False, "away")
    assert status.problem


# --- what errors say -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", [UNAUTHORIZED, FORBIDDEN])
def test_a_key_that_is_refused_is_an_error_of_its_setting(
    fake: FakeElasticsearch, settings: Settings, catalogue: Database, fault: Fault
) -> None:
    """A writer's will not be mended by another attempt; a reader's is one more reason to answer from SQL."""
    with fake.misbehaving(fault):
        reading = raised(lambda: look(make_engine(settings)))
        writing = raised(lambda: build(catalogue, make_engine(settings)))
    assert (type(reading), type(writing), writing.retryable) == (Unavailable, InvalidSetting, False)
    for error in (reading, writing):
        assert (error.field or "").startswith("SICARGABOX_SEARCH_")
        assert error.remedy


@pytest.mark.parametrize("number", ["8.19.3", "10.0.1", "7.10.2"])
def test_a_server_of_another_major_version_is_named_with_both_versions(
    fake: FakeElasticsearch, settings: Settings, catalogue: Database, number: str
) -> None:
    with fake.misbehaving(of_version(number)):
        for act in (lambda: look(make_engine(settings)), lambda: build(catalogue, make_engine(settings))):
            error = raised(act)
            assert number in str(error)
            assert re.search(r"\b9\b", str(error).replace(number, ""))
            assert error.remedy
        problem = make_engine(settings).status().problem or ""
        assert number in problem


@pytest.mark.parametrize("fault", [something_else, lookalike])
def test_a_server_that_is_no_elasticsearch_is_an_error_of_its_address(
    fake: FakeElasticsearch, settings: Settings, catalogue: Database, fault: Fault
) -> None:
    with fake.misbehaving(fault):
        for act in (lambda: look(make_engine(settings)), lambda: build(catalogue, make_engine(settings))):
            error = raised(act)
            assert "SICARGABOX_SEARCH_URL" in str(error)
            assert "Elasticsearch" in str(error)


def test_the_key_is_sent_and_told_nobody(fake: FakeElasticsearch, engine: SearchEngine, settings: Settings) -> None:
    look(engine)
    assert {request.headers.get("authorization") for request in fake.asked} == {f"ApiKey {API_KEY}"}
    assert API_KEY not in f"{settings!r} {engine!r} {engine.status()}"


# --- writing ---------------------------------------------------------------------------------------------------------
def serves_the_old(before: EngineStatus, settings: Settings) -> bool:
    """The same generation serves whole, and nothing is left of another."""
    engine = make_engine(settings)
    wait_until(lambda: engine.status().ready, seconds=PATIENCE, what="the index answers")
    now = engine.status()
    return (
        (now.generation, now.number, now.documents) == (before.generation, before.number, len(LINES))
        and len(dict(engine.hashes())) == len(LINES)
        and {one.name for one in now.generations} <= {one.name for one in before.generations}
    )


@pytest.mark.parametrize("name", ["red", "answers cut", "too many requests"])
def test_a_rebuild_on_a_server_that_is_not_well_may_be_tried_again_and_leaves_the_old_index(
    fake: FakeElasticsearch, settings: Settings, catalogue: Database, before: EngineStatus, name: str
) -> None:
    fault, told = AWAY[name]
    with fake.misbehaving(fault(fake)):
        error = raised(lambda: build(catalogue, make_engine(settings), "refused"))
    assert (type(error), error.retryable) == (Unavailable, True)
    assert told in str(error)
    assert serves_the_old(before, settings)
    assert build(catalogue, make_engine(settings), f"fresh-{uuid4().hex}") == len(LINES)


def test_an_update_on_a_server_that_is_not_well_may_be_tried_again_and_is_made_then(
    fake: FakeElasticsearch, catalogue: Database, engine: SearchEngine
) -> None:
    add_keyword(catalogue, HEADPHONES, "orejeras de música")
    for fault in (RED, cut):
        with fake.misbehaving(fault):
            error = raised(lambda: indexing.update(catalogue, engine, [HEADPHONES]))
        assert (type(error), error.retryable) == (Unavailable, True)
    assert indexing.update(catalogue, engine, [HEADPHONES]).updated == 1
    assert indexing.audit(catalogue, engine, on_step=lambda *_: None).ok


def test_lines_that_a_busy_server_refuses_are_written_at_last(
    fake: FakeElasticsearch, catalogue: Database, engine: SearchEngine
) -> None:
    busy = BulkItems(429, "es_rejected_execution_exception", "queue capacity", times=2)
    with fake.misbehaving(busy):
        assert build(catalogue, engine, f"fresh-{uuid4().hex}") == len(LINES)
    assert busy.refused >= 2
    assert indexing.audit(catalogue, engine, on_step=lambda *_: None).ok


def test_a_server_that_is_always_busy_ends_the_attempt_and_not_the_task(
    fake: FakeElasticsearch, settings: Settings, catalogue: Database, before: EngineStatus
) -> None:
    with fake.misbehaving(BulkItems(429, "es_rejected_execution_exception", "queue capacity")):
        error = raised(lambda: build(catalogue, make_engine(settings), "refused"))
    assert (type(error), error.retryable) == (Unavailable, True)
    assert serves_the_old(before, settings)


def test_a_line_that_the_server_does_not_take_is_named_and_the_old_index_serves(
    fake: FakeElasticsearch, settings: Settings, catalogue: Database, before: EngineStatus
) -> None:
    with fake.misbehaving(BulkItems(400, "document_parsing_exception", "[1:9] failed to parse field [own]")):
        error = raised(lambda: build(catalogue, make_engine(settings), "refused"))
    assert (type(error), error.retryable) == (TaskFailed, False)
    assert "failed to parse" in str(error)
    assert any(line in str(error) for line in LINES)
    assert serves_the_old(before, settings)


def test_lines_that_vanish_after_they_were_taken_are_missed_before_the_swap(
    fake: FakeElasticsearch, settings: Settings, catalogue: Database, before: EngineStatus
) -> None:
    """The count is the server's own: what was told written and is not there keeps the new index out."""
    with fake.misbehaving(BulkItems(201, "none", "none")), pytest.raises(TaskFailed, match="holds .* of 13"):
        build(catalogue, make_engine(settings), "refused")
    assert serves_the_old(before, settings)
