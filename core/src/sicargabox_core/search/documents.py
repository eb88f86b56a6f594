"""Makes the documents of the index from SQL and our vocabulary.

One chapter is in memory at a time, so a tariff of any length needs the memory of its largest chapter. Only lines that
can be declared become documents; everything above them is told by their path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from sicargabox_core.catalogue.models import Keyword, KeywordState, TariffLine
from sicargabox_core.catalogue.tariff import code_after
from sicargabox_core.lexicon.loader import Lexicon
from sicargabox_core.search.document import Step, TariffDocument, Term, TermGroup

_LEADING_DASHES = re.compile(r"^[\s\-–—]+")
_SPACES = re.compile(r"\s+")
_SHORTEST_CODE = 2
# Of more codes of one chapter the whole chapter is read: one statement must stay short.
_FEW = 50
# Each further kind of goods of a brand is this much less likely meant than the one before.
_LESS_TYPICAL = 0.9


# The wordings of a tariff in both languages, which searches show: 4 MB. With fewer most were made anew each time.
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
        yield from _documents(
            session,
            _within(TariffLine.code, chapter, wanted),
            _within(Keyword.line_code, chapter, wanted),
            wanted,
            words,
        )


_COLUMNS = (
    TariffLine.code,
    TariffLine.parent_code,
    TariffLine.description_es,
    TariffLine.description_en,
    TariffLine.declarable,
    TariffLine.courier_category,
)


def documents_of(session: Session, lines: Sequence[str]) -> Iterator[TariffDocument]:
    """The documents of some hundred lines of any chapters, in two statements."""
    above = sorted({code[:length] for code in lines for length in range(_SHORTEST_CODE, len(code) + 1)})
    yield from _documents(
        session, TariffLine.code.in_(above), Keyword.line_code.in_(above), tuple(lines), Lexicon.load()
    )


def _documents(
    session: Session,
    nodes_wanted: ColumnElement[bool],
    keywords_wanted: ColumnElement[bool],
    wanted: tuple[str, ...] | None,
    lexicon: Lexicon,
) -> Iterator[TariffDocument]:
    nodes = session.execute(
        select(*_COLUMNS).where(nodes_wanted, TariffLine.retired_at.is_(None)).order_by(TariffLine.code)
    ).all()
    tree = _Tree(
        lexicon,
        parents={
            row.code: (row.parent_code, row.description_es, row.description_en) for row in nodes if not row.declarable
        },
        keywords=_keywords(session, keywords_wanted),
    )
    for code, parent_code, description_es, description_en, declarable, courier_category in nodes:
        if declarable and (wanted is None or code.startswith(wanted)):
            yield TariffDocument(
                code=code,
                description_es=plain_wording(description_es),
                description_en=plain_wording(description_en),
                path=tree.path(parent_code),
                terms=tree.groups(code),
                courier_category=courier_category,
            )


def _keywords(session: Session, wanted: ColumnElement[bool]) -> dict[str, list[Term]]:
    found: dict[str, list[Term]] = {}
    for code, language, text, source in session.execute(
        select(Keyword.line_code, Keyword.language, Keyword.text, Keyword.source)
        .where(wanted, Keyword.state == KeywordState.APPROVED)
        .order_by(Keyword.line_code, Keyword.id)
    ):
        found.setdefault(code, []).append(Term(text=text, language=language, source=source))
    return found


def _within(column: InstrumentedAttribute[str], chapter: str, wanted: tuple[str, ...] | None) -> ColumnElement[bool]:
    """All of the chapter; of few wanted codes only what is at, above or below them."""
    here = [code for code in wanted or () if code.startswith(chapter)]
    if not here or len(here) > _FEW:
        return and_(column >= chapter, column < code_after(chapter))
    above = {code[:length] for code in here for length in range(_SHORTEST_CODE, len(code) + 1)}
    return or_(column.in_(sorted(above)), *(and_(column > code, column < code_after(code)) for code in here))


class _Tree:
    """A chapter's nodes above its lines; what lines have in common is made once and shared by their documents."""

    def __init__(
        self,
        lexicon: Lexicon,
        parents: dict[str, tuple[str | None, str, str | None]],
        keywords: dict[str, list[Term]],
    ) -> None:
        self._lexicon, self._parents, self._keywords = lexicon, parents, keywords
        self._paths: dict[str, tuple[Step, ...]] = {}
        self._groups: dict[str, tuple[TermGroup, ...]] = {}

    def path(self, code: str | None) -> tuple[Step, ...]:
        """The chain from the chapter down to ``code``; a parent that the tariff lacks ends it."""
        if code is None or code not in self._parents:
            return ()
        if code not in self._paths:
            above, es, en = self._parents[code]
            step = Step(code=code, es=plain_wording(es), en=plain_wording(en))
            self._paths[code] = (*self.path(above), step)
        return self._paths[code]

    def groups(self, code: str) -> tuple[TermGroup, ...]:
        """The terms that hang on ``code`` and on every code it begins with, the widest first."""
        if len(code) < _SHORTEST_CODE:
            return ()
        known = self._groups.get(code)
        if known is None:
            own = self._terms(code)
            known = self.groups(code[:-1])
            if own:
                known = (*known, TermGroup(code=code, terms=own))
            self._groups[code] = known
        return known

    def _terms(self, code: str) -> tuple[Term, ...]:
        if not (code in self._lexicon.by_code or code in self._lexicon.brands_by_code or code in self._keywords):
            return ()
        return (
            *(
                Term(text=term.text, language=term.language, source="lexicon", weight=term.weight)
                for term in self._lexicon.by_code.get(code, ())
            ),
            *(
                Term(
                    text=brand.name,
                    language="",
                    source="brand",
                    weight=_LESS_TYPICAL**brand.rank,
                    note=f"{brand.goods_es}|{brand.goods_en}",
                )
                for brand in self._lexicon.brands_by_code.get(code, ())
            ),
            *self._keywords.get(code, ()),
        )
