"""The laws of an index generation, for every engine. A test module says which by the fixtures ``place`` and ``engine``.

``catalogue`` is the small tariff on whatever databases the module has, ``sqlite_catalogue`` on SQLite alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
from core.tests.search.tariff import LINES, add_keyword, build
from sqlalchemy import update

from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import Conflict, InvalidInput, TaskFailed, Unavailable
from sicargabox_core.search import indexing
from sicargabox_core.search.document import TariffDocument
from sicargabox_core.search.documents import iter_documents
from sicargabox_core.search.engine import Filters, Generation, Lookup, Proof, SearchEngine
from tests.search_laws.place import Place


def documents_of(database: Database) -> list[TariffDocument]:
    with database.read() as session:
        return list(iter_documents(session))


def found(engine: SearchEngine, code: str) -> list[str]:
    return [candidate.code for candidate in engine.candidates(Lookup(code=code), 200, Filters())]


def retire(database: Database, code: str) -> None:
    with database.write() as session:
        session.execute(update(TariffLine).where(TariffLine.code == code).values(retired_at=db_now()))


class GenerationLaws:
    """Building, swapping, updating, auditing and deleting."""

    def test_a_rebuild_holds_every_line_that_can_be_declared(self, catalogue: Database, engine: SearchEngine) -> None:
        assert build(catalogue, engine) == len(LINES)
        assert sorted(code for code, _ in engine.hashes()) == sorted(LINES)
        status = engine.status()
        assert (status.ready, status.documents, status.generation, status.building) == (True, len(LINES), "first", [])

    def test_without_an_index_the_engine_says_so(self, engine: SearchEngine) -> None:
        with pytest.raises(Unavailable, match="no search index yet"):
            engine.vocabulary()
        status = engine.status()
        assert (status.ready, status.health, status.generations) == (False, "red", [])
        assert status.version

    def test_the_status_tells_of_every_generation(
        self, sqlite_catalogue: Database, engine: SearchEngine, place: Place
    ) -> None:
        build(sqlite_catalogue, engine, "first")
        first = engine.status()
        assert first.proof == Proof(given=len(LINES), held=len(LINES))
        assert (first.health, first.generations) == (
            "green",
            [Generation("first", "serving", len(LINES), first.size, first.built_at)],
        )
        retire(sqlite_catalogue, "8517140000")
        indexing.update(sqlite_catalogue, engine, ["8517140000"])

        def seen_from_within(_: int) -> None:
            generations = place.engine().status().generations
            assert [(one.name, one.role) for one in generations] == [("first", "serving"), ("second", "building")]

        engine.rebuild(
            documents_of(sqlite_catalogue), generation="second", on_progress=seen_from_within, publish=nullcontext
        )
        serving, previous = engine.status().generations
        assert (serving.name, serving.role) == ("second", "serving")
        assert (previous.name, previous.role, previous.documents, previous.built_at) == (
            "first",
            "previous",
            len(LINES) - 1,
            first.built_at,
        )
        assert previous.size

    def test_a_deleted_index_is_gone_whole(
        self, sqlite_catalogue: Database, engine: SearchEngine, place: Place
    ) -> None:
        build(sqlite_catalogue, engine, "first")
        build(sqlite_catalogue, engine, "second")
        reader = place.engine()
        assert found(reader, "8517130000")
        assert engine.delete("second", publish=nullcontext) == len(LINES)
        assert place.generations() == set()
        with pytest.raises(Unavailable, match="no search index yet"):
            found(reader, "8517130000")
        assert engine.delete("second", publish=nullcontext) == 0
        build(sqlite_catalogue, engine, "third")
        assert (reader.status().generation, reader.status().previous) == ("third", None)
        assert found(reader, "8517130000")

    def test_only_the_generation_that_serves_is_deleted(self, sqlite_catalogue: Database, engine: SearchEngine) -> None:
        build(sqlite_catalogue, engine, "first")
        build(sqlite_catalogue, engine, "second")
        before = engine.status()
        with pytest.raises(Conflict, match="second does") as refused:
            engine.delete("first", publish=nullcontext)
        assert refused.value.field == "generation"
        assert engine.status() == before

    def test_a_delete_that_may_not_publish_changes_nothing(
        self, sqlite_catalogue: Database, engine: SearchEngine
    ) -> None:
        build(sqlite_catalogue, engine)

        def fenced() -> AbstractContextManager[object]:
            raise TaskFailed("another attempt has the row")

        with pytest.raises(TaskFailed, match="another attempt"):
            engine.delete("first", publish=fenced)
        assert (engine.status().generation, engine.status().documents) == ("first", len(LINES))

    def test_one_previous_generation_is_kept_and_older_ones_go(
        self, sqlite_catalogue: Database, engine: SearchEngine, place: Place
    ) -> None:
        for name in ("first", "second", "third"):
            build(sqlite_catalogue, engine, name)
        assert place.generations() == {"second", "third"}
        assert engine.status().previous == "second"

    def test_the_number_of_the_pointer_only_grows(self, sqlite_catalogue: Database, engine: SearchEngine) -> None:
        numbers = []
        for name in ("first", "second"):
            build(sqlite_catalogue, engine, name)
            numbers.append(engine.status().number)
            indexing.update(sqlite_catalogue, engine, ["8517130000"])
            numbers.append(engine.status().number)
        assert numbers == sorted(set(numbers))

    @pytest.mark.parametrize(
        "fault", [RuntimeError("stopped"), OSError(28, "No space left on device"), KeyboardInterrupt()]
    )
    def test_whatever_stops_a_rebuild_leaves_the_old_index(
        self, sqlite_catalogue: Database, engine: SearchEngine, place: Place, fault: BaseException
    ) -> None:
        build(sqlite_catalogue, engine)

        def broken() -> Iterator[TariffDocument]:
            yield from documents_of(sqlite_catalogue)[:3]
            raise fault

        with pytest.raises((type(fault), Unavailable)):
            engine.rebuild(broken(), generation="second", on_progress=lambda _: None, publish=nullcontext)
        assert place.generations() == {"first"}
        assert engine.status().documents == len(LINES)
        assert found(engine, "8517130000") == ["8517130000"]

    @pytest.mark.parametrize("fails_at", [1, 2])
    def test_an_attempt_that_may_not_publish_changes_nothing(
        self, sqlite_catalogue: Database, engine: SearchEngine, place: Place, fails_at: int
    ) -> None:
        build(sqlite_catalogue, engine)

        entered: list[str] = []

        def fenced() -> AbstractContextManager[object]:
            entered.append("publish")
            if len(entered) == fails_at:
                raise TaskFailed("another attempt has the row")
            return nullcontext()

        with pytest.raises(TaskFailed, match="another attempt"):
            engine.rebuild(
                documents_of(sqlite_catalogue)[:1], generation="second", on_progress=lambda _: None, publish=fenced
            )
        assert (engine.status().generation, place.generations()) == ("first", {"first"})

    def test_an_index_that_lost_a_document_is_never_put_into_service(
        self, sqlite_catalogue: Database, engine: SearchEngine, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        build(sqlite_catalogue, engine)
        place.lose_a_document(monkeypatch)
        with pytest.raises(TaskFailed, match="holds 13 documents of 14"):
            build(sqlite_catalogue, engine, "second")
        assert (engine.status().generation, place.generations()) == ("first", {"first"})

    def test_an_empty_catalogue_never_replaces_an_index(self, sqlite_catalogue: Database, engine: SearchEngine) -> None:
        build(sqlite_catalogue, engine)
        with pytest.raises(TaskFailed, match="no tariff line"):
            engine.rebuild([], generation="second", on_progress=lambda _: None, publish=nullcontext)
        assert engine.status().generation == "first"

    def test_leftovers_of_a_crashed_build_go_with_the_next_one(
        self, sqlite_catalogue: Database, engine: SearchEngine, place: Place
    ) -> None:
        build(sqlite_catalogue, engine)
        place.leave_crashed("crashed")
        assert engine.status().building == ["crashed"]
        build(sqlite_catalogue, engine, "second")
        assert place.generations() == {"first", "second"}

    @pytest.mark.parametrize("name", ["", "../elsewhere", "a/b", ".hidden", "x" * 101])
    def test_a_generation_has_a_harmless_name(
        self, sqlite_catalogue: Database, engine: SearchEngine, name: str
    ) -> None:
        with pytest.raises(InvalidInput, match="generation"):
            build(sqlite_catalogue, engine, name)

    def test_progress_is_told_between_batches_and_may_stop_the_build(
        self, sqlite_catalogue: Database, engine: SearchEngine, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.set_batch(monkeypatch, 4)
        steps: list[tuple[int, int, str]] = []
        indexing.rebuild(
            sqlite_catalogue,
            engine,
            generation="first",
            on_step=lambda *step: steps.append(step),
            publish=nullcontext,
        )
        assert [current for current, _, _ in steps] == [0, 4, 8, 12, 13]
        assert steps[1] == (4, 13, "4/13 documents indexed")

        class Cancelled(BaseException):
            pass

        def cancel(current: int, *_: object) -> None:
            if current == 8:
                raise Cancelled

        with pytest.raises(Cancelled):
            indexing.rebuild(sqlite_catalogue, engine, generation="second", on_step=cancel, publish=nullcontext)
        assert place.generations() == {"first"}

    def test_an_update_is_seen_at_once_and_only_changes_its_lines(
        self, catalogue: Database, engine: SearchEngine
    ) -> None:
        build(catalogue, engine)
        before = dict(engine.hashes())
        add_keyword(catalogue, "8517130000", "telefonito")
        assert indexing.update(catalogue, engine, ["8517130000"]).updated == 1
        after = dict(engine.hashes())
        assert {code for code in LINES if before[code] != after[code]} == {"8517130000"}
        assert engine.vocabulary().knows("telefonito")

    def test_a_word_on_a_heading_reaches_all_its_lines(self, catalogue: Database, engine: SearchEngine) -> None:
        build(catalogue, engine)
        add_keyword(catalogue, "8518", "sonido")
        assert indexing.update(catalogue, engine, ["8518"]).updated == 3
        lookup = Lookup(stems=(("~sonid", 1.0),))
        assert {item.code for item in engine.candidates(lookup, 200, Filters())} == {
            "8518210000",
            "8518300000",
            "8518900000",
        }

    def test_a_retired_line_leaves_the_index(self, catalogue: Database, engine: SearchEngine) -> None:
        build(catalogue, engine)
        retire(catalogue, "8517140000")
        replaced = indexing.update(catalogue, engine, ["8517140000", "8517130000"])
        assert (replaced.updated, replaced.deleted) == (1, 1)
        assert found(engine, "8517140000") == []
        assert engine.status().documents == len(LINES) - 1

    def test_an_update_tells_which_codes_the_catalogue_never_had(
        self, catalogue: Database, engine: SearchEngine
    ) -> None:
        build(catalogue, engine)
        retire(catalogue, "8517140000")
        known = ["8517140000", "8517130000", "8518", "85"]
        done = indexing.update(catalogue, engine, [*known, "8517.13.00.00", "9999", "x" * 500])
        assert (done.unknown, done.unknown_codes) == (3, ["8517.13.00.00", "9999", "x" * 40])
        invented = [str(9900000000 + number) for number in range(101)]
        done = indexing.update(catalogue, engine, invented)
        assert (done.updated, done.deleted, done.unknown, done.unknown_codes) == (0, 0, 101, invented[:100])

    def test_an_update_twice_changes_nothing_more(self, sqlite_catalogue: Database, engine: SearchEngine) -> None:
        build(sqlite_catalogue, engine)
        indexing.update(sqlite_catalogue, engine, LINES)
        indexing.update(sqlite_catalogue, engine, LINES)
        assert sorted(code for code, _ in engine.hashes()) == sorted(LINES)

    def test_an_update_made_during_a_rebuild_is_in_the_new_index(
        self, sqlite_catalogue: Database, engine: SearchEngine, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        build(sqlite_catalogue, engine)
        stale = documents_of(sqlite_catalogue)
        updater = place.engine()

        def slow() -> Iterator[TariffDocument]:
            yield from stale
            add_keyword(sqlite_catalogue, "8517130000", "telefonito")
            retire(sqlite_catalogue, "8517140000")
            # Another process updates while this one has read the old state of these lines already.
            indexing.update(sqlite_catalogue, updater, ["8517130000", "8517140000"])
            assert updater.vocabulary().knows("telefonito")

        held = engine.rebuild(slow(), generation="second", on_progress=lambda _: None, publish=nullcontext)
        assert held == len(LINES) - 1
        assert (engine.status().generation, engine.status().documents) == ("second", held)
        assert engine.vocabulary().knows("telefonito")
        assert indexing.audit(sqlite_catalogue, engine, on_step=lambda *_: None).ok

    def test_the_update_that_writes_later_has_read_later(
        self, sqlite_catalogue: Database, engine: SearchEngine
    ) -> None:
        """Documents are read under the write lock: a slow update cannot put an older state over a newer one."""
        build(sqlite_catalogue, engine)
        reading, go_on = threading.Event(), threading.Event()

        def slow() -> Iterator[TariffDocument]:
            reading.set()
            assert go_on.wait(20)
            with sqlite_catalogue.read() as session:
                yield from iter_documents(session, ["8517130000"])

        first = threading.Thread(target=lambda: engine.replace(["8517130000"], slow()))
        first.start()
        assert reading.wait(20)
        add_keyword(sqlite_catalogue, "8517130000", "telefonito")
        second = threading.Thread(target=lambda: indexing.update(sqlite_catalogue, engine, ["8517130000"]))
        second.start()
        go_on.set()
        first.join(20)
        second.join(20)
        assert indexing.audit(sqlite_catalogue, engine, on_step=lambda *_: None).ok

    def test_the_audit_counts_what_is_missing_extra_and_stale(self, catalogue: Database, engine: SearchEngine) -> None:
        build(catalogue, engine)
        documents = documents_of(catalogue)
        engine.replace(["6404110000"], [])
        engine.replace([], [documents[0].model_copy(update={"code": "0101210000"})])
        add_keyword(catalogue, "8517130000", "telefonito")
        audit = indexing.audit(catalogue, engine, on_step=lambda *_: None)
        assert (audit.database, audit.index) == (len(LINES), len(LINES))
        assert (audit.missing_codes, audit.extra_codes, audit.stale_codes) == (
            ["6404110000"],
            ["0101210000"],
            ["8517130000"],
        )
        assert not audit.ok
        indexing.update(catalogue, engine, ["6404110000", "0101210000", "8517130000"])
        assert indexing.audit(catalogue, engine, on_step=lambda *_: None).ok

    def test_a_writer_that_cannot_get_the_lock_says_so(
        self, sqlite_catalogue: Database, engine: SearchEngine, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        build(sqlite_catalogue, engine)
        with place.locked(monkeypatch), pytest.raises(Unavailable, match="another process"):
            place.engine().replace(["8517130000"], [])
