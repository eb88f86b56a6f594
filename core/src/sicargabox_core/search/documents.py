"""Makes the documents of the index from SQL and our vocabulary.

One chapter is in memory at a time, so a tariff of any length needs the memory of its largest chapter. Only lines that
can be declared become documents; everything above them is told by their path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from sicargabox_core.catalogue.models import Keyword, KeywordState, TariffLine
from sicargabox_core.lexicon.loader import Lexicon
from sicargabox_core.search.document import Step, TariffDocument, Term

_LEADING_DASHES = re.compile(r"^[\s\-–—]+")
_SPACES = re.compile(r"\s+")


@lru_cache(maxsize=16384)
def plain_wording(text: str | None) -> str:
    """Official wording without the dashes that show its depth, line breaks and a closing colon."""
    return _SPACES.sub(" ", _LEADING_DASHES.sub("", text or "")).strip().rstrip(":").rstrip()


def count_documents(session: Session) -> int:
    """How many lines can be declared now."""
    return session.query(TariffLine).where(TariffLine.declarable, TariffLine.retired_at.is_(None)).count()


def iter_documents(
    session: Session, codes: Sequence[str] | None = None, *, lexicon: Lexicon | None = None
) -> Iterator[TariffDocument]:
    """The documents of all lines, or of those at or below ``codes``, in order of code.

    Retired lines, and codes that do not exist, give none.
    """
    words = lexicon if lexicon is not None else Lexicon.load()
    if codes is None:
        chapters: Iterable[str] = session.scalars(
            select(TariffLine.code).where(TariffLine.parent_code.is_(None)).order_by(TariffLine.code)
        ).all()
        wanted = None
    else:
        chapters = codes
        wanted = tuple(codes)
    for chapter in sorted({code[:2] for code in chapters}):
        yield from _chapter(session, chapter, wanted, words)


_COLUMNS = (
    TariffLine.code,
    TariffLine.parent_code,
    TariffLine.description_es,
    TariffLine.description_en,
    TariffLine.declarable,
    TariffLine.courier_category,
)


def _chapter(
    session: Session, chapter: str, wanted: tuple[str, ...] | None, lexicon: Lexicon
) -> Iterator[TariffDocument]:
    nodes = session.execute(
        select(*_COLUMNS)
        .where(TariffLine.code >= chapter, TariffLine.code < _after(chapter), TariffLine.retired_at.is_(None))
        .order_by(TariffLine.code)
    ).all()
    keywords: dict[str, tuple[Term, ...]] = {}
    for code, language, text, source in session.execute(
        select(Keyword.line_code, Keyword.language, Keyword.text, Keyword.source)
        .where(
            Keyword.line_code >= chapter, Keyword.line_code < _after(chapter), Keyword.state == KeywordState.APPROVED
        )
        .order_by(Keyword.line_code, Keyword.id)
    ):
        term = Term(text=text, language=language, source=source, code=code)
        keywords[code] = (*keywords.get(code, ()), term)
    parents = {node.code: node for node in nodes if not node.declarable}
    paths: dict[str, tuple[Step, ...]] = {}
    vocabulary: dict[str, tuple[Term, ...]] = {}
    for node in nodes:
        if not node.declarable or (wanted is not None and not node.code.startswith(wanted)):
            continue
        path = _path(node.parent_code, parents, paths)
        terms = [
            term for length in range(2, len(node.code) + 1) for term in _own(node.code[:length], lexicon, vocabulary)
        ]
        terms += (term for step in path for term in keywords.get(step.code, ()))
        terms += keywords.get(node.code, ())
        yield TariffDocument(
            code=node.code,
            description_es=plain_wording(node.description_es),
            description_en=plain_wording(node.description_en),
            path=path,
            terms=tuple(terms),
            courier_category=node.courier_category,
        )


def _after(prefix: str) -> str:
    """The smallest text greater than every code that begins with ``prefix`` (codes are digits, ":" follows "9")."""
    return prefix + ":"


def _path(
    code: str | None,
    parents: dict[str, Row[tuple[str, str | None, str, str | None, bool, str]]],
    done: dict[str, tuple[Step, ...]],
) -> tuple[Step, ...]:
    """The chain from the chapter down to ``code``; a parent that the tariff lacks ends it."""
    if code is None or code not in parents:
        return ()
    if code not in done:
        node = parents[code]
        step = Step(code=code, es=plain_wording(node.description_es), en=plain_wording(node.description_en))
        done[code] = (*_path(node.parent_code, parents, done), step)
    return done[code]


def _own(code: str, lexicon: Lexicon, done: dict[str, tuple[Term, ...]]) -> tuple[Term, ...]:
    """The vocabulary that hangs on this very code, as terms of a document."""
    if code not in done:
        terms = [
            Term(text=term.text, language=term.language, source="lexicon", code=code)
            for term in lexicon.by_code.get(code, ())
        ]
        terms += (
            Term(text=brand.name, language="", source="brand", code=code, note=f"{brand.goods_es}|{brand.goods_en}")
            for brand in lexicon.brands_by_code.get(code, ())
        )
        done[code] = tuple(terms)
    return done[code]
