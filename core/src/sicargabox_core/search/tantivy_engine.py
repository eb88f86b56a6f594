"""The embedded engine: tantivy indexes in the data folder, shared by one writer at a time and any number of readers.

    search/
        pointer.json               which generation serves; replaced atomically, its number only grows
        write.lock                 held (flock) while a generation changes: it dies with its holder
        generations/<generation>/  tantivy's files, vocabulary.json, built.json, and journal.jsonl while it is built

Readers look at the pointer's file status before every query (a microsecond) and open what it names; an open generation
stays readable after its files are deleted, since they are mapped into memory. A crash at any point leaves the pointer
naming a whole generation; folders it does not name are removed by the next rebuild.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import structlog
import tantivy

from sicargabox_core.errors import Conflict, DataFault, TaskFailed, Unavailable
from sicargabox_core.search import evidence
from sicargabox_core.search.completions import MOST_COMPLETIONS, best_completions, completion_terms, term_prefix
from sicargabox_core.search.document import TariffDocument
from sicargabox_core.search.engine import (
    MOST_CANDIDATES,
    OWN_WEIGHT,
    PARENT_WEIGHT,
    PHRASE_WEIGHT,
    TERM_WEIGHT,
    Candidate,
    Completion,
    EngineStatus,
    Filters,
    Generation,
    Lookup,
    OnProgress,
    Proof,
    Publish,
    Replaced,
    check_generation,
)
from sicargabox_core.search.evidence import OWN, PARENT, TERM, Block, blocks
from sicargabox_core.search.vocabulary import Vocabulary, VocabularyBuilder

log = structlog.get_logger(__name__)

BATCH = 500
# tantivy's least is 15 MB a thread. 32 MB hold the whole tariff in one segment; memory stays flat for longer ones.
_BUILD_HEAP = 32_000_000
_UPDATE_HEAP = 15_000_000
_LOCK_SECONDS = 30.0
_LOCK_POLL = 0.02
_OPEN_ATTEMPTS = 5
# About 2 kB each. The official tariff has 7,505, which take 15 MB; with 4,096 kept, 45 of 100 lines were read anew.
_KEPT_LINES = 16_384
_POINTER, _VOCABULARY, _BUILT, _JOURNAL = "pointer.json", "vocabulary.json", "built.json", "journal.jsonl"


@dataclasses.dataclass(frozen=True)
class Pointer:
    """What ``pointer.json`` says. ``number`` rises with every change of what readers see."""

    number: int
    generation: str
    previous: str | None
    documents: int
    built_at: str
    seconds: float
    proof: Proof | None


@dataclasses.dataclass(frozen=True)
class _Open:
    """A generation as one reader sees it; a later commit does not change it."""

    stamp: tuple[int, int, int]
    pointer: Pointer
    index: tantivy.Index
    searcher: tantivy.Searcher
    vocabulary: Vocabulary
    _read: dict[tuple[int, int], Candidate] = dataclasses.field(default_factory=dict)
    # Lines of a heading share most blocks: one text for all saves two thirds of the memory, and its hash is known.
    _blocks: dict[str, str] = dataclasses.field(default_factory=dict)

    def candidate(self, address: tantivy.DocAddress) -> Candidate:
        """A stored line. Those read last are kept: decompressing one takes longer than scoring it."""
        key = (address.segment_ord, address.doc)
        kept = self._read.get(key)
        if kept is None:
            if len(self._read) >= _KEPT_LINES:
                self._read.clear()
                self._blocks.clear()
            stored = self.searcher.doc(address)
            blocks = evidence.read(bytes(stored.get_first("evidence") or b"").decode())
            kept = Candidate(_text(stored, "code"), tuple([self._blocks.setdefault(block, block) for block in blocks]))
            self._read[key] = kept
        return kept


class TantivyEngine:
    """See ``engine.SearchEngine``; one object per process, safe to use from many threads."""

    name = "tantivy"

    def __init__(self, folder: Path) -> None:
        """Opens nothing yet: the folder may not exist before the first rebuild."""
        self._folder = folder
        self._generations = folder / "generations"
        self._mutex = threading.Lock()
        self._open: _Open | None = None

    # --- writing -----------------------------------------------------------------------------------------------------
    def rebuild(
        self, documents: Iterable[TariffDocument], *, generation: str, on_progress: OnProgress, publish: Publish
    ) -> int:
        """See ``engine.SearchEngine.rebuild``."""
        started = time.monotonic()
        place = self._begin(generation, publish)
        try:
            index = tantivy.Index(_schema(), path=str(place))
            count, vocabulary = _fill(index, documents, on_progress)
            _prove(index, count)
            with self._write_lock():
                held = count + _replay(index, place / _JOURNAL, vocabulary)
                _prove(index, held)
                _write_durably(place / _VOCABULARY, vocabulary.to_json())
                built_at = datetime.now(UTC).isoformat(timespec="seconds")
                _write_durably(place / _BUILT, json.dumps({"built_at": built_at}))
                now = self._pointer_to_replace()
                with publish():
                    self._point(
                        Pointer(
                            number=(now.number if now else 0) + 1,
                            generation=generation,
                            previous=now.generation if now else None,
                            documents=held,
                            built_at=built_at,
                            seconds=round(time.monotonic() - started, 2),
                            proof=Proof(given=count, held=held),
                        )
                    )
                self._remove_unnamed()
        except BaseException as error:
            pointer = self._pointer_to_replace()
            if pointer is None or pointer.generation != generation:
                shutil.rmtree(place, ignore_errors=True)
            if isinstance(error, OSError | ValueError):
                raise self._unwritable(error) from error
            raise
        return held

    def _unwritable(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"the index could not be written: {error}", remedy=f"Look at free space and rights of {self._folder}."
        )

    def _begin(self, generation: str, publish: Publish) -> Path:
        """An empty folder that updates are journalled into from now on; leftovers of crashed builds go first.

        An attempt that woke after another took over must not take that one's unfinished folder for a leftover.
        """
        check_generation(generation)
        with self._write_lock(), publish():
            pointer = self._pointer_to_replace()
            if pointer and generation == pointer.generation:
                raise TaskFailed(f"generation {generation} is serving already")
            self._remove_unnamed()
            place = self._generations / generation
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            (place / _JOURNAL).touch()
            return place

    def replace(self, codes: Sequence[str], documents: Iterable[TariffDocument]) -> Replaced:
        """See ``engine.SearchEngine.replace``."""
        with self._write_lock():
            fresh = list(documents)
            for name in self._building():
                _append_durably(
                    self._generations / name / _JOURNAL,
                    json.dumps({"codes": list(codes), "documents": [item.model_dump_json() for item in fresh]}) + "\n",
                )
            pointer = self._pointer()
            if pointer is None:
                return Replaced(0, 0)
            place = self._generations / pointer.generation
            try:
                index = _open_index(place)
                vocabulary = _read_vocabulary(place)
                removed = _write_documents(index, codes, fresh, vocabulary)
                _write_durably(place / _VOCABULARY, vocabulary.to_json())
                held = index.searcher().num_docs
                self._point(dataclasses.replace(pointer, number=pointer.number + 1, documents=held))
            except (OSError, ValueError) as error:
                raise self._unwritable(error) from error
            return Replaced(updated=len(fresh), deleted=len(removed - {document.code for document in fresh}))

    def delete(self, expected: str, *, publish: Publish) -> int:
        """See ``engine.SearchEngine.delete``."""
        with self._write_lock(), publish():
            pointer = self._pointer()
            if pointer and pointer.generation != expected:
                raise Conflict(
                    f"generation {expected} does not serve, {pointer.generation} does",
                    field="generation",
                    remedy="Look at the index again, and name the generation that serves now.",
                )
            try:
                # The pointer first: after a crash there is no index, and never one that lacks files.
                (self._folder / _POINTER).unlink(missing_ok=True)
                _sync_folder(self._folder)
                self._remove_unnamed()
            except OSError as error:
                raise self._unwritable(error) from error
            return pointer.documents if pointer else 0

    def _remove_unnamed(self) -> None:
        """Removes every generation but the serving and the previous one. Only under the write lock."""
        pointer = self._pointer_to_replace()
        named = {pointer.generation, pointer.previous} if pointer else set()
        for place in self._generations.iterdir():
            if place.name in named:
                (place / _JOURNAL).unlink(missing_ok=True)
            else:
                shutil.rmtree(place, ignore_errors=True)

    @contextlib.contextmanager
    def _write_lock(self) -> Iterator[None]:
        try:
            self._generations.mkdir(parents=True, exist_ok=True)
            handle = (self._folder / "write.lock").open("w")
        except OSError as error:
            raise self._unwritable(error) from error
        with handle:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise Unavailable(
                            f"another process has been writing the index for {_LOCK_SECONDS:.0f} s"
                        ) from error
                    time.sleep(_LOCK_POLL)
            yield

    def _point(self, pointer: Pointer) -> None:
        _write_durably(self._folder / _POINTER, json.dumps(dataclasses.asdict(pointer), indent=1))

    def _pointer_to_replace(self) -> Pointer | None:
        """The pointer, or none when it is broken: a rebuild mends that too."""
        try:
            return self._pointer()
        except DataFault as error:
            log.warning("search.pointer_replaced", error=str(error))
            return None

    def _pointer(self) -> Pointer | None:
        try:
            stored = json.loads((self._folder / _POINTER).read_text(encoding="utf-8"))
            # An earlier release wrote a sentence.
            proof = Proof(**stored["proof"]) if isinstance(stored["proof"], dict) else None
            return Pointer(**{**stored, "proof": proof})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise DataFault("the index's pointer cannot be read", remedy="Rebuild the index.") from error

    # --- reading -----------------------------------------------------------------------------------------------------
    def vocabulary(self) -> Vocabulary:
        """See ``engine.SearchEngine.vocabulary``."""
        return self._current().vocabulary

    def candidates(self, lookup: Lookup, limit: int, filters: Filters) -> list[Candidate]:
        """See ``engine.SearchEngine.candidates``."""
        current = self._current()
        query = _tantivy_query(current.index.schema, lookup, filters)
        if query is None:
            return []
        try:
            found = current.searcher.search(query, limit=min(limit, MOST_CANDIDATES), count=False)
            return [current.candidate(address) for _, address in found.hits]
        except (OSError, ValueError) as error:
            raise Unavailable(f"the search index cannot be read: {error}", remedy="Rebuild the index.") from error

    def suggest(self, prefix: str, limit: int) -> list[Completion]:
        """See ``engine.SearchEngine.suggest``."""
        if not prefix:
            return []
        current = self._current()
        # The filter leaves terms out of which only deleted documents are left.
        terms = current.searcher.terms_with_prefix(
            "completions", term_prefix(prefix), filter_query=tantivy.Query.all_query(), limit=MOST_COMPLETIONS
        )
        return best_completions(terms, limit)

    def status(self) -> EngineStatus:
        """See ``engine.SearchEngine.status``."""
        version = metadata.version("tantivy")
        building = self._building()
        unfinished = [Generation(name, "building", size=_size(self._generations / name)) for name in building]
        try:
            current = self._current()
        except (Unavailable, DataFault) as error:
            return EngineStatus(
                self.name,
                ready=False,
                building=building,
                problem=str(error),
                fault="unreadable" if (self._folder / _POINTER).exists() else "no_index",
                health="red",
                version=version,
                generations=unfinished,
            )
        pointer = current.pointer
        serving = Generation(
            pointer.generation,
            "serving",
            current.searcher.num_docs,
            _size(self._generations / pointer.generation),
            pointer.built_at,
        )
        return EngineStatus(
            self.name,
            ready=True,
            documents=current.searcher.num_docs,
            size=serving.size or 0,
            generation=pointer.generation,
            previous=pointer.previous,
            number=pointer.number,
            built_at=pointer.built_at,
            seconds=pointer.seconds,
            proof=pointer.proof,
            building=building,
            health="green",
            version=version,
            generations=[serving, *self._previous(pointer), *unfinished],
        )

    def _previous(self, pointer: Pointer) -> Iterator[Generation]:
        """The generation before, as its files tell; an earlier release did not write down when it was built."""
        if pointer.previous is None or not (place := self._generations / pointer.previous).is_dir():
            return
        documents = built_at = None
        with contextlib.suppress(OSError, ValueError, KeyError):
            segments = json.loads((place / "meta.json").read_text(encoding="utf-8"))["segments"]
            documents = sum(one["max_doc"] - (one["deletes"] or {}).get("num_deleted_docs", 0) for one in segments)
        with contextlib.suppress(OSError, ValueError, KeyError):
            built_at = json.loads((place / _BUILT).read_text(encoding="utf-8"))["built_at"]
        yield Generation(pointer.previous, "previous", documents, _size(place), built_at)

    def hashes(self) -> Iterator[tuple[str, str]]:
        """See ``engine.SearchEngine.hashes``."""
        searcher = self._current().searcher
        if searcher.num_docs:
            found = searcher.search(tantivy.Query.all_query(), limit=searcher.num_docs, count=False)
            for _, address in found.hits:
                document = searcher.doc(address)
                yield _text(document, "code"), _text(document, "hash")

    def _building(self) -> list[str]:
        """Generations that are being built, or were when their builder died."""
        pointer = self._pointer_to_replace()
        names = os.listdir(self._generations) if self._generations.is_dir() else []  # noqa: PTH208  # names are wanted
        serving = pointer.generation if pointer else None
        return sorted(name for name in names if name != serving and (self._generations / name / _JOURNAL).exists())

    def _current(self) -> _Open:
        """The serving generation, opened anew when the pointer has changed since the last look."""
        try:
            stamp = self._stamp()
        except Unavailable:
            self._open = None  # The files of a deleted index take their place on the disk until nobody has them open.
            raise
        known = self._open
        if known is not None and known.stamp == stamp:
            return known
        with self._mutex:
            known = self._open
            for attempt in range(_OPEN_ATTEMPTS):
                stamp = self._stamp()
                if known is not None and known.stamp == stamp:
                    return known
                pointer = self._pointer()
                if pointer is None:
                    break
                place = self._generations / pointer.generation
                try:
                    index = _open_index(place)
                    vocabulary = _read_vocabulary(place)
                except (OSError, ValueError, DataFault) as error:
                    # Two swaps since the pointer was read have removed what it named: look again.
                    log.info("search.reopen", generation=pointer.generation, attempt=attempt, error=str(error))
                    continue
                self._open = _Open(stamp, pointer, index, index.searcher(), vocabulary)
                return self._open
        raise Unavailable("there is no search index that can be opened", remedy="Rebuild the index.")

    def _stamp(self) -> tuple[int, int, int]:
        try:
            status = os.stat(self._folder / _POINTER)  # noqa: PTH116  # on every query's path; Path.stat costs twice
        except FileNotFoundError as error:
            raise Unavailable("there is no search index yet", remedy="Rebuild the index.") from error
        except OSError as error:
            raise Unavailable(f"the search index cannot be read: {error}", remedy="Look at the data folder.") from error
        return status.st_ino, status.st_mtime_ns, status.st_size


_FIELD_OF = {TERM: "terms", OWN: "own", PARENT: "parents"}
_COUNTED = tuple(_FIELD_OF.values())


@lru_cache(maxsize=1)
def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for name in ("code", "hash"):
        builder.add_text_field(name, stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("category", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("above", tokenizer_name="whitespace", index_option="basic")
    for name in _COUNTED:
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="freq")
    for name in ("phrases", "completions"):
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="basic")
    builder.add_bytes_field("evidence", stored=True)
    return builder.build()


def _as_tantivy(document: TariffDocument, parts: Sequence[Block]) -> tantivy.Document:
    stored = tantivy.Document()
    stored.add_text("code", document.code)
    stored.add_text("hash", document.content_hash())
    stored.add_text("category", document.courier_category)
    stored.add_text("above", " ".join([document.code[:length] for length in range(2, len(document.code) + 1)]))
    stored.add_bytes("evidence", evidence.stored(parts).encode())
    for source, name in _FIELD_OF.items():
        stored.add_text(name, " ".join([part.stems for part in parts if part.source == source]))
    stored.add_text("phrases", " ".join([part.phrases for part in parts]))
    stored.add_text("completions", " ".join([term for group in document.terms for term in completion_terms(group)]))
    return stored


def _fill(index: tantivy.Index, documents: Iterable[TariffDocument], on_progress: OnProgress) -> tuple[int, Vocabulary]:
    writer = index.writer(heap_size=_BUILD_HEAP, num_threads=1)
    builder = VocabularyBuilder()
    count = 0
    try:
        on_progress(0)
        for document in documents:
            parts = blocks(document)
            builder.add(document.heading, parts)
            writer.add_document(_as_tantivy(document, parts))
            count += 1
            if count % BATCH == 0:
                on_progress(count)
        if count == 0:
            raise TaskFailed("there is no tariff line that can be declared", remedy="Import a tariff first.")
        writer.commit()
    except BaseException:
        writer.rollback()
        raise
    finally:
        writer.wait_merging_threads()
    on_progress(count)
    return count, builder.build()


def _replay(index: tantivy.Index, journal: Path, vocabulary: Vocabulary) -> int:
    """Writes the updates that came while the generation was being built; returns by how much its documents grew."""
    growth = 0
    with journal.open(encoding="utf-8") as lines:
        for line in lines:
            update = json.loads(line)
            documents = [TariffDocument.model_validate_json(text) for text in update["documents"]]
            growth += len(documents) - len(_write_documents(index, update["codes"], documents, vocabulary))
    return growth


def _prove(index: tantivy.Index, count: int) -> None:
    index.reload()
    held = index.searcher().num_docs
    if held != count:
        raise TaskFailed(f"the new index holds {held} documents of {count}; the old one stays in service")


def _write_documents(
    index: tantivy.Index, codes: Sequence[str], documents: Sequence[TariffDocument], vocabulary: Vocabulary
) -> set[str]:
    """Replaces what is at or below ``codes``; returns the codes of the documents that were there before."""
    replaced = list(dict.fromkeys([*codes, *(document.code for document in documents)]))
    searcher = index.searcher()
    below = tantivy.Query.term_set_query(index.schema, "above", replaced)
    found = searcher.search(below, limit=max(1, searcher.num_docs), count=False)
    removed = {_text(searcher.doc(address), "code") for _, address in found.hits}
    writer = index.writer(heap_size=_UPDATE_HEAP, num_threads=1)
    try:
        for code in replaced:
            writer.delete_documents_by_term("above", code)
        for document in documents:
            parts = blocks(document)
            vocabulary.learn(parts)
            writer.add_document(_as_tantivy(document, parts))
        writer.commit()
    except BaseException:
        writer.rollback()
        raise
    finally:
        writer.wait_merging_threads()
    index.reload()
    return removed


def _tantivy_query(schema: tantivy.Schema, lookup: Lookup, filters: Filters) -> tantivy.Query | None:
    def term(field: str, value: str, boost: float) -> tuple[tantivy.Occur, tantivy.Query]:
        query = tantivy.Query.term_query(schema, field, value, index_option="freq" if field in _COUNTED else "basic")
        return tantivy.Occur.Should, tantivy.Query.boost_query(query, boost)

    def must(field: str, value: str) -> tuple[tantivy.Occur, tantivy.Query]:
        query = tantivy.Query.term_query(schema, field, value, index_option="basic")
        return tantivy.Occur.Must, tantivy.Query.const_score_query(query, 0.0)

    wanted = [term("phrases", phrase, PHRASE_WEIGHT * (1 + phrase.count("_"))) for phrase in lookup.phrases]
    for stemmed, weight in lookup.stems:
        wanted.append(term("terms", stemmed, TERM_WEIGHT * weight))
        wanted.append(term("own", stemmed, OWN_WEIGHT * weight))
        wanted.append(term("parents", stemmed, PARENT_WEIGHT * weight))
    clauses: list[tuple[tantivy.Occur, tantivy.Query]] = []
    if wanted:
        clauses.append((tantivy.Occur.Must, tantivy.Query.boolean_query(wanted)))
    if lookup.code:
        clauses.append(must("above", lookup.code))
    if not clauses:
        return None
    if filters.category:
        clauses.append(must("category", filters.category))
    if filters.chapter:
        clauses.append(must("above", filters.chapter))
    return tantivy.Query.boolean_query(clauses)


def _open_index(place: Path) -> tantivy.Index:
    index = tantivy.Index.open(str(place))
    index.config_reader(reload_policy="manual")
    index.reload()
    return index


def _read_vocabulary(place: Path) -> Vocabulary:
    return Vocabulary.from_json((place / _VOCABULARY).read_text(encoding="utf-8"))


def _size(place: Path) -> int:
    """Bytes of a generation; files that a writer replaces meanwhile count nothing."""
    total = 0
    for item in place.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += item.stat().st_size
    return total


def _text(document: tantivy.Document, field: str) -> str:
    value: Any = document.get_first(field)
    if not isinstance(value, str):
        raise DataFault(f"a stored document has no {field}", remedy="Rebuild the index.")
    return value


def _write_durably(path: Path, text: str) -> None:
    """Replaces a file in one step: after a crash it is the old one or the new one, whole."""
    temporary = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _append_durably(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
