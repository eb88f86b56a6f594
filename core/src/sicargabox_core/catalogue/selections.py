"""What people searched and which line they chose; the raw material of learning.

A person is a keyed hash that the caller makes (never a name or an address), so that choices can be counted by person
and not by click. A choice can be taken back by the one who made it.
"""

from __future__ import annotations

import re

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from uuid_utils import uuid7

from sicargabox_core.catalogue.keywords import normalise, visible
from sicargabox_core.catalogue.models import SearchLog, Selection, TariffLine
from sicargabox_core.catalogue.tariff import display_code
from sicargabox_core.db import db_now
from sicargabox_core.errors import InvalidInput, NotFound

MAX_QUERY = 200


def record(
    session: Session, *, line_code: str, query: str, person: str, staff: bool = False, rank: int | None = None
) -> Selection:
    """Keeps that ``person`` chose the line after typing ``query``; ``rank`` is its place in the results, from 1.

    Raises ``InvalidInput`` (query, person, rank) and ``NotFound`` for a line that cannot be declared.
    """
    shown = visible(query)
    normal = normalise(shown)
    if not normal or max(len(shown), len(normal)) > MAX_QUERY:
        raise InvalidInput(
            "the words that were searched are missing or too long",
            field="query",
            remedy=f"Send 1 to {MAX_QUERY} characters.",
        )
    if not re.fullmatch(r"[0-9a-f]{32,64}", person):
        raise InvalidInput("not a keyed hash", field="person", remedy="Send 32 to 64 hexadecimal digits.")
    if rank is not None and not 1 <= rank <= 10_000:
        raise InvalidInput(f"rank is {rank}", field="rank", remedy="Send the place among the results, from 1.")
    line = session.get(TariffLine, line_code)
    if line is None or line.retired_at is not None or not line.declarable:
        raise NotFound(
            f"no line {display_code(line_code)} can be declared", field="line_code", remedy="Choose a line of a search."
        )
    selection = Selection(
        id=str(uuid7()),
        line_code=line_code,
        query=shown,
        normalized_query=normal,
        rank=rank,
        person=person,
        staff=staff,
    )
    session.add(selection)
    session.flush()
    session.refresh(selection)
    return selection


def undo(session: Session, selection_id: str, *, person: str) -> Selection:
    """Takes a choice back; doing it twice changes nothing more.

    Raises ``NotFound`` when there is no such choice of this person.
    """
    session.execute(
        update(Selection)
        .where(Selection.id == selection_id, Selection.person == person, Selection.undone_at.is_(None))
        .values(undone_at=db_now())
        .execution_options(synchronize_session=False)
    )
    selection = session.get(Selection, selection_id, populate_existing=True)
    if selection is None or selection.person != person:
        raise NotFound("there is no such selection of yours", field="id", remedy="Use the id that was given.")
    return selection


def count(session: Session) -> int:
    """Choices that were not taken back."""
    return session.scalar(select(func.count()).select_from(Selection).where(Selection.undone_at.is_(None))) or 0


def log_search(
    session: Session, *, query: str, total: int, first_code: str | None, took_ms: int, engine: str, degraded: bool
) -> None:
    """Keeps one search, without any person; longer texts are cut."""
    session.add(
        SearchLog(
            query=visible(query)[:MAX_QUERY],
            normalized=normalise(query)[:MAX_QUERY],
            total=total,
            first_code=first_code,
            took_ms=took_ms,
            engine=engine[:20],
            degraded=degraded,
        )
    )
