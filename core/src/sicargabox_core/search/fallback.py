"""Candidates from SQL and our vocabulary alone, for when there is no index or it does not answer.

Blunter than an engine, but bounded: two statements find codes by their texts, one the lines below them, at most 60.
The same ranker orders them, so answers keep their reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from sicargabox_core.catalogue.models import Keyword, KeywordState, TariffLine
from sicargabox_core.catalogue.tariff import code_after
from sicargabox_core.lexicon.loader import Lexicon
from sicargabox_core.search.documents import documents_of
from sicargabox_core.search.engine import Candidate, Filters
from sicargabox_core.search.evidence import blocks
from sicargabox_core.search.query import Query
from sicargabox_core.search.text import marked_stems, words_of

_MOST_WORDS = 5
_MOST_ROWS = 100
_MOST_CODES = 80
_MOST_LINES = 2000
# Making a line's evidence costs 0.3 ms, and an answer has a tenth of a second once Elasticsearch's time is over. With
# 200 a search took 69 ms of processor time (p95 123) and found the heading among five for 93.7 % of the everyday
# queries; with 60 it takes 38 ms (p95 62) and finds 91.9 %.
_MOST_CANDIDATES = 60
# Letters that may carry an accent match any letter: LIKE knows no accents, and the ranker drops what does not fit.
_ACCENTED = str.maketrans(dict.fromkeys("aeioun", "_"))


def sql_candidates(session: Session, query: Query, filters: Filters) -> list[Candidate]:
    """At most 60 lines that may answer ``query``."""
    codes = _codes_for(session, query)
    if not codes:
        return []
    # Ranges without an order, since they use the primary key: with LIKE, or ordered by SQL, each line was compared with
    # every code.
    below = or_(*(and_(TariffLine.code >= code, TariffLine.code < code_after(code)) for code in codes))
    lines = session.scalars(select(TariffLine.code).where(below, *_conditions(query, filters)).limit(_MOST_LINES)).all()
    place = {code: at for at, code in enumerate(codes)}
    chosen = sorted(lines, key=lambda line: (_place(line, place), line))[:_MOST_CANDIDATES]
    if not chosen:
        return []
    return [
        Candidate(document.code, tuple(part.lines for part in blocks(document)))
        for document in documents_of(session, chosen)
    ]


def _place(line: str, place: dict[str, int]) -> int:
    return min(place[line[:length]] for length in range(1, len(line) + 1) if line[:length] in place)


def _conditions(query: Query, filters: Filters) -> Iterable[ColumnElement[bool]]:
    yield TariffLine.declarable.is_(True)
    yield TariffLine.retired_at.is_(None)
    for beginning in (query.code, filters.chapter):
        if beginning:
            yield TariffLine.code.startswith(beginning, autoescape=True)
    if filters.category:
        yield TariffLine.courier_category == filters.category


def _codes_for(session: Session, query: Query) -> list[str]:
    """Codes of lines, headings or chapters in whose texts the query's words may be, those with most words first."""
    if not query.words:
        return [query.code] if query.code else []
    words = [word.folded for word in query.words if not word.weak] or [word.folded for word in query.words]
    met: Counter[str] = Counter()
    for beginning in {_beginning(word) for word in words[:_MOST_WORDS]}:
        vocabulary = _vocabulary_of(beginning)
        found = {
            *vocabulary,
            *session.scalars(
                select(Keyword.line_code)
                .where(Keyword.state == KeywordState.APPROVED, Keyword.normalized.contains(beginning, autoescape=True))
                .limit(_MOST_ROWS)
            ),
            *session.scalars(
                select(TariffLine.code)
                .where(
                    TariffLine.retired_at.is_(None),
                    TariffLine.description_es.ilike(f"%{beginning.translate(_ACCENTED)}%"),
                )
                .limit(_MOST_ROWS)
            ),
        }
        # A term that is this word alone means it most.
        met.update({code: 2 if vocabulary.get(code) else 1 for code in found})
    return [code for code, _ in met.most_common(_MOST_CODES)]


def _beginning(word: str) -> str:
    """What all forms of a word begin with, nearly always."""
    return min((form[1:] for form in marked_stems(word)), key=len)


def _vocabulary_of(beginning: str) -> dict[str, bool]:
    """Codes with a term that has a word beginning so; true when a term is that word alone."""
    text = _vocabulary_text(Lexicon.load())
    codes: dict[str, bool] = {}
    at = text.find(f" {beginning}")
    while at >= 0:
        start, end = text.rfind("\n", 0, at) + 1, text.index("\n", at)
        code, _, words = text[start:end].partition(" ")
        codes[code] = codes.get(code, False) or " " not in words
        at = text.find(f" {beginning}", end)
    return codes


@lru_cache(maxsize=1)
def _vocabulary_text(lexicon: Lexicon) -> str:
    """Every term and brand as a line, its code first: one search in it is faster than thousands of comparisons."""
    terms = [(code, term.text) for code, terms in lexicon.by_code.items() for term in terms]
    brands = [(brand.code, name) for name, goods in lexicon.brands.items() for brand in goods]
    return "".join([f"{code} {' '.join(words_of(text))}\n" for code, text in terms + brands])
