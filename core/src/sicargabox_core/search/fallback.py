"""Candidates from SQL alone, for when there is no index or it does not answer.

Slower and blunter than an engine, but bounded: a few LIKE conditions over codes, wording and keywords, at most 200
lines. The same ranker orders them, so answers keep their reasons.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from sicargabox_core.catalogue.models import Keyword, KeywordState, TariffLine
from sicargabox_core.lexicon.loader import Lexicon
from sicargabox_core.search.documents import iter_documents
from sicargabox_core.search.engine import MOST_CANDIDATES, Candidate, Filters
from sicargabox_core.search.evidence import blocks
from sicargabox_core.search.query import Query
from sicargabox_core.search.text import marked_stems, words_of

_MOST_WORDS = 5
_MOST_NODES = 60
# Letters that may carry an accent match any letter: LIKE knows no accents, and the ranker drops what does not fit.
_ACCENTED = str.maketrans(dict.fromkeys("aeioun", "_"))


def sql_candidates(session: Session, query: Query, filters: Filters) -> list[Candidate]:
    """At most 200 lines that may answer ``query``."""
    codes = _codes_for(session, query)
    if not codes:
        return []
    below = or_(*(TariffLine.code.startswith(code, autoescape=True) for code in codes))
    lines = session.scalars(
        select(TariffLine.code).where(below, *_conditions(filters)).order_by(TariffLine.code).limit(MOST_CANDIDATES)
    ).all()
    return (
        [
            Candidate(document.code, tuple(part.lines for part in blocks(document)))
            for document in iter_documents(session, lines)
        ]
        if lines
        else []
    )


def _conditions(filters: Filters) -> Iterable[ColumnElement[bool]]:
    yield TariffLine.declarable.is_(True)
    yield TariffLine.retired_at.is_(None)
    if filters.category:
        yield TariffLine.courier_category == filters.category
    if filters.chapter:
        yield TariffLine.code.startswith(filters.chapter, autoescape=True)


def _codes_for(session: Session, query: Query) -> list[str]:
    """Codes of lines, headings or chapters whose texts may hold the query's words; a typed code is such a code."""
    if not query.words:
        return [query.code] if query.code else []
    words = [word for word in query.words if not word.weak][:_MOST_WORDS] or list(query.words[:_MOST_WORDS])
    marked = {form for word in words for form in marked_stems(word.folded)}
    forms = {form[1:] for form in marked}
    found: dict[str, None] = {}
    lexicon = Lexicon.load()
    typed = set(query.tokens)
    for code, terms in lexicon.by_code.items():
        if any(
            not marked.isdisjoint(marked_stems(word, term.language)) for term in terms for word in words_of(term.text)
        ):
            found[code] = None
    for brand, goods in lexicon.brands.items():
        if set(words_of(brand)) <= typed:
            found.update(dict.fromkeys(item.code for item in goods))
    found.update(
        dict.fromkeys(
            session.scalars(
                select(Keyword.line_code)
                .where(
                    Keyword.state == KeywordState.APPROVED,
                    or_(*(Keyword.normalized.contains(form, autoescape=True) for form in forms)),
                )
                .limit(_MOST_NODES)
            )
        )
    )
    found.update(
        dict.fromkeys(
            session.scalars(
                select(TariffLine.code)
                .where(
                    TariffLine.retired_at.is_(None),
                    or_(*(TariffLine.description_es.ilike(f"%{form.translate(_ACCENTED)}%") for form in forms)),
                )
                .limit(_MOST_NODES)
            )
        )
    )
    codes = [code for code in found if query.code is None or code.startswith(query.code)]
    return codes[: 2 * _MOST_NODES]
