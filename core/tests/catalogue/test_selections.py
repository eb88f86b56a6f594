"""Laws of keeping what people chose and searched."""

from __future__ import annotations

import pytest
from core.tests.catalogue.lines import PHONE, RETIRED, put_lines
from sqlalchemy import select

from sicargabox_core.catalogue import selections
from sicargabox_core.catalogue.models import SearchLog
from sicargabox_core.db import Database
from sicargabox_core.errors import InvalidInput, NotFound

ANA, BEA = "a" * 64, "b" * 64


def test_a_choice_is_kept_with_the_words_as_typed_and_as_compared(database: Database) -> None:
    put_lines(database, PHONE)
    with database.write() as session:
        kept = selections.record(session, line_code=PHONE, query="  iPhone  15\u0000 ", person=ANA, rank=2)
        assert (kept.query, kept.normalized_query, kept.rank, kept.staff) == ("iPhone 15", "iphone 15", 2, False)
        assert kept.created_at.tzinfo is not None
        assert selections.count(session) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"query": " "}, "query"),
        ({"query": "x" * 201}, "query"),
        ({"person": "ana@example.com"}, "person"),
        ({"rank": 0}, "rank"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(database: Database, change: dict[str, object], field: str) -> None:
    put_lines(database, PHONE)
    call = {"line_code": PHONE, "query": "celular", "person": ANA, **change}
    with database.write() as session, pytest.raises(InvalidInput) as caught:
        selections.record(session, **call)  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.field == field


@pytest.mark.parametrize("code", ["8519", RETIRED, "9999999999"])
def test_only_a_line_that_can_be_declared_is_chosen(database: Database, code: str) -> None:
    put_lines(database, RETIRED)
    with database.write() as session, pytest.raises(NotFound):
        selections.record(session, line_code=code, query="celular", person=ANA)


def test_a_choice_is_taken_back_once_and_only_by_the_one_who_made_it(database: Database) -> None:
    put_lines(database, PHONE)
    with database.write() as session:
        kept = selections.record(session, line_code=PHONE, query="celular", person=ANA)
    with pytest.raises(NotFound), database.write() as session:
        selections.undo(session, kept.id, person=BEA)
    with database.write() as session:
        assert selections.count(session) == 1
        first = selections.undo(session, kept.id, person=ANA).undone_at
    with database.write() as session:
        assert first is not None
        assert selections.undo(session, kept.id, person=ANA).undone_at == first
        assert selections.count(session) == 0


def test_a_search_is_logged_without_a_person_and_cut_to_size(database: Database) -> None:
    with database.write() as session:
        selections.log_search(
            session, query="x " * 500, total=0, first_code=None, took_ms=3, engine="tantivy", degraded=False
        )
    with database.read() as session:
        entry = session.scalars(select(SearchLog)).one()
    assert len(entry.query) == 200
    assert "person" not in SearchLog.__table__.c
