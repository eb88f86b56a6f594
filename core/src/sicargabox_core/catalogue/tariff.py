"""The tariff's tree: what a code says by its digits, and reading chains, children and declarable lines.

Only reads. Nodes come from ``tariff_import`` or ``starter_catalogue``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sicargabox_core.catalogue.models import Level, TariffLine
from sicargabox_core.errors import InvalidInput, NotFound

# Lengths a node of the tree can have: 2 chapter, 4 heading, 5 and 6 subheading, 7 to 9 national groups, then lines.
CODE_LENGTHS = frozenset({2, 4, 5, 6, 7, 8, 9, 10, 12})
LINE_LENGTH = 10
# Rows fetched at once while streaming; an IN list of this size stays far below SQLite's 32,766 variables.
BATCH = 500


def normalise_code(text: str) -> str:
    """Digits of a code as people write it: ``8517.13``, ``8517 13 00 00`` and ``8517130000`` alike.

    Raises ``InvalidInput`` when it cannot be a code of the tariff.
    """
    digits = re.sub(r"[.\s-]", "", text)
    if not re.fullmatch(r"[0-9]+", digits) or len(digits) not in CODE_LENGTHS:
        raise InvalidInput(
            f"{text[:40]!r} is not a tariff code",
            field="code",
            remedy="Write 2 to 12 digits, with or without dots, such as 8517.13.00.00.",
        )
    return digits


@lru_cache(maxsize=16384)
def display_code(code: str) -> str:
    """A code with its dots: ``8517130000`` → ``8517.13.00.00``."""
    pairs = [code[start : start + 2] for start in range(4, len(code), 2)]
    return ".".join([code[:4], *pairs])


def level_of(code: str) -> Level:
    """The level of the Harmonized System; everything below its six digits is national and a LINE."""
    if len(code) <= 2:
        return Level.CHAPTER
    if len(code) <= 4:
        return Level.HEADING
    return Level.SUBHEADING if len(code) <= 6 else Level.LINE


def ancestors(code: str) -> list[str]:
    """Every code that could stand above ``code``, from chapter down; which of them exist only the table knows."""
    return [code[:length] for length in sorted(CODE_LENGTHS) if length < len(code)]


def get(session: Session, code: str) -> TariffLine:
    """The node, retired or not. Raises ``NotFound``."""
    node = session.get(TariffLine, code)
    if node is None:
        raise NotFound(
            f"there is no code {display_code(code)} in the catalogue", field="code", remedy="Search for it by words."
        )
    return node


def whole_code(session: Session, code: str) -> str:
    """``code``, or the line people mean by it: where nothing is below 8517.13, the tariff has 8517.13.00.00 alone."""
    whole = code.ljust(LINE_LENGTH, "0")
    known = session.scalars(select(TariffLine.code).where(TariffLine.code.in_({code, whole}))).all()
    return code if code in known or whole not in known else whole


def code_after(prefix: str) -> str:
    """A text greater than every code that begins with ``prefix``, and not greater than any code after these.

    Digits and letters keep their order in every collation. A colon, which follows "9" in ASCII, comes before the digits
    or is ignored in others: in a database of ``en_US.UTF-8`` no chapter had a line. No code begins with other text.
    """
    if not (prefix.isascii() and prefix.isdigit()):
        return prefix
    following = prefix.rstrip("9")
    if not following:
        return "a"
    return following[:-1] + str(int(following[-1]) + 1)


def unknown_codes(session: Session, codes: Iterable[str]) -> list[str]:
    """Those at and below which the tariff has no node and never had one, in order; retired nodes are known."""
    unknown = set(codes)
    asked = iter(sorted(unknown))
    while batch := list(islice(asked, BATCH)):
        unknown.difference_update(session.scalars(select(TariffLine.code).where(TariffLine.code.in_(batch))))
    # One look each: few are left, and each look ends at the first node in the order of the key.
    for code in sorted(unknown):
        following = session.scalar(select(func.min(TariffLine.code)).where(TariffLine.code > code))
        if following is not None and following.startswith(code):
            unknown.remove(code)
    return sorted(unknown)


def chain(session: Session, code: str) -> list[TariffLine]:
    """The nodes from the chapter down to ``code`` itself. Raises ``NotFound``."""
    node = get(session, code)
    above = session.scalars(
        select(TariffLine)
        .where(TariffLine.code.in_(ancestors(code)), TariffLine.retired_at.is_(None))
        .order_by(TariffLine.code)
    )
    return [*above, node]


def children(session: Session, code: str | None) -> list[TariffLine]:
    """The nodes directly below ``code`` in the official order; the chapters for ``None``. Retired ones are left out.

    Raises ``NotFound`` when ``code`` is given and there is no such node.
    """
    if code is not None:
        get(session, code)
    statement = (
        select(TariffLine)
        .where(TariffLine.parent_code == code if code else TariffLine.parent_code.is_(None))
        .where(TariffLine.retired_at.is_(None))
        .order_by(TariffLine.position, TariffLine.code)
    )
    return list(session.scalars(statement))


def iter_declarable(session: Session, *, codes: Iterable[str] | None = None) -> Iterator[TariffLine]:
    """The lines that can be declared now, sorted by code; of ``codes`` only, when given.

    Streams: holds at most ``BATCH`` lines at a time, and forgets those it has given.
    """
    if codes is not None:
        wanted = iter(sorted(set(codes)))
        while batch := list(islice(wanted, BATCH)):
            yield from _declarable_page(session, of=batch)
        return
    last = ""
    while page := _declarable_page(session, after=last):
        last = page[-1].code
        yield from page
        for line in page:
            session.expunge(line)


def _declarable_page(session: Session, *, after: str = "", of: Sequence[str] | None = None) -> list[TariffLine]:
    statement = (
        select(TariffLine)
        .where(TariffLine.declarable.is_(True), TariffLine.retired_at.is_(None))
        .order_by(TariffLine.code)
        .limit(BATCH)
    )
    statement = statement.where(TariffLine.code > after) if of is None else statement.where(TariffLine.code.in_(of))
    return list(session.scalars(statement))
