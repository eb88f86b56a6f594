"""What is Elasticsearch's alone: its settings, mapping and neighbours, who may write, and how it is reached."""

from __future__ import annotations

import base64
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from uuid import uuid4

import pytest
from core.tests.search.tariff import LINES, add_keyword, build, fill
from elasticsearch import BadRequestError
from structlog.testing import capture_logs

from sicargabox_core.db import Database
from sicargabox_core.errors import Conflict, DataFault, Unavailable
from sicargabox_core.search import elasticsearch_mapping, indexing
from sicargabox_core.search.documents import iter_documents
from sicargabox_core.search.elasticsearch_engine import ElasticsearchEngine
from sicargabox_core.search.elasticsearch_errors import Refused
from sicargabox_core.search.elasticsearch_generations import Generations
from sicargabox_core.search.engine import Filters, Lookup, Proof
from sicargabox_core.search.service import SearchService
from sicargabox_core.settings import Settings, load_settings
from tests.search_laws.place import ElasticsearchPlace
from tests.servers.elasticsearch import remove_indexes
from tests.servers.elasticsearch_fake import FakeElasticsearch
from tests.servers.ports import free_port
from tests.settings import REPOSITORY

PHONE = "8517130000"
API_KEY = "a2V5OmZvcnRlc3Rz"


@pytest.fixture
def place(elasticsearch_url: str) -> Iterator[ElasticsearchPlace]:
    """An alias of this test alone."""
    place = ElasticsearchPlace(elasticsearch_url, f"engine-{uuid4().hex[:12]}")
    yield place
    remove_indexes(place.url, place.alias)
    place.close()


@pytest.fixture
def engine(place: ElasticsearchPlace) -> ElasticsearchEngine:
    return place.engine()


@pytest.fixture
def catalogue(sqlite_url: str) -> Iterator[Database]:
    """The small tariff."""
    database = Database(sqlite_url)
    fill(database)
    yield database
    database.dispose()


def audited(database: Database, engine: ElasticsearchEngine) -> bool:
    return indexing.audit(database, engine, on_step=lambda *_: None).ok


# --- the index -------------------------------------------------------------------------------------------------------
def test_what_is_set_for_the_load_is_set_back_before_the_index_serves(
    place: ElasticsearchPlace, catalogue: Database
) -> None:
    engine = ElasticsearchEngine(
        load_settings(search_url=place.url, search_index=place.alias, search_replicas=1, search_timeout_seconds=10)
    )
    seen: list[tuple[str | None, str | None]] = []

    def look(_: int) -> None:
        told = place.client.indices.get_settings(index=f"{place.alias}-first")[f"{place.alias}-first"]
        index = told["settings"]["index"]
        seen.append((index.get("refresh_interval"), index.get("number_of_replicas")))

    with catalogue.read() as session:
        engine.rebuild(iter_documents(session), generation="first", on_progress=look, publish=nullcontext)
    look(0)
    assert set(seen[:-1]) == {("-1", "0")}
    assert seen[-1] == (None, "1")
    # The copy has no second node to be on.
    assert engine.status().health == "yellow"


def test_a_field_that_the_mapping_does_not_know_is_refused(
    place: ElasticsearchPlace, engine: ElasticsearchEngine, catalogue: Database
) -> None:
    build(catalogue, engine)
    with pytest.raises(BadRequestError, match="strict_dynamic_mapping"):
        place.client.index(index=place.alias, id="1", document={"code": "1", "surprise": "x"})


@pytest.mark.parametrize(
    ("analyser", "text", "tokens"),
    [
        ("es", "Teléfonos móviles", ["telefon", "movil"]),
        ("en", "Women's headphones", ["women", "headphon"]),
        (
            "beginnings",
            "audifono\x1faudífono\x1fes",
            ["a", "au", "aud", "audi", "audif", "audifo", "audifon", "audifono"],
        ),
        ("stems", "~telefon ^phone", ["~telefon", "^phone"]),
    ],
)
def test_the_analysers_do_what_their_names_say(
    place: ElasticsearchPlace,
    engine: ElasticsearchEngine,
    catalogue: Database,
    analyser: str,
    text: str,
    tokens: list[str],
) -> None:
    build(catalogue, engine)
    told = place.client.indices.analyze(index=place.alias, analyzer=analyser, text=text)
    assert [one["token"] for one in told["tokens"]] == tokens


def test_an_index_with_another_release_s_mapping_is_answered_from_and_not_written_until_it_is_built_anew(
    place: ElasticsearchPlace, engine: ElasticsearchEngine, catalogue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(elasticsearch_mapping, "MAPPING_HASH", "0" * 16)
        build(catalogue, engine)
    assert "mapping of another release" in (engine.status().problem or "")
    assert engine.candidates(Lookup(code=PHONE), 200, Filters())
    with pytest.raises(Conflict, match="Rebuild the index"):
        engine.replace([PHONE], [])
    build(catalogue, engine, "second")
    assert engine.status().problem is None
    assert indexing.update(catalogue, engine, [PHONE]).updated == 1


def test_indexes_of_an_installation_whose_alias_begins_like_ours_are_let_alone(
    place: ElasticsearchPlace, engine: ElasticsearchEngine, catalogue: Database
) -> None:
    neighbour = ElasticsearchPlace(place.url, f"{place.alias}-two")
    for name in ("a", "b"):
        build(catalogue, neighbour.engine(), name)
    for name in ("first", "second", "third"):
        build(catalogue, engine, name)
    assert engine.status().building == []
    assert engine.delete("third", publish=nullcontext) == len(LINES)
    assert neighbour.generations() == {"a", "b"}
    assert audited(catalogue, neighbour.engine())
    neighbour.close()


def test_an_index_whose_state_was_removed_by_hand_is_mended_by_a_rebuild(
    place: ElasticsearchPlace, engine: ElasticsearchEngine, catalogue: Database
) -> None:
    build(catalogue, engine)
    place.client.indices.delete(index=f"{place.alias}-state")
    status = place.engine().status()
    assert (status.ready, status.health) == (False, "red")
    with pytest.raises(Conflict, match="Rebuild the index"):
        engine.replace([PHONE], [])
    build(catalogue, engine, "second")
    add_keyword(catalogue, PHONE, "telefonito")
    assert indexing.update(catalogue, engine, [PHONE]).updated == 1
    assert audited(catalogue, engine)


def test_of_an_index_whose_state_was_removed_by_hand_it_is_told_what_serves_and_it_can_be_deleted(
    place: ElasticsearchPlace, engine: ElasticsearchEngine, catalogue: Database
) -> None:
    build(catalogue, engine)
    before = engine.status()
    place.client.indices.delete(index=f"{place.alias}-state")
    status = engine.status()
    assert (status.generation, status.documents, status.size) == ("first", len(LINES), before.size)
    assert [(one.name, one.role, one.documents) for one in status.generations] == [("first", "serving", len(LINES))]
    assert (status.proof, status.built_at) == (None, None)
    assert status.problem == "nothing is known of the index that serves. Rebuild the index."
    assert status.fault == "unreadable"
    with pytest.raises(Conflict, match="does not serve"):
        engine.delete("another", publish=nullcontext)
    assert engine.delete("first", publish=nullcontext) == len(LINES)
    assert place.generations() == set()


def test_an_alias_on_several_indexes_is_told_with_their_names_and_answers_nothing_until_it_is_on_one(
    place: ElasticsearchPlace, engine: ElasticsearchEngine, catalogue: Database
) -> None:
    build(catalogue, engine)
    build(catalogue, engine, "second")
    service = SearchService(catalogue, settings_of(place, place.url), engine=engine)
    assert service.search("audífonos")["degraded"] is False
    first = f"{place.alias}-first"
    place.client.indices.put_alias(index=first, name=place.alias)
    engine._reader.forget()
    assert service.search("audífonos")["degraded"] is True
    for status in (engine.status(), place.engine().status()):
        assert (status.ready, status.health, status.fault, status.generation) == (False, "red", "several_indexes", None)
        assert {(one.name, one.role) for one in status.generations} == {("first", "serving"), ("second", "serving")}
        assert f"({first}, {place.alias}-second). Leave it on the newest" in (status.problem or "")
    refusals: list[Callable[[], object]] = [
        lambda: audited(catalogue, engine),
        lambda: build(catalogue, engine, "third"),
    ]
    for refused in refusals:
        with pytest.raises(DataFault, match="names several indexes"):
            refused()
    place.client.indices.delete_alias(index=first, name=place.alias)
    assert engine.status().health in ("green", "yellow")
    assert service.search("audífonos")["degraded"] is False


def test_a_record_of_a_release_that_wrote_its_proof_as_a_sentence_still_serves(
    place: ElasticsearchPlace, engine: ElasticsearchEngine, catalogue: Database
) -> None:
    build(catalogue, engine)
    assert engine.status().proof == Proof(given=len(LINES), held=len(LINES))
    place.client.update(
        index=f"{place.alias}-state", id=f"record/{place.alias}-first", doc={"proof": "9 documents given, 9 held"}
    )
    assert (engine.status().ready, engine.status().proof) == (True, None)
    add_keyword(catalogue, PHONE, "telefonito")
    assert indexing.update(catalogue, engine, [PHONE]).updated == 1


def test_an_index_that_has_the_alias_s_name_is_named_at_once_and_stays_as_it_is(
    place: ElasticsearchPlace, engine: ElasticsearchEngine, catalogue: Database
) -> None:
    """Somebody wrote to the alias after a delete: the server made an index of its name."""
    build(catalogue, engine)
    engine.delete("first", publish=nullcontext)
    place.client.index(index=place.alias, document={"a": "line"}, refresh=True)
    status = engine.status()
    assert (status.ready, status.health, status.fault) == (False, "red", "name_taken")
    told: list[int] = []
    with pytest.raises(Conflict) as caught, catalogue.read() as session:
        engine.rebuild(iter_documents(session), generation="second", on_progress=told.append, publish=nullcontext)
    assert status.problem == str(caught.value)
    for part in (f"index is named {place.alias},", "SICARGABOX_SEARCH_INDEX", "Delete that index"):
        assert part in str(caught.value)
    assert (told, place.generations()) == ([], set())
    assert place.client.count(index=place.alias)["count"] == 1
    place.client.indices.delete(index=place.alias)
    assert engine.status().problem == "there is no search index yet. Rebuild the index."
    assert engine.status().fault == "no_index"
    assert build(catalogue, engine, "second") == len(LINES)


def test_a_rebuild_that_finds_the_alias_s_name_taken_when_it_is_done_leaves_nothing(
    place: ElasticsearchPlace, engine: ElasticsearchEngine, catalogue: Database
) -> None:
    def occupy(_: int) -> None:
        place.client.index(index=place.alias, id="1", document={"a": "line"})

    with pytest.raises(Conflict, match="Delete that index"), catalogue.read() as session:
        engine.rebuild(iter_documents(session), generation="first", on_progress=occupy, publish=nullcontext)
    assert place.generations() == set()


def test_a_second_question_fetches_no_line_again_not_even_after_a_swap(
    place: ElasticsearchPlace, catalogue: Database, tmp_path: Path
) -> None:
    road = FakeElasticsearch(place.url)
    road.start()
    try:
        settings = load_settings(search_url=road.url, search_index=place.alias, search_timeout_seconds=10)
        service = SearchService(catalogue, settings)
        build(catalogue, service.engine)
        first = service.search("telefono")
        build(catalogue, service.engine, "second")
        road.asked.clear()
        assert service.search("telefono")["results"] == first["results"]
        assert not [request for request in road.asked if request.path.endswith("/_mget")]
    finally:
        road.stop()


# --- writers ---------------------------------------------------------------------------------------------------------
def test_a_swap_whose_writer_slept_past_its_lock_is_refused_and_the_update_made_meanwhile_stays(
    place: ElasticsearchPlace, engine: ElasticsearchEngine, catalogue: Database, sqlite_url: str
) -> None:
    """It was stopped (SIGSTOP) with the lock, after it had read the journal and before the swap."""
    build(catalogue, engine)
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.search_laws.actor", "rebuild", place.address, sqlite_url, "publish"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline().strip() == "publish"
        writer.send_signal(signal.SIGSTOP)
        add_keyword(catalogue, PHONE, "telefonito")
        assert indexing.update(catalogue, engine, [PHONE]).updated == 1
        writer.send_signal(signal.SIGCONT)
        output, errors = writer.communicate("\n", timeout=60)
    finally:
        writer.kill()
        writer.communicate()
    assert "done" not in output
    assert "another process took the right to write" in errors
    assert engine.status().generation == "first"
    assert engine.vocabulary().knows("telefonito")
    assert audited(catalogue, engine)


def test_a_swap_that_is_on_its_way_when_its_lock_is_taken_over_is_refused_by_the_server(
    place: ElasticsearchPlace, engine: ElasticsearchEngine, catalogue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer looked at the lock the moment before: only what the request itself demands can stop it."""
    build(catalogue, engine)
    change = Generations.change_aliases
    swap = re.compile(rf"{place.alias}-second\+swap-\d+")
    overtaken: list[bool] = []

    def late(self: Generations, actions: list[dict[str, dict[str, object]]]) -> None:
        if len(actions) > 1 and not overtaken:
            overtaken.append(True)
            add_keyword(catalogue, PHONE, "telefonito")
            # Waits until the lock of the swap that never ends expires.
            assert indexing.update(catalogue, place.engine(), [PHONE]).updated == 1
        change(self, actions)

    monkeypatch.setattr(Generations, "change_aliases", late)
    with pytest.raises(Refused, match="swap"), capture_logs() as logs:
        build(catalogue, engine, "second")
    (taken_away,) = [entry["swaps_taken_away"] for entry in logs if entry["event"] == "search.lock_taken_over"]
    assert [bool(swap.fullmatch(name)) for name in taken_away] == [True]
    assert (engine.status().generation, place.generations()) == ("first", {"first"})
    assert audited(catalogue, engine)


# --- how it is reached -----------------------------------------------------------------------------------------------
class TlsRoad(FakeElasticsearch):
    """The way to the server over TLS."""

    def __init__(self, upstream: str, folder: Path) -> None:
        super().__init__(upstream)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"https://localhost:{self._server.server_address[1]}"


def certificate(folder: Path) -> Path:
    """A certificate for localhost that is its own authority."""
    folder.mkdir()
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    made = ["openssl", "req", "-x509", *kind, *names, "-keyout", "server.key", "-out", "server.crt"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder)
    return folder / "server.crt"


@pytest.fixture
def tls(place: ElasticsearchPlace, tmp_path: Path) -> Iterator[TlsRoad]:
    certificate(tmp_path / "tls")
    road = TlsRoad(place.url, tmp_path / "tls")
    road.start()
    yield road
    road.stop()


def settings_of(place: ElasticsearchPlace, url: str, **more: object) -> Settings:
    return load_settings(search_url=url, search_index=place.alias, search_timeout_seconds=10, **more)


def test_over_tls_the_certificate_is_checked_and_the_api_key_sent(
    place: ElasticsearchPlace, tls: TlsRoad, catalogue: Database, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(API_KEY + "\n")
    settings = settings_of(
        place, tls.url, search_ca_file=str(tmp_path / "tls" / "server.crt"), search_api_key_file=str(tmp_path / "key")
    )
    service = SearchService(catalogue, settings)
    assert build(catalogue, service.engine) == len(LINES)
    assert service.search("celular")["engine"] == "elasticsearch"
    assert {request.headers["authorization"] for request in tls.asked} == {f"ApiKey {API_KEY}"}


def test_a_user_and_a_password_sign_in_too(place: ElasticsearchPlace, tls: TlsRoad, tmp_path: Path) -> None:
    settings = settings_of(
        place,
        tls.url,
        search_ca_file=str(tmp_path / "tls" / "server.crt"),
        search_username="elastic",
        search_password="pä:ss",
    )
    assert ElasticsearchEngine(settings).status().health == "red"
    signed_in = base64.b64encode("elastic:pä:ss".encode()).decode()
    assert {request.headers["authorization"] for request in tls.asked} == {f"Basic {signed_in}"}


@pytest.mark.parametrize("authority", ["", "another"])
def test_a_certificate_of_nobody_we_trust_ends_the_conversation_before_the_key_is_told(
    place: ElasticsearchPlace, tls: TlsRoad, catalogue: Database, tmp_path: Path, authority: str
) -> None:
    file = str(certificate(tmp_path / authority)) if authority else ""
    engine = ElasticsearchEngine(settings_of(place, tls.url, search_ca_file=file, search_api_key=API_KEY))
    with pytest.raises(Unavailable, match="SICARGABOX_SEARCH_CA_FILE") as caught:
        build(catalogue, engine)
    assert API_KEY not in str(caught.value)
    assert tls.asked == []


def test_of_several_nodes_one_that_is_down_is_not_noticed(place: ElasticsearchPlace, catalogue: Database) -> None:
    settings = settings_of(place, f"http://127.0.0.1:{free_port()};{place.url}")
    service = SearchService(catalogue, settings)
    assert build(catalogue, service.engine) == len(LINES)
    assert {service.search("celular")["degraded"] for _ in range(20)} == {False}
