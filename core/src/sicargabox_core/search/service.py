"""The search that people and programs call: understands the words, asks the engine, ranks, and shows the answer.

Texts, duties and the courier category of an answer are read from SQL, so they are never older than the database, even
when the index is. When the engine cannot answer, SQL finds the candidates (``fallback``) and the answer says
``degraded``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypedDict, cast

import structlog
from sqlalchemy import Row, String, Table, bindparam, select, type_coerce
from sqlalchemy.orm import Session

from sicargabox_core.catalogue.models import CourierCategory, TariffLine
from sicargabox_core.catalogue.tariff import display_code
from sicargabox_core.db import Database
from sicargabox_core.errors import DataFault, InvalidInput, Unavailable
from sicargabox_core.observability import SEARCH_SECONDS, SEARCHES
from sicargabox_core.search.documents import plain_wording
from sicargabox_core.search.engine import MOST_CANDIDATES, Candidate, Filters, Lookup, SearchEngine
from sicargabox_core.search.explain import Highlight, Marker, reason
from sicargabox_core.search.fallback import sql_candidates
from sicargabox_core.search.guidance import Guidance, guidance_for
from sicargabox_core.search.query import LONGEST_QUERY, Query, interpret, parse
from sicargabox_core.search.ranking import Hit, rank
from sicargabox_core.search.text import fold
from sicargabox_core.search.vocabulary import Vocabulary
from sicargabox_core.settings import Settings

log = structlog.get_logger(__name__)

LARGEST_PAGE = 100
# Searches a process works at together; others wait. Two thirds of a search is Python, of which one runs at a time: with
# forty threads at 100 searches a second each waited longer for its turn than Elasticsearch may take to answer, counted
# as unanswered, and was answered from SQL, which costs more than the search: the queue only grew.
MOST_AT_ONCE = 8
_SHORTEST_CODE = 2
_SUGGESTED_LINES = 3

Lang = Literal["es", "en"]


class Duties(TypedDict):
    """Percent, exact, as text ("15.00"); null where the tariff says nothing."""

    dai: str | None
    isc: str | None
    ispc: str | None
    isv: str | None


class PathStep(TypedDict):
    """One node above a line."""

    code: str
    display_code: str
    description: str


class Result(TypedDict):
    """One line that answers."""

    code: str
    display_code: str
    description: str
    path: list[PathStep]
    duties: Duties
    courier_category: str
    courier_reason: str | None
    score: float
    highlights: list[Highlight]
    reason: str


class SearchAnswer(TypedDict):
    """The answer of ``GET /search``. ``total`` counts all hits, of which a page is shown.

    ``guidance`` asks about words too vague to classify; None when there is nothing to ask.
    """

    query: str
    total: int
    took_ms: float
    engine: str
    degraded: bool
    results: list[Result]
    guidance: Guidance | None


class Suggestion(TypedDict):
    """A phrase to search for (``kind`` word), or a line (``kind`` line, with its code)."""

    kind: Literal["word", "line"]
    text: str
    language: str
    code: str | None
    display_code: str | None


class SuggestAnswer(TypedDict):
    """The answer of ``GET /suggest``."""

    query: str
    took_ms: float
    engine: str
    degraded: bool
    suggestions: list[Suggestion]


def make_engine(settings: Settings) -> SearchEngine:
    """The engine the settings name; it asks no server yet. Raises ``InvalidSetting`` for an address that is none."""
    if settings.search_url:
        from sicargabox_core.search.elasticsearch_engine import ElasticsearchEngine

        return ElasticsearchEngine(settings)
    from sicargabox_core.search.tantivy_engine import TantivyEngine

    return TantivyEngine(settings.data_dir / "search")


class SearchService:
    """Searches and suggestions over one database and one engine; safe to use from many threads."""

    def __init__(self, database: Database, settings: Settings, *, engine: SearchEngine | None = None) -> None:
        self._database = database
        self.engine = engine if engine is not None else make_engine(settings)
        self._turns = threading.BoundedSemaphore(MOST_AT_ONCE)

    def search(
        self,
        q: str,
        *,
        limit: int = 20,
        offset: int = 0,
        category: str | None = None,
        chapter: str | None = None,
        lang: str = "es",
    ) -> SearchAnswer:
        """Lines that answer ``q``, best first. Raises ``InvalidInput`` for a filter or page that cannot be."""
        started = time.perf_counter()
        language = _language(lang)
        filters = _filters(category, chapter)
        _check_page(limit, offset)
        query = parse(q)
        with self._turns, self._database.read() as session:
            found = self._find(session, query, filters)
            results = _shown(session, found, found.hits[offset : offset + limit], language)
        seconds = time.perf_counter() - started
        SEARCHES.labels(found.engine, str(found.degraded).lower()).inc()
        SEARCH_SECONDS.labels(found.engine).observe(seconds)
        return SearchAnswer(
            query=q[:LONGEST_QUERY],
            total=len(found.hits),
            took_ms=round(seconds * 1000, 1),
            engine=found.engine,
            degraded=found.degraded,
            results=results,
            guidance=guidance_for(found.query, found.hits, language),
        )

    def suggest(self, q: str, *, limit: int = 8, lang: str = "es") -> SuggestAnswer:
        """Words and lines for a text that is still being typed."""
        started = time.perf_counter()
        language = _language(lang)
        _check_page(limit, 0)
        query = parse(q)
        suggestions: list[Suggestion] = []
        degraded = False
        if not query.empty:
            with self._turns:
                suggestions, degraded = self._suggested(query, fold(q[:LONGEST_QUERY]), limit, language)
        return SuggestAnswer(
            query=q[:LONGEST_QUERY],
            took_ms=round((time.perf_counter() - started) * 1000, 1),
            engine="sql" if degraded else self.engine.name,
            degraded=degraded,
            suggestions=suggestions,
        )

    def _suggested(self, query: Query, typed: str, limit: int, language: Lang) -> tuple[list[Suggestion], bool]:
        """What may be shown, and whether it is nothing because the engine is away."""
        words: list[Suggestion] = []
        if query.code is None:
            try:
                words = [_word(item.text, item.language) for item in self.engine.suggest(typed, limit)]
            except (Unavailable, DataFault) as error:
                log.warning("search.suggest_without_index", error=str(error))
                return [], True
        lines = self._suggested_lines(query, words, limit, language)
        return [*words[: limit - min(len(lines), _SUGGESTED_LINES)], *lines][:limit], False

    def _suggested_lines(
        self, query: Query, words: Sequence[Suggestion], limit: int, language: Lang
    ) -> list[Suggestion]:
        """The best lines for the code typed so far, or for the first phrase that completes the words."""
        wanted = parse(words[0]["text"]) if words else query
        most = limit if query.code else _SUGGESTED_LINES
        with self._database.read() as session:
            found = self._find(session, wanted, Filters())
            shown = _shown(session, found, found.hits[:most], language)
        return [
            Suggestion(
                kind="line",
                text=line["description"]
                if not line["path"]
                else f"{line['description']} — {line['path'][-1]['description']}",
                language=language,
                code=line["code"],
                display_code=line["display_code"],
            )
            for line in shown
        ]

    def _find(self, session: Session, query: Query, filters: Filters) -> _Found:
        if query.empty:
            return _Found(query, [], self.engine.name)
        try:
            return self._ask_engine(query, filters)
        except (Unavailable, DataFault) as error:
            log.warning("search.degraded", error=str(error))
            understood = interpret(query, Vocabulary.empty())
            return _Found.of(understood, sql_candidates(session, query, filters), "sql", degraded=True, code=query.code)

    def _ask_engine(self, query: Query, filters: Filters) -> _Found:
        understood = interpret(query, self.engine.vocabulary())
        weights = {
            stemmed: word.weight * form.quality
            for word in understood.words
            for form in word.forms
            for stemmed in form.stems
        }
        phrases = understood.phrases if understood.words else ()
        code = query.code
        while True:
            lookup = Lookup(code=code, stems=tuple(weights.items()), phrases=phrases)
            found = _Found.of(
                understood, self.engine.candidates(lookup, MOST_CANDIDATES, filters), self.engine.name, code=code
            )
            if found.hits or code is None:
                return found
            # A code that is not in this tariff (another country's last digits, say) leads to the nearest one above.
            code = code[:-1] if len(code) > _SHORTEST_CODE else None


@dataclass(frozen=True)
class _Found:
    """Ranked hits and how they were found; ``code`` is the code that was looked for in the end."""

    query: Query
    hits: list[Hit]
    engine: str
    degraded: bool = False
    code: str | None = None

    @classmethod
    def of(
        cls,
        query: Query,
        candidates: Sequence[Candidate],
        engine: str,
        *,
        degraded: bool = False,
        code: str | None = None,
    ) -> _Found:
        """Ranks the candidates."""
        return cls(query, rank(query, candidates), engine, degraded, code)


_LINES = cast(Table, TariffLine.__table__).c
# Made once: with some seventy codes in it, making the statement took as long as its execution.
_NODES = select(
    _LINES.code,
    _LINES.parent_code,
    _LINES.description_es,
    _LINES.description_en,
    # As they are stored: of a page's nodes less than half are lines whose duties are shown.
    *(type_coerce(duty, String).label(duty.name) for duty in (_LINES.dai, _LINES.isc, _LINES.ispc, _LINES.isv)),
    _LINES.courier_category,
    _LINES.courier_reason_es,
    _LINES.courier_reason_en,
).where(_LINES.code.in_(bindparam("codes", expanding=True)), _LINES.retired_at.is_(None))


def _shown(session: Session, found: _Found, hits: Sequence[Hit], language: Lang) -> list[Result]:
    """The page of results with texts from SQL, in one statement; lines that SQL no longer has are left out."""
    if not hits:
        return []
    codes = {hit.code[:length] for hit in hits for length in range(2, len(hit.code) + 1)}
    nodes = {row.code: row for row in session.execute(_NODES, {"codes": sorted(codes)})}
    page = _Page(found, nodes, language)
    return [page.result(hit) for hit in hits if hit.code in nodes]


class _Above(NamedTuple):
    """The chain above a line, with the words to mark in it."""

    path: tuple[PathStep, ...] = ()
    highlights: tuple[Highlight, ...] = ()


class _Page:
    """Results of one answer. Lines of a heading share what stands above them, so that is made once."""

    def __init__(self, found: _Found, nodes: Mapping[str, Row[*tuple[Any, ...]]], language: Lang) -> None:
        self._found, self._nodes, self._language = found, nodes, language
        self._marker = Marker(found.query)
        self._chains: dict[str, _Above] = {}

    def result(self, hit: Hit) -> Result:
        node = self._nodes[hit.code]
        above = self._above(node.parent_code)
        description = _text(node, self._language)
        reason_es, reason_en = node.courier_reason_es, node.courier_reason_en
        return Result(
            code=hit.code,
            display_code=display_code(hit.code),
            description=description,
            path=list(above.path),
            duties=Duties(
                dai=_percent(node.dai), isc=_percent(node.isc), ispc=_percent(node.ispc), isv=_percent(node.isv)
            ),
            courier_category=CourierCategory(node.courier_category).value,
            courier_reason=(reason_en or reason_es) if self._language == "en" else reason_es,
            score=round(hit.score, 3),
            highlights=[*self._marker.highlights({"description": description}), *above.highlights],
            reason=reason(hit, self._language, asked_code=self._found.query.code, found_code=self._found.code),
        )

    def _above(self, code: str | None) -> _Above:
        """From the chapter down to ``code``; a parent that SQL no longer has ends it."""
        if code is None or code not in self._nodes:
            return _NOTHING_ABOVE
        known = self._chains.get(code)
        if known is None:
            node = self._nodes[code]
            higher = self._above(node.parent_code)
            description = _text(node, self._language)
            marked = self._marker.highlights({f"path.{len(higher.path)}": description})
            step = PathStep(code=code, display_code=display_code(code), description=description)
            known = self._chains[code] = _Above((*higher.path, step), (*higher.highlights, *marked))
        return known


_NOTHING_ABOVE = _Above()


def _text(node: Row[*tuple[Any, ...]], language: Lang) -> str:
    return plain_wording((node.description_en or node.description_es) if language == "en" else node.description_es)


@lru_cache(maxsize=256)
def _percent(stored: Decimal | str | None) -> str | None:
    """ "15.00": two decimals, more only where the tariff has them."""
    if stored is None:
        return None
    value = Decimal(stored)
    cents = value.quantize(Decimal("0.01"))
    return str(cents) if cents == value else f"{value.normalize():f}"


def _word(text: str, language: str) -> Suggestion:
    return Suggestion(kind="word", text=text, language=language, code=None, display_code=None)


def _language(lang: str) -> Lang:
    if lang == "es":
        return "es"
    if lang == "en":
        return "en"
    raise InvalidInput(f"{lang!r} is not a language of ours", field="lang", remedy="Use es or en.")


def _filters(category: str | None, chapter: str | None) -> Filters:
    if category is not None and category not in set(CourierCategory):
        raise InvalidInput(
            f"{category!r} is not a courier category", field="category", remedy="Use ALLOWED, RESTRICTED or PROHIBITED."
        )
    if chapter is not None and not (len(chapter) == 2 and chapter.isascii() and chapter.isdigit()):
        raise InvalidInput(f"{chapter!r} is not a chapter", field="chapter", remedy="Use two digits, e.g. 85.")
    return Filters(category=category, chapter=chapter)


def _check_page(limit: int, offset: int) -> None:
    if not 1 <= limit <= LARGEST_PAGE:
        raise InvalidInput("out of range", field="limit", remedy=f"Use 1 to {LARGEST_PAGE}.")
    if offset < 0:
        raise InvalidInput("must not be negative", field="offset", remedy="Use 0 or more.")
