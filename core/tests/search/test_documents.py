"""What the index is made of: the same lines whatever database holds them, and in whatever language it sorts."""

from __future__ import annotations

import pytest
from core.tests.search.tariff import LINES
from sqlalchemy import insert

from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.db import Database
from sicargabox_core.search.documents import count_documents, iter_documents


def test_every_line_that_can_be_declared_becomes_a_document_on_each_database(catalogue: Database) -> None:
    with catalogue.read() as session:
        assert [one.code for one in iter_documents(session)] == sorted(LINES)
        assert count_documents(session) == len(LINES)


@pytest.mark.parametrize("chapter", ["09", "19", "99"])
def test_a_chapter_ends_where_the_next_begins(database: Database, chapter: str) -> None:
    first, last, foreign = f"{chapter}00000000", f"{chapter}99999999", f"{(int(chapter) + 1) % 100:02}00000000"
    rows = [(chapter, None), (first, chapter), (last, chapter), (foreign, None)]
    with database.write() as session:
        for code, parent in rows:
            session.execute(
                insert(TariffLine).values(
                    code=code,
                    level="CHAPTER" if code == chapter else "LINE",
                    parent_code=parent,
                    position=0,
                    description_es="Mercancías",
                    description_en="Goods",
                    declarable=code != chapter,
                    source="starter",
                    courier_category="ALLOWED",
                )
            )
    with database.read() as session:
        assert [one.code for one in iter_documents(session, [chapter])] == [first, last]
        assert [one.code for one in iter_documents(session, [first])] == [first]
