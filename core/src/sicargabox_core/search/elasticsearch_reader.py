"""Reading for searches: short time-outs, what serves known beside them, and evidence fetched once.

What serves, and its vocabulary, is looked at in the background when it is older than a second; a search waits for that
only as long as it has never been seen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, TypeVar

from elasticsearch import Elasticsearch

from sicargabox_core.errors import DataFault, Unavailable
from sicargabox_core.search import evidence
from sicargabox_core.search.completions import best_completions
from sicargabox_core.search.elasticsearch_breaker import ReaderBreaker
from sicargabox_core.search.elasticsearch_client import server_version
from sicargabox_core.search.elasticsearch_errors import GONE, Late, Refused, clear_errors
from sicargabox_core.search.elasticsearch_generations import NOTHING_KNOWN, several
from sicargabox_core.search.elasticsearch_query import candidates_body, completions_body
from sicargabox_core.search.elasticsearch_state import Record, State
from sicargabox_core.search.engine import MOST_CANDIDATES, Candidate, Completion, Filters, Lookup
from sicargabox_core.search.vocabulary import Vocabulary

T = TypeVar("T")

_LOOK_SECONDS = 5.0
# About 2 kB each; lines of a heading share most of it.
_KEPT_LINES = 16_384


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


class Reader:
    """One per process, safe to use from many threads. What a search asks raises ``Unavailable`` and nothing else."""

    def __init__(
        self,
        client: Elasticsearch,
        state: State,
        alias: str,
        *,
        seconds: float,
        look_seconds: float,
        news_seconds: float,
    ) -> None:
        """``seconds``: what a search has; ``look_seconds``: how old the knowledge of what serves may be;
        ``news_seconds``: how long a question waits when it is older."""
        self.version: str | None = None
        self._client = client
        # A client with options is made anew with all its parts: done for each search, it cost a twentieth of it.
        self._searcher = client.options(request_timeout=seconds)
        self._looker = client.options(request_timeout=_LOOK_SECONDS)
        self._state = state
        self._alias = alias
        self._seconds, self._look_seconds, self._news_seconds = seconds, look_seconds, news_seconds
        self._breaker = ReaderBreaker()
        self._known: _Known | None = None
        self._look: Future[_Known] | None = None
        self._mutex = threading.Lock()
        self._background = ThreadPoolExecutor(1, thread_name_prefix="search-look")
        self._lines = _Lines()

    def vocabulary(self) -> Vocabulary:
        """See ``engine.SearchEngine.vocabulary``."""
        return self._current().vocabulary

    def candidates(self, lookup: Lookup, limit: int, filters: Filters) -> list[Candidate]:
        """See ``engine.SearchEngine.candidates``."""
        body = candidates_body(lookup, min(limit, MOST_CANDIDATES), filters)
        if body is None:
            return []
        deadline = time.monotonic() + self._seconds
        answer = self.ask(lambda: self._search(body))
        hits = answer["hits"]["hits"]
        found = [(hit["_index"], hit["fields"]["code"][0], hit["fields"]["hash"][0]) for hit in hits]
        known = self._known
        if found and known and found[0][0] != known.record.index:
            self.forget()
        unknown = [(index, code) for index, code, content in found if self._lines.get(content) is None]
        fresh = self.ask(lambda: self._fetch(unknown, deadline)) if unknown else {}
        return [line for _, code, content in found if (line := self._lines.get(content) or fresh.get(code)) is not None]

    def _search(self, body: dict[str, Any]) -> Any:
        """The first request of a question has all of its time."""
        with clear_errors():
            return self._searcher.search(index=self._alias, allow_partial_search_results=False, **body)

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
        answer = self.ask(lambda: self._search(completions_body(prefix)))
        found = answer["aggregations"]["phrases"]["buckets"]
        return best_completions([(one["key"], one["doc_count"]) for one in found], limit)

    def _within(self, deadline: float) -> Elasticsearch:
        return self._client.options(request_timeout=max(0.001, deadline - time.monotonic()))

    def ask(self, question: Callable[[], T]) -> T:
        """Asks, unless the server failed a moment ago. A reader's errors are all ``Unavailable``."""
        try:
            return self._breaker.ask(question)
        except Refused as error:
            if error.status == GONE:
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
        try:
            self._known = self.ask(lambda: self._look_at(known))
        except DataFault as error:
            raise Unavailable(error.message, remedy=error.remedy) from error
        return self._known

    def serving_index(self) -> str:
        """The index that serves now. Not asked as a search asks: an audit must not fail of a server that is busy."""
        try:
            return self._look_at(self._known).record.index
        except Refused as error:
            raise _unreadable(error) from error

    def _look_at(self, known: _Known | None) -> _Known:
        looked = time.monotonic()
        if self.version is None:
            self.version = server_version(self._looker)
        with clear_errors():
            indexes = list(self._looker.indices.get_alias(name=self._alias))
        if len(indexes) > 1:
            # A search would find the lines of all of them.
            raise several(self._alias, indexes)
        index = indexes[0]
        if known and known.record.index == index:
            record = self._state.record(index, client=self._looker)
            if record and record.number == known.record.number:
                return _Known(record, known.vocabulary, looked)
        described = self._state.described(index, client=self._looker)
        if described is None:
            raise Unavailable(NOTHING_KNOWN, remedy="Rebuild the index.")
        return _Known(*described, looked)

    def forget(self) -> None:
        """The next question looks first what serves."""
        known = self._known
        if known is not None:
            self._known = _Known(known.record, known.vocabulary, float("-inf"))


def _unreadable(error: Refused) -> Unavailable:
    """For a reader: an index that is not there, or of another shape than questions need."""
    fault = "there is no search index yet" if error.status == GONE else error.message
    return Unavailable(fault, remedy="Rebuild the index.")
