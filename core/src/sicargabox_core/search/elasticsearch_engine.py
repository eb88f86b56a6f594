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

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from elasticsearch import Elasticsearch

from sicargabox_core.errors import (
    Conflict,
    DataFault,
    InvalidInput,
    SicargaBoxError,
    TaskFailed,
    Unavailable,
)
from sicargabox_core.search import elasticsearch_bulk as bulk
from sicargabox_core.search import evidence
from sicargabox_core.search.completions import best_completions
from sicargabox_core.search.document import TariffDocument
from sicargabox_core.search.elasticsearch_breaker import ReaderBreaker
from sicargabox_core.search.elasticsearch_client import connect, server_version
from sicargabox_core.search.elasticsearch_errors import Late, Refused, clear_errors
from sicargabox_core.search.elasticsearch_mapping import MAPPING_HASH, as_source, index_body
from sicargabox_core.search.elasticsearch_query import below, candidates_body, completions_body
from sicargabox_core.search.elasticsearch_state import Lock, Record, State
from sicargabox_core.search.engine import (
    MOST_CANDIDATES,
    Candidate,
    Completion,
    EngineStatus,
    Filters,
    Generation,
    Health,
    Lookup,
    OnProgress,
    Publish,
    Replaced,
    check_generation,
)
from sicargabox_core.search.evidence import blocks
from sicargabox_core.search.vocabulary import Vocabulary, VocabularyBuilder
from sicargabox_core.settings import ENV_PREFIX, Settings

log = structlog.get_logger(__name__)

T = TypeVar("T")

_WRITE_SECONDS = 30.0
_LOOK_SECONDS = 5.0
_LOOK_EVERY_SECONDS = 1.0
_STATUS_SECONDS = 0.5
# A question waits this long for news of the generation; then it is asked of the one that is known.
_NEWS_SECONDS = 0.05
_LOCK_SECONDS = 15.0
_PAGE = 2000
# Terms of one query: the server's limit is 65,536.
_MOST_CODES = 10_000
_JOURNALLED = 500
# About 3 kB each; lines of a heading share most of it.
_KEPT_LINES = 16_384
_GONE = 404


@dataclass(frozen=True)
class _Stored:
    """An index of ours as the cluster knows it."""

    index: str
    generation: str
    mapping: str | None
    serves: bool
    aliases: frozenset[str]

    @property
    def building(self) -> bool:
        return _build_alias(self.index) in self.aliases


@dataclass(frozen=True)
class _Known:
    """The serving generation as this process last saw it."""

    record: Record
    vocabulary: Vocabulary
    looked: float


@dataclass
class _Lines:
    """Evidence of lines by the hash of their content: it outlives swaps, and most questions then fetch none."""

    _held: dict[str, Candidate] = dataclass_field(default_factory=dict)
    _blocks: dict[str, str] = dataclass_field(default_factory=dict)

    def get(self, content_hash: str) -> Candidate | None:
        return self._held.get(content_hash)

    def keep(self, content_hash: str, code: str, stored: str) -> None:
        if len(self._held) >= _KEPT_LINES:
            self._held, self._blocks = {}, {}
        known = self._blocks
        self._held[content_hash] = Candidate(
            code, tuple([known.setdefault(block, block) for block in evidence.read(stored)])
        )


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
        self._seconds = settings.search_timeout_seconds
        self._look_seconds, self._news_seconds = look_seconds, news_seconds
        self._reader = connect(settings, seconds=self._seconds)
        self._looker = self._reader.options(request_timeout=_LOOK_SECONDS)
        self._writer = self._reader.options(request_timeout=_WRITE_SECONDS)
        self._state = State(self._writer, self._alias, lock_seconds=lock_seconds)
        self._breaker = ReaderBreaker()
        self._known: _Known | None = None
        self._look: Future[_Known] | None = None
        self._mutex = threading.Lock()
        self._background = ThreadPoolExecutor(1, thread_name_prefix="search-look")
        self._lines = _Lines()
        self._version: str | None = None

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
                self._take_over(lock)
                held = count + self._replay(index, lock, vocabulary)
                self._prove(index, held)
                self._ready_to_serve(index)
                serving = self._serving(self._stored())
                self._check_alias_is_free(serving, self._writer)
                record = Record(
                    index=index,
                    generation=generation,
                    previous=serving.generation if serving else None,
                    number=lock.token,
                    documents=held,
                    built_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    seconds=round(time.monotonic() - started, 2),
                    proof=f"{count} documents given, {count} held",
                )
                self._state.write(record, vocabulary, lock.token)
                self._swap(index, serving, lock, publish)
                self._tidy(record)
        except BaseException:
            self._abandon(index)
            raise
        finally:
            self._forget()
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
            self._take_over(lock)
            stored = self._stored()
            serving = self._serving(stored)
            self._check_alias_is_free(serving, self._writer)
            if serving and serving.index == index:
                raise TaskFailed(f"generation {generation} is serving already")
            record = self._state.record(serving.index) if serving else None
            self._remove_unnamed(stored, record)
            if any(one.index == index for one in stored):
                # It was the previous generation, or is one that an attempt of the same name left behind.
                self._remove([one for one in stored if one.index == index])
            lock.confirm()
            settings, mapping = index_body(self._alias, generation)
            with clear_errors():
                self._writer.indices.create(
                    index=index, settings=settings, mappings=mapping, aliases={_build_alias(index): {}}
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
        bulk.send_in_parallel(self._writer, _build_alias(index), actions(), on_progress)
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
            removed = self._write(index, _build_alias(index), codes, documents, vocabulary, lock)
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

    def _swap(self, index: str, serving: _Stored | None, lock: Lock, publish: Publish) -> None:
        """One step from the old generation to the new one, which fails when anybody else has written since."""
        swap = _swap_alias(index, lock.token)
        actions = [_removed(index, swap), _removed(index, _build_alias(index)), _added(index, self._alias)]
        if serving:
            actions.append(_removed(serving.index, self._alias))
        self._change_aliases([_added(index, swap)])
        with publish():
            lock.confirm()
            try:
                self._change_aliases(actions)
            except Unavailable:
                # It may be done all the same, in a moment. Whoever comes next waits for the lock to expire, and
                # then takes the swap's alias away: from then on it is done or never will be.
                lock.keep()
                raise

    def _tidy(self, record: Record) -> None:
        """Older generations go; that they do not is no reason to call a rebuild failed that serves."""
        try:
            self._remove_unnamed(self._stored(), record)
        except SicargaBoxError as error:
            log.warning("search.leftovers_stay", error=str(error))

    def _abandon(self, index: str) -> None:
        """Removes a generation that will not serve; one that cannot be removed now is by the next rebuild."""
        try:
            self._remove([one for one in self._stored() if one.index == index and not one.serves])
        except SicargaBoxError as error:
            log.warning("search.generation_left", index=index, error=str(error))

    def replace(self, codes: Sequence[str], documents: Iterable[TariffDocument]) -> Replaced:
        """See ``engine.SearchEngine.replace``."""
        self._check_version()
        with self._state.lock() as lock:
            self._take_over(lock)
            fresh = list(documents)
            lock.confirm()
            stored = self._stored()
            for one in stored:
                if one.building and not one.serves:
                    self._journal(one.index, lock, codes, fresh)
            serving = self._serving(stored)
            if serving is None:
                return Replaced(0, 0)
            if serving.mapping != MAPPING_HASH:
                raise Conflict(_OTHER_MAPPING, remedy="Rebuild the index.")
            described = self._state.described(serving.index)
            if described is None:
                raise Conflict(_NOTHING_KNOWN, remedy="Rebuild the index.")
            record, vocabulary = described
            removed = self._write(serving.index, self._alias, codes, fresh, vocabulary, lock)
            with clear_errors():
                held = int(self._writer.count(index=serving.index)["count"])
            changed = record.model_copy(update={"number": lock.token, "documents": held})
            self._state.write(changed, vocabulary, lock.token)
            # One that was overtaken has written nothing over newer lines, but must not tell that it is done.
            lock.confirm()
            self._forget()
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
            self._take_over(lock)
            stored = self._stored()
            serving = self._serving(stored)
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
                self._change_aliases([_removed(serving.index, self._alias)])
            self._forget()
            self._remove(stored)
            return count

    # --- generations -------------------------------------------------------------------------------------------------
    def _take_over(self, lock: Lock) -> None:
        """After one that did not give its lock back: what it was about to swap can no longer be swapped."""
        if not lock.outlived:
            return
        try:
            taken_away = []
            for one in self._stored():
                for alias in one.aliases:
                    if alias.startswith(f"{one.index}+swap-"):
                        self._change_aliases([_removed(one.index, alias)])
                        taken_away.append(alias)
            log.warning("search.lock_taken_over", token=lock.token, swaps_taken_away=taken_away)
        except SicargaBoxError:
            lock.keep()
            raise

    def _stored(self, client: Elasticsearch | None = None) -> list[_Stored]:
        """Our indexes, and whatever else the alias names."""
        with clear_errors():
            answer = (client or self._writer).indices.get(
                index=[self._alias, f"{self._alias}-*"],
                ignore_unavailable=True,
                allow_no_indices=True,
                features=["aliases", "mappings"],
                filter_path=["*.aliases", "*.mappings._meta"],
            )
        found = []
        for index, told in answer.body.items():
            meta = told.get("mappings", {}).get("_meta", {})
            aliases = frozenset(told.get("aliases", ()))
            serves = self._alias in aliases
            # Another installation's alias may begin like ours; its indexes are none of ours.
            if meta.get("alias") == self._alias or serves:
                generation = str(meta.get("generation", index))
                found.append(_Stored(index, generation, meta.get("mapping"), serves, aliases))
        return found

    def _serving(self, stored: Sequence[_Stored]) -> _Stored | None:
        serving = [one for one in stored if one.serves]
        if len(serving) > 1:
            names = ", ".join(one.index for one in serving)
            raise DataFault(
                f"the alias {self._alias} names several indexes ({names})", remedy="Leave it on the newest of them."
            )
        return serving[0] if serving else None

    def _check_alias_is_free(self, serving: _Stored | None, client: Elasticsearch) -> None:
        """Raises ``Conflict`` when an index has the alias's name: no alias can be set then.

        Whoever writes a document to an alias that is not there has the server make such an index.
        """
        if serving is not None:
            return
        with clear_errors():
            taken = bool(client.indices.exists(index=self._alias))
        if taken:
            raise Conflict(
                f"an index is named {self._alias}, as the alias of the search index has to be",
                field=f"{ENV_PREFIX}SEARCH_INDEX",
                remedy="Delete that index in Elasticsearch, or set another name here; then rebuild the index.",
            )

    def _remove_unnamed(self, stored: Sequence[_Stored], record: Record | None) -> None:
        """Removes every generation but the serving one and the one before. Only under the lock."""
        named = {record.generation, record.previous} if record else set()
        self._remove([one for one in stored if not one.serves and (one.generation not in named or one.building)])

    def _remove(self, unwanted: Sequence[_Stored]) -> None:
        gone = []
        for one in unwanted:
            if one.building:
                # From here on nobody can fill it or have it serve, whatever is still on its way to the server.
                try:
                    self._change_aliases([_removed(one.index, _build_alias(one.index))])
                except Refused as error:
                    if error.status != _GONE:
                        raise
                    # It serves since we looked, or somebody else is removing it.
                    continue
            with clear_errors():
                self._writer.indices.delete(index=one.index, ignore_unavailable=True)
            gone.append(one.index)
        if gone:
            self._state.forget(gone)

    def _change_aliases(self, actions: Sequence[dict[str, Any]]) -> None:
        with clear_errors():
            self._writer.indices.update_aliases(actions=actions)

    def _check_version(self) -> None:
        self._version = server_version(self._writer)

    # --- reading -----------------------------------------------------------------------------------------------------
    def vocabulary(self) -> Vocabulary:
        """See ``engine.SearchEngine.vocabulary``."""
        return self._current().vocabulary

    def candidates(self, lookup: Lookup, limit: int, filters: Filters) -> list[Candidate]:
        """See ``engine.SearchEngine.candidates``."""
        body = candidates_body(lookup, min(limit, MOST_CANDIDATES), filters)
        if body is None:
            return []
        deadline = time.monotonic() + self._seconds
        answer = self._asked(lambda: self._search(body, deadline))
        hits = answer["hits"]["hits"]
        found = [(hit["_index"], hit["fields"]["code"][0], hit["fields"]["hash"][0]) for hit in hits]
        known = self._known
        if found and known and found[0][0] != known.record.index:
            self._forget()
        unknown = [(index, code) for index, code, content in found if self._lines.get(content) is None]
        fresh = self._asked(lambda: self._fetch(unknown, deadline)) if unknown else {}
        return [line for _, code, content in found if (line := self._lines.get(content) or fresh.get(code)) is not None]

    def _search(self, body: dict[str, Any], deadline: float) -> Any:
        with clear_errors():
            return self._within(deadline).search(index=self._alias, allow_partial_search_results=False, **body)

    def _fetch(self, unknown: Sequence[tuple[str, str]], deadline: float) -> dict[str, Candidate]:
        """The evidence of lines this process has not met; a line that changed since the search is as it is now."""
        documents: list[Mapping[str, Any]] = [{"_index": index, "_id": code} for index, code in unknown]
        with clear_errors():
            answer = self._within(deadline).mget(
                docs=documents,
                source_includes=["hash", "evidence"],
                realtime=False,
            )
        fresh: dict[str, Candidate] = {}
        for told in answer["docs"]:
            if "error" in told:
                raise Unavailable("the index was replaced twice while it was being read")
            if told["found"]:
                source = told["_source"]
                self._lines.keep(source["hash"], told["_id"], source["evidence"])
                line = self._lines.get(source["hash"])
                if line is not None:
                    fresh[told["_id"]] = line
        return fresh

    def suggest(self, prefix: str, limit: int) -> list[Completion]:
        """See ``engine.SearchEngine.suggest``."""
        if not prefix:
            return []
        deadline = time.monotonic() + self._seconds
        answer = self._asked(lambda: self._search(completions_body(prefix), deadline))
        found = answer["aggregations"]["phrases"]["buckets"]
        return best_completions([(one["key"], one["doc_count"]) for one in found], limit)

    def hashes(self) -> Iterator[tuple[str, str]]:
        """See ``engine.SearchEngine.hashes``."""
        # Not as a search asks: nobody waits for an audit, which must not fail of a server that is only busy.
        try:
            index = self._look_at(self._known).record.index
        except Refused as error:
            raise _unreadable(error) from error
        yield from self._held(index, {"match_all": {}})

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

    def _within(self, deadline: float) -> Elasticsearch:
        return self._reader.options(request_timeout=max(0.001, deadline - time.monotonic()))

    def _asked(self, question: Callable[[], T]) -> T:
        """Asks, unless the server failed a moment ago. A reader's errors are all ``Unavailable``."""
        try:
            return self._breaker.ask(question)
        except Refused as error:
            if error.status == _GONE:
                self._known = None
            raise _unreadable(error) from error

    def _current(self) -> _Known:
        """The serving generation; looked at anew in the background when that was too long ago."""
        known = self._known
        if known is not None and time.monotonic() - known.looked < self._look_seconds:
            return known
        # The look asks the breaker, and nobody before it: of the one try after a pause nothing was left for the look
        # itself, and searches stayed with SQL until a status was asked for.
        with self._mutex:
            look = self._look
            if look is None or look.done():
                look = self._look = self._background.submit(self._looked, known)
            elif self._breaker.is_open:
                # Somebody has waited for this look already, and the server hangs.
                if known is None:
                    raise self._breaker.not_asked()
                return known
        patience = self._seconds if known is None else min(self._seconds, self._news_seconds)
        try:
            return look.result(timeout=patience)
        except TimeoutError as error:
            if known is not None:
                return known
            late = Late("Elasticsearch does not answer in time", remedy="Look whether it runs, and how busy it is.")
            self._breaker.failed(late)
            raise Unavailable(late.message, remedy=late.remedy) from error

    def _looked(self, known: _Known | None) -> _Known:
        self._known = self._asked(lambda: self._look_at(known))
        return self._known

    def _look_at(self, known: _Known | None) -> _Known:
        looked = time.monotonic()
        if self._version is None:
            self._version = server_version(self._looker)
        with clear_errors():
            indexes = list(self._looker.indices.get_alias(name=self._alias))
        index = indexes[0]
        if known and known.record.index == index:
            record = self._state.record(index, client=self._looker)
            if record and record.number == known.record.number:
                return _Known(record, known.vocabulary, looked)
        described = self._state.described(index, client=self._looker)
        if described is None:
            raise Unavailable(_NOTHING_KNOWN, remedy="Rebuild the index.")
        return _Known(*described, looked)

    def _forget(self) -> None:
        """The next question looks first what serves."""
        known = self._known
        if known is not None:
            self._known = _Known(known.record, known.vocabulary, float("-inf"))

    # --- how it is ---------------------------------------------------------------------------------------------------
    def status(self) -> EngineStatus:
        """See ``engine.SearchEngine.status``."""
        try:
            return self._asked(self._status)
        except (Unavailable, DataFault) as error:
            return EngineStatus(self.name, ready=False, problem=str(error), health="away", version=self._version)

    def _status(self) -> EngineStatus:
        client = self._reader.options(request_timeout=_STATUS_SECONDS)
        version = self._version = server_version(client)
        stored = self._stored(client)
        serving = self._serving(stored)
        sizes: dict[str, Any] = {}
        if stored:
            with clear_errors():
                told = client.indices.stats(index=[one.index for one in stored], metric=["docs", "store"])
            sizes = told["indices"]
        building = [one for one in stored if one.building and not one.serves]
        unfinished = [_generation(one, "building", sizes, None) for one in building]
        names = [one.generation for one in building]
        if serving is None:
            return EngineStatus(
                self.name,
                ready=False,
                building=names,
                problem=self._why_nothing_serves(client),
                health="red",
                version=version,
                generations=unfinished,
            )
        record = self._state.record(serving.index, client=client)
        health: Health = "red"
        fault: str | None = f"{_NOTHING_KNOWN}. Rebuild the index."
        if record:
            with clear_errors():
                health = client.cluster.health(index=serving.index)["status"]
            fault = None
            if health == "red":
                fault = "Elasticsearch has lost a part of the index. Look at its nodes, or rebuild the index."
            elif serving.mapping != MAPPING_HASH:
                fault = f"{_OTHER_MAPPING}. Rebuild the index."
        mine = _generation(serving, "serving", sizes, record)
        before = [
            _generation(one, "previous", sizes, self._state.record(one.index, client=client))
            for one in stored
            if record and one.generation == record.previous and not one.serves and not one.building
        ]
        return EngineStatus(
            self.name,
            ready=health != "red",
            documents=mine.documents or 0,
            size=mine.size or 0,
            generation=serving.generation,
            previous=record.previous if record else None,
            number=record.number if record else 0,
            built_at=record.built_at if record else None,
            seconds=record.seconds if record else None,
            proof=record.proof if record else None,
            building=names,
            problem=fault,
            health=health,
            version=version,
            generations=[mine, *before, *unfinished],
        )

    def _why_nothing_serves(self, client: Elasticsearch) -> str:
        try:
            self._check_alias_is_free(None, client)
        except Conflict as error:
            return str(error)
        return "there is no search index yet. Rebuild the index."


def _unreadable(error: Refused) -> Unavailable:
    """For a reader: an index that is not there, or of another shape than questions need."""
    fault = "there is no search index yet" if error.status == _GONE else error.message
    return Unavailable(fault, remedy="Rebuild the index.")


_NOTHING_KNOWN = "nothing is known of the index that serves"
_OTHER_MAPPING = "the index has the mapping of another release"


def _generation(one: _Stored, role: Any, sizes: dict[str, Any], record: Record | None) -> Generation:
    told = sizes.get(one.index, {}).get("primaries", {})
    return Generation(
        one.generation,
        role,
        documents=told.get("docs", {}).get("count"),
        size=told.get("store", {}).get("size_in_bytes"),
        built_at=record.built_at if record else None,
    )


def _build_alias(index: str) -> str:
    return f"{index}+build"


def _swap_alias(index: str, token: int) -> str:
    return f"{index}+swap-{token}"


def _added(index: str, alias: str) -> dict[str, Any]:
    return {"add": {"index": index, "alias": alias}}


def _removed(index: str, alias: str) -> dict[str, Any]:
    return {"remove": {"index": index, "alias": alias, "must_exist": True}}
