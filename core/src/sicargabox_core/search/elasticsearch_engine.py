"""The engine of a cluster: Elasticsearch, one index shared by every process of every machine.

    <alias>                     names the one index that serves; a swap is one atomic ``_aliases`` call
    <alias>-<generation>        one index per generation; beside the serving one the previous one is kept
    <alias>-<generation>+build  an alias of a generation that is being filled; without it nobody can fill or swap it
    <alias>-<generation>+swap-… an alias of one that is about to serve, by the token of the writer that will swap it
    <alias>-state               lock, records and journal, see ``elasticsearch_state``

A writer may be stopped at any line and go on much later. What it then does fails: filling and swapping need the build
alias, which its successor takes away before it removes the index; a swap needs its swap alias, which whoever takes a
lock that was not given back takes away first; and each document carries its writer's token as version.

Readers look at most once a second which generation serves and what its vocabulary is, beside the answer of a question.
A server that does not answer in time is left alone for a moment (``ReaderBreaker``), and callers answer from SQL.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from sicargabox_core.errors import (
    Conflict,
    DataFault,
    InvalidInput,
    SicargaBoxError,
    TaskFailed,
    Unavailable,
)
from sicargabox_core.search import elasticsearch_bulk as bulk
from sicargabox_core.search.document import TariffDocument
from sicargabox_core.search.elasticsearch_client import connect, server_version
from sicargabox_core.search.elasticsearch_errors import clear_errors
from sicargabox_core.search.elasticsearch_generations import (
    NOTHING_KNOWN,
    OTHER_MAPPING,
    Generations,
    Stored,
    added,
    build_alias,
    removed,
    swap_alias,
)
from sicargabox_core.search.elasticsearch_mapping import MAPPING_HASH, as_source, index_body
from sicargabox_core.search.elasticsearch_query import below
from sicargabox_core.search.elasticsearch_reader import Reader
from sicargabox_core.search.elasticsearch_state import Lock, Record, State
from sicargabox_core.search.elasticsearch_status import status_of
from sicargabox_core.search.engine import (
    Candidate,
    Completion,
    EngineStatus,
    Filters,
    Lookup,
    OnProgress,
    Proof,
    Publish,
    Replaced,
    check_generation,
)
from sicargabox_core.search.evidence import blocks
from sicargabox_core.search.vocabulary import Vocabulary, VocabularyBuilder
from sicargabox_core.settings import Settings

log = structlog.get_logger(__name__)

_WRITE_SECONDS = 30.0
_LOOK_EVERY_SECONDS = 1.0
_STATUS_SECONDS = 0.5
# A question waits this long for news of the generation; then it is asked of the one that is known.
_NEWS_SECONDS = 0.05
_LOCK_SECONDS = 15.0
_PAGE = 2000
# Terms of one query: the server's limit is 65,536.
_MOST_CODES = 10_000
_JOURNALLED = 500


class ElasticsearchEngine:
    """See ``engine.SearchEngine``; one object per process, safe to use from many threads."""

    name = "elasticsearch"

    def __init__(
        self,
        settings: Settings,
        *,
        lock_seconds: float = _LOCK_SECONDS,
        look_seconds: float = _LOOK_EVERY_SECONDS,
        news_seconds: float = _NEWS_SECONDS,
    ) -> None:
        """Asks nothing yet. Raises ``InvalidSetting`` for an address that is none.

        ``lock_seconds``: how long a writer that died keeps others waiting. ``look_seconds``: how old a reader's
        knowledge of what serves may be; ``news_seconds``: how long a question waits when it is older.
        """
        self._alias = settings.search_index
        self._replicas = settings.search_replicas
        client = connect(settings, seconds=settings.search_timeout_seconds)
        self._writer = client.options(request_timeout=_WRITE_SECONDS)
        self._asker = client.options(request_timeout=_STATUS_SECONDS)
        self._state = State(self._writer, self._alias, lock_seconds=lock_seconds)
        self._generations = Generations(self._writer, self._state, self._alias)
        self._reader = Reader(
            client,
            self._state,
            self._alias,
            seconds=settings.search_timeout_seconds,
            look_seconds=look_seconds,
            news_seconds=news_seconds,
        )

    # --- writing -----------------------------------------------------------------------------------------------------
    def rebuild(
        self, documents: Iterable[TariffDocument], *, generation: str, on_progress: OnProgress, publish: Publish
    ) -> int:
        """See ``engine.SearchEngine.rebuild``."""
        started = time.monotonic()
        index, token = self._begin(generation, publish)
        try:
            count, vocabulary = self._fill(index, token, documents, on_progress)
            with self._state.lock() as lock:
                self._generations.take_over(lock)
                held = count + self._replay(index, lock, vocabulary)
                self._prove(index, held)
                self._ready_to_serve(index)
                serving = self._generations.serving(self._generations.stored())
                self._generations.check_alias_is_free(serving, self._writer)
                record = Record(
                    index=index,
                    generation=generation,
                    previous=serving.generation if serving else None,
                    number=lock.token,
                    documents=held,
                    built_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    seconds=round(time.monotonic() - started, 2),
                    proof=Proof(given=count, held=held),
                )
                self._state.write(record, vocabulary, lock.token)
                self._swap(index, serving, lock, publish)
                self._tidy(record)
        except BaseException:
            self._abandon(index)
            raise
        finally:
            self._reader.forget()
        return held

    def _begin(self, generation: str, publish: Publish) -> tuple[str, int]:
        """An empty index that updates are journalled for from now on; leftovers of crashed builds go first."""
        check_generation(generation)
        index = f"{self._alias}-{generation.lower()}"
        if index == self._state.index:
            raise InvalidInput(
                "that name is taken by the state of the index", field="generation", remedy="Use another."
            )
        self._check_version()
        with self._state.lock() as lock, publish():
            self._generations.take_over(lock)
            stored = self._generations.stored()
            serving = self._generations.serving(stored)
            self._generations.check_alias_is_free(serving, self._writer)
            if serving and serving.index == index:
                raise TaskFailed(f"generation {generation} is serving already")
            record = self._state.record(serving.index) if serving else None
            self._generations.remove_unnamed(stored, record)
            if any(one.index == index for one in stored):
                # It was the previous generation, or is one that an attempt of the same name left behind.
                self._generations.remove([one for one in stored if one.index == index])
            lock.confirm()
            settings, mapping = index_body(self._alias, generation)
            with clear_errors():
                self._writer.indices.create(
                    index=index, settings=settings, mappings=mapping, aliases={build_alias(index): {}}
                )
            return index, lock.token

    def _fill(
        self, index: str, token: int, documents: Iterable[TariffDocument], on_progress: OnProgress
    ) -> tuple[int, Vocabulary]:
        builder = VocabularyBuilder()
        count = 0

        def actions() -> Iterator[bulk.Action]:
            nonlocal count
            for document in documents:
                parts = blocks(document)
                builder.add(document.heading, parts)
                count += 1
                yield bulk.index_action(document.code, as_source(document, parts), token)

        on_progress(0)
        bulk.send_in_parallel(self._writer, build_alias(index), actions(), on_progress)
        if count == 0:
            raise TaskFailed("there is no tariff line that can be declared", remedy="Import a tariff first.")
        with clear_errors():
            self._writer.indices.refresh(index=index)
        on_progress(count)
        return count, builder.build()

    def _replay(self, index: str, lock: Lock, vocabulary: Vocabulary) -> int:
        """Writes the updates that came while the generation was being built; returns by how much it grew."""
        growth = 0
        for codes, texts in self._state.journal(index):
            documents = [TariffDocument.model_validate_json(text) for text in texts]
            removed = self._write(index, build_alias(index), codes, documents, vocabulary, lock)
            growth += len(documents) - len(removed)
        return growth

    def _prove(self, index: str, count: int) -> None:
        with clear_errors():
            self._writer.indices.refresh(index=index)
            held = int(self._writer.count(index=index)["count"])
        if held != count:
            raise TaskFailed(f"the new index holds {held} documents of {count}; the old one stays in service")

    def _ready_to_serve(self, index: str) -> None:
        """What was set for the load is set back."""
        with clear_errors():
            self._writer.indices.put_settings(
                index=index, settings={"refresh_interval": None, "number_of_replicas": self._replicas}
            )

    def _swap(self, index: str, serving: Stored | None, lock: Lock, publish: Publish) -> None:
        """One step from the old generation to the new one, which fails when anybody else has written since."""
        swap = swap_alias(index, lock.token)
        actions = [removed(index, swap), removed(index, build_alias(index)), added(index, self._alias)]
        if serving:
            actions.append(removed(serving.index, self._alias))
        self._generations.change_aliases([added(index, swap)])
        with publish():
            lock.confirm()
            try:
                self._generations.change_aliases(actions)
            except Unavailable:
                # It may be done all the same, in a moment. Whoever comes next waits for the lock to expire, and
                # then takes the swap's alias away: from then on it is done or never will be.
                lock.keep()
                raise

    def _tidy(self, record: Record) -> None:
        """Older generations go; that they do not is no reason to call a rebuild failed that serves."""
        try:
            self._generations.remove_unnamed(self._generations.stored(), record)
        except SicargaBoxError as error:
            log.warning("search.leftovers_stay", error=str(error))

    def _abandon(self, index: str) -> None:
        """Removes a generation that will not serve; one that cannot be removed now is by the next rebuild."""
        try:
            self._generations.remove(
                [one for one in self._generations.stored() if one.index == index and not one.serves]
            )
        except SicargaBoxError as error:
            log.warning("search.generation_left", index=index, error=str(error))

    def replace(self, codes: Sequence[str], documents: Iterable[TariffDocument]) -> Replaced:
        """See ``engine.SearchEngine.replace``."""
        self._check_version()
        with self._state.lock() as lock:
            self._generations.take_over(lock)
            fresh = list(documents)
            lock.confirm()
            stored = self._generations.stored()
            for one in stored:
                if one.building and not one.serves:
                    self._journal(one.index, lock, codes, fresh)
            serving = self._generations.serving(stored)
            if serving is None:
                return Replaced(0, 0)
            if serving.mapping != MAPPING_HASH:
                raise Conflict(OTHER_MAPPING, remedy="Rebuild the index.")
            described = self._state.described(serving.index)
            if described is None:
                raise Conflict(NOTHING_KNOWN, remedy="Rebuild the index.")
            record, vocabulary = described
            removed = self._write(serving.index, self._alias, codes, fresh, vocabulary, lock)
            with clear_errors():
                held = int(self._writer.count(index=serving.index)["count"])
            changed = record.model_copy(update={"number": lock.token, "documents": held})
            self._state.write(changed, vocabulary, lock.token)
            # One that was overtaken has written nothing over newer lines, but must not tell that it is done.
            lock.confirm()
            self._reader.forget()
            return Replaced(updated=len(fresh), deleted=len(removed - {document.code for document in fresh}))

    def _journal(self, index: str, lock: Lock, codes: Sequence[str], documents: Sequence[TariffDocument]) -> None:
        texts = [document.model_dump_json() for document in documents]
        for part, start in enumerate(range(0, max(1, len(texts)), _JOURNALLED)):
            # The codes with the first part alone: what is below them must not be removed again.
            self._state.append(
                index, lock.token, part, list(codes) if part == 0 else [], texts[start : start + _JOURNALLED]
            )

    def _write(
        self,
        index: str,
        alias: str,
        codes: Sequence[str],
        documents: Sequence[TariffDocument],
        vocabulary: Vocabulary,
        lock: Lock,
    ) -> set[str]:
        """Replaces what is at or below ``codes``; returns the codes of the documents that were there before."""
        replaced = list(dict.fromkeys([*codes, *(document.code for document in documents)]))
        with clear_errors():
            self._writer.indices.refresh(index=index)
        removed = {
            code
            for start in range(0, len(replaced), _MOST_CODES)
            for code, _ in self._held(index, below(replaced[start : start + _MOST_CODES]))
        }
        kept = {document.code for document in documents}

        def actions() -> Iterator[bulk.Action]:
            # Also codes that no document has: who slept since it read them must not bring one back.
            for code in sorted(removed.union(codes) - kept):
                yield bulk.delete_action(code, lock.token)
            for document in documents:
                parts = blocks(document)
                vocabulary.learn(parts)
                yield bulk.index_action(document.code, as_source(document, parts), lock.token)

        bulk.send(self._writer, alias, actions())
        with clear_errors():
            self._writer.indices.refresh(index=index)
        return removed

    def delete(self, expected: str, *, publish: Publish) -> int:
        """See ``engine.SearchEngine.delete``."""
        self._check_version()
        with self._state.lock() as lock, publish():
            self._generations.take_over(lock)
            stored = self._generations.stored()
            serving = self._generations.serving(stored)
            if serving and serving.generation != expected:
                raise Conflict(
                    f"generation {expected} does not serve, {serving.generation} does",
                    field="generation",
                    remedy="Look at the index again, and name the generation that serves now.",
                )
            count = 0
            if serving:
                with clear_errors():
                    count = int(self._writer.count(index=serving.index)["count"])
                lock.confirm()
                # The alias first: after a crash there is no index, and never one that lacks documents.
                self._generations.change_aliases([removed(serving.index, self._alias)])
            self._reader.forget()
            self._generations.remove(stored)
            return count

    def _check_version(self) -> None:
        self._reader.version = server_version(self._writer)

    # --- reading -----------------------------------------------------------------------------------------------------
    def vocabulary(self) -> Vocabulary:
        """See ``engine.SearchEngine.vocabulary``."""
        return self._reader.vocabulary()

    def candidates(self, lookup: Lookup, limit: int, filters: Filters) -> list[Candidate]:
        """See ``engine.SearchEngine.candidates``."""
        return self._reader.candidates(lookup, limit, filters)

    def suggest(self, prefix: str, limit: int) -> list[Completion]:
        """See ``engine.SearchEngine.suggest``."""
        return self._reader.suggest(prefix, limit)

    def hashes(self) -> Iterator[tuple[str, str]]:
        """See ``engine.SearchEngine.hashes``."""
        yield from self._held(self._reader.serving_index(), {"match_all": {}})

    def _held(self, index: str, query: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Code and hash of every document that answers, in order of code, a page at a time."""
        after: list[Any] | None = None
        while True:
            with clear_errors():
                hits = self._writer.search(
                    index=index,
                    query=query,
                    size=_PAGE,
                    sort=[{"code": "asc"}],
                    search_after=after,
                    track_total_hits=False,
                    stored_fields="_none_",
                    docvalue_fields=[{"field": "code"}, {"field": "hash"}],
                    allow_partial_search_results=False,
                )["hits"]["hits"]
            for hit in hits:
                yield hit["fields"]["code"][0], hit["fields"]["hash"][0]
            if len(hits) < _PAGE:
                return
            after = hits[-1]["sort"]

    def status(self) -> EngineStatus:
        """See ``engine.SearchEngine.status``."""
        try:
            return self._reader.ask(self._status)
        except DataFault as error:
            return EngineStatus(
                self.name,
                ready=False,
                problem=str(error),
                fault="unreadable",
                health="red",
                version=self._reader.version,
            )
        except Unavailable as error:
            return EngineStatus(
                self.name,
                ready=False,
                problem=str(error),
                fault="setting" if error.field else "away",
                health="away",
                version=self._reader.version,
            )

    def _status(self) -> EngineStatus:
        version = self._reader.version = server_version(self._asker)
        return status_of(self._generations, self._state, self._asker, name=self.name, version=version)
