"""Everyday words for tariff lines and their life: proposed, approved, rejected, undone.

A staff decision is never overwritten by a program: what is generated or learned is only proposed (PENDING), is not
searched before somebody approves it, and is not proposed again once it was rejected. Every decision goes into the audit
trail in its own transaction; what changes the searched words raises the catalogue's counter.

The caller updates the index afterwards (task ``search.update_lines`` with the line's code).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, cast

from sqlalchemy import Table, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from sicargabox_core.accounts import audit
from sicargabox_core.catalogue.courier import CATALOGUE_COUNTER
from sicargabox_core.catalogue.models import Keyword, KeywordSource, KeywordState, Language, TariffLine
from sicargabox_core.catalogue.tariff import display_code
from sicargabox_core.db import db_now, insert_if_new
from sicargabox_core.errors import Conflict, InvalidInput, NotFound
from sicargabox_core.tasks.store import bump_counter

MAX_LENGTH: Final = 120
PAGE_LIMIT: Final = 200
_KEYWORDS = cast(Table, Keyword.__table__)
# Joiners that make one word of two (usb-c, 3.5mm, a/c, h&m) stay; everything else that is no letter or digit is a gap.
_GAP = re.compile(r"[^\w\-.+/&' ]|_")
_EDGE = "-.+/&'"


@dataclass(frozen=True)
class Proposal:
    """A word that a program proposes. ``evidence`` says why and holds nothing personal."""

    line_code: str
    language: Language
    text: str
    evidence: dict[str, Any] | None = None


@dataclass(frozen=True)
class Plan:
    """What proposals come to: new rows, better evidence by keyword id, and how many words were known already."""

    fresh: tuple[dict[str, Any], ...]
    stronger: dict[int, dict[str, Any]]
    known: int


@dataclass(frozen=True)
class KeywordPage:
    """A page of keywords, newest first; ``next_cursor`` is none on the last."""

    items: list[Keyword]
    next_cursor: str | None


def visible(text: str) -> str:
    """The text in single spaces, without control characters and lone surrogates, which PostgreSQL cannot store."""
    return " ".join(
        "".join(char for char in text if unicodedata.category(char) not in ("Cc", "Cs") or char.isspace()).split()
    )


def normalise(text: str) -> str:
    """The form in which words are compared: lower case, no accents, single spaces; digits and joiners stay.

    ``  Audífonos USB-C `` → ``audifonos usb-c``; ``iPhone 15`` → ``iphone 15``.
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    words = (word.rstrip(_EDGE.replace("+", "")).lstrip(_EDGE) for word in _GAP.sub(" ", plain).split())
    return " ".join(word for word in words if word)


def checked(text: str) -> tuple[str, str]:
    """The text in single spaces, and its normal form. Raises ``InvalidInput`` when it is empty or too long."""
    shown = visible(text)
    normal = normalise(shown)
    if not normal:
        raise InvalidInput("a keyword needs a letter or a digit", field="text", remedy="Write a word or short phrase.")
    if max(len(shown), len(normal)) > MAX_LENGTH:
        raise InvalidInput(
            f"a keyword has at most {MAX_LENGTH} characters", field="text", remedy="Write a word or short phrase."
        )
    return shown, normal


def add(session: Session, *, line_code: str, language: Language, text: str, by: str) -> Keyword:
    """A staff member's own word, approved at once; approves the same word when it was only proposed.

    Raises ``InvalidInput`` for the text, ``NotFound`` for the line, ``Conflict`` when the word is there already or
    somebody rejected it.
    """
    shown, normal = checked(text)
    line = session.get(TariffLine, line_code)
    if line is None or line.retired_at is not None:
        raise NotFound(
            f"there is no tariff line {display_code(line_code)}", field="line_code", remedy="Choose an existing line."
        )
    created = session.execute(
        insert_if_new(session, _KEYWORDS)
        .values(
            line_code=line_code,
            language=language.value,
            text=shown,
            normalized=normal,
            source=KeywordSource.STAFF.value,
            state=KeywordState.APPROVED.value,
            created_by=by,
            decided_by=by,
            decided_at=db_now(),
        )
        .returning(_KEYWORDS.c.id)
    ).scalar()
    if created is None:
        known = session.scalars(
            select(Keyword).where(
                Keyword.line_code == line_code, Keyword.language == language.value, Keyword.normalized == normal
            )
        ).one()
        if known.state == KeywordState.PENDING:
            return approve(session, known.id, by=by)
        raise _decided_before(known)
    _trail(session, created, by, "keyword.add", None, KeywordState.APPROVED, line_code, shown)
    return get(session, created)


def approve(session: Session, keyword_id: int, *, by: str) -> Keyword:
    """PENDING → APPROVED. Raises ``NotFound``, or ``Conflict`` naming who decided before."""
    return _decide(session, keyword_id, KeywordState.PENDING, KeywordState.APPROVED, by)


def reject(session: Session, keyword_id: int, *, by: str, seen: KeywordState = KeywordState.PENDING) -> Keyword:
    """``seen`` → REJECTED, where ``seen`` is the state on the caller's screen; APPROVED takes a wrong word away.

    Raises ``NotFound``, or ``Conflict`` naming who decided before.
    """
    return _decide(session, keyword_id, seen, KeywordState.REJECTED, by)


def undo(session: Session, keyword_id: int, *, by: str) -> Keyword:
    """Takes a decision back: a starter word is APPROVED again, any other PENDING.

    Raises ``NotFound``, or ``Conflict`` when nothing was decided.
    """
    keyword = get(session, keyword_id)
    before = KeywordState(keyword.state)
    if keyword.decided_by is None:
        raise Conflict("nothing was decided about this keyword", field="state", remedy="Load the list again.")
    after = KeywordState.APPROVED if keyword.source == KeywordSource.STARTER else KeywordState.PENDING
    result = session.execute(
        update(Keyword)
        .where(Keyword.id == keyword_id, Keyword.state == before, Keyword.decided_by == keyword.decided_by)
        .values(state=after, decided_by=None, decided_at=None)
        .execution_options(synchronize_session=False)
    )
    if not cast("CursorResult[Any]", result).rowcount:
        raise _decided_before(_fresh(session, keyword_id))
    _trail(session, keyword_id, by, "keyword.undo", before, after, keyword.line_code, keyword.text)
    return _fresh(session, keyword_id)


def get(session: Session, keyword_id: int) -> Keyword:
    """The keyword. Raises ``NotFound``."""
    return _fresh(session, keyword_id)


def list_keywords(
    session: Session,
    *,
    line_code: str | None = None,
    code_prefix: str | None = None,
    states: Collection[KeywordState] = (),
    sources: Collection[KeywordSource] = (),
    language: Language | None = None,
    contains: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> KeywordPage:
    """Keywords that pass every filter given, newest first. ``before`` is the cursor of the page before.

    Raises ``InvalidInput`` for a cursor or limit that makes no sense.
    """
    if not 1 <= limit <= PAGE_LIMIT:
        raise InvalidInput(f"limit is {limit}", field="limit", remedy=f"Ask for 1 to {PAGE_LIMIT}.")
    statement = select(Keyword).order_by(Keyword.id.desc()).limit(limit + 1)
    if line_code is not None:
        statement = statement.where(Keyword.line_code == line_code)
    if code_prefix:
        statement = statement.where(Keyword.line_code.startswith(code_prefix, autoescape=True))
    if states:
        statement = statement.where(Keyword.state.in_([state.value for state in states]))
    if sources:
        statement = statement.where(Keyword.source.in_([source.value for source in sources]))
    if language is not None:
        statement = statement.where(Keyword.language == language.value)
    if contains and (wanted := normalise(contains)):
        statement = statement.where(Keyword.normalized.contains(wanted, autoescape=True))
    if before is not None:
        if not re.fullmatch(r"[0-9]{1,18}", before):
            raise InvalidInput("not a cursor of this list", field="before", remedy="Use next_cursor of the last page.")
        statement = statement.where(Keyword.id < int(before))
    rows = list(session.scalars(statement))
    more = len(rows) > limit
    items = rows[:limit]
    return KeywordPage(items, str(items[-1].id) if more else None)


def plan(session: Session, proposals: Iterable[Proposal], *, source: KeywordSource, by: str) -> Plan:
    """Reads what is known of the proposed words and says what would be written; writes nothing.

    A word the line has already, in whatever state and language, stays as it is; only a PENDING one gets the new
    evidence, when more people stand behind it. Words that are too long or empty, lines that are not there, and words
    said twice are left out.
    """
    fresh: list[dict[str, Any]] = []
    stronger: dict[int, dict[str, Any]] = {}
    known = 0
    waiting = iter(proposals)
    planned: set[tuple[str, str]] = set()
    while batch := list(islice(waiting, 500)):
        codes = {proposal.line_code for proposal in batch}
        stored = _stored_words(session, codes)
        lines = set(
            session.scalars(select(TariffLine.code).where(TariffLine.code.in_(codes), TariffLine.retired_at.is_(None)))
        )
        for proposal in batch:
            shown, normal = visible(proposal.text), normalise(proposal.text)
            key = (proposal.line_code, normal)
            if proposal.line_code not in lines or not normal or max(len(shown), len(normal)) > MAX_LENGTH:
                continue
            if key in planned:
                continue
            planned.add(key)
            same = stored.get(key)
            if same is None:
                fresh.append(
                    {
                        "line_code": proposal.line_code,
                        "language": proposal.language.value,
                        "text": shown,
                        "normalized": normal,
                        "source": source.value,
                        "state": KeywordState.PENDING.value,
                        "evidence": proposal.evidence,
                        "created_by": by,
                    }
                )
            elif _is_stronger(same, proposal.evidence):
                stronger[same.id] = {**(same.evidence or {}), **(proposal.evidence or {})}
            else:
                known += 1
    return Plan(tuple(fresh), stronger, known)


def carry_out(session: Session, planned: Plan) -> None:
    """Writes a plan. What somebody proposed or decided since it was made stays as they left it."""
    # RETURNING: only with it does SQLAlchemy send many rows in one statement beside ON CONFLICT.
    new = insert_if_new(session, _KEYWORDS).returning(_KEYWORDS.c.id)
    for start in range(0, len(planned.fresh), 500):
        session.execute(new, list(planned.fresh[start : start + 500])).all()
    for keyword_id, evidence in planned.stronger.items():
        session.execute(
            update(Keyword)
            .where(Keyword.id == keyword_id, Keyword.state == KeywordState.PENDING)
            .values(evidence=evidence)
            .execution_options(synchronize_session=False)
        )


def _stored_words(session: Session, line_codes: Collection[str]) -> dict[tuple[str, str], Keyword]:
    stored: dict[tuple[str, str], Keyword] = {}
    for row in session.scalars(select(Keyword).where(Keyword.line_code.in_(line_codes))):
        key = (row.line_code, row.normalized)
        # In two languages a word is two rows; what somebody decided about one of them counts.
        if key not in stored or row.state != KeywordState.PENDING:
            stored[key] = row
    return stored


def _is_stronger(keyword: Keyword, evidence: dict[str, Any] | None) -> bool:
    if not evidence or keyword.state != KeywordState.PENDING:
        return False
    return int(evidence.get("people", 0)) > int((keyword.evidence or {}).get("people", 0))


def _decide(session: Session, keyword_id: int, seen: KeywordState, after: KeywordState, by: str) -> Keyword:
    result = session.execute(
        update(Keyword)
        .where(Keyword.id == keyword_id, Keyword.state == seen)
        .values(state=after, decided_by=by, decided_at=db_now())
        .execution_options(synchronize_session=False)
    )
    keyword = _fresh(session, keyword_id)
    if not cast("CursorResult[Any]", result).rowcount:
        raise _decided_before(keyword)
    action = "keyword.approve" if after == KeywordState.APPROVED else "keyword.reject"
    _trail(session, keyword_id, by, action, seen, after, keyword.line_code, keyword.text)
    return keyword


def _fresh(session: Session, keyword_id: int) -> Keyword:
    keyword = session.get(Keyword, keyword_id, populate_existing=True)
    if keyword is None:
        raise NotFound(f"there is no keyword {keyword_id}", field="id", remedy="Load the list again.")
    return keyword


def _decided_before(keyword: Keyword) -> Conflict:
    who = f" by {keyword.decided_by}" if keyword.decided_by else ""
    return Conflict(
        f"“{keyword.text}” is {keyword.state} already{who}",
        field="state",
        remedy="Load the list again; a decision can be undone.",
    )


def _trail(
    session: Session,
    keyword_id: int,
    by: str,
    action: str,
    before: KeywordState | None,
    after: KeywordState,
    line_code: str,
    text: str,
) -> None:
    audit.record(
        session,
        actor=by,
        action=action,
        object_type="keyword",
        object_id=keyword_id,
        before={"state": before.value} if before else None,
        after={"state": after.value, "line_code": line_code, "text": text},
    )
    if KeywordState.APPROVED in (before, after):
        bump_counter(session, CATALOGUE_COUNTER)
