"""Laws of the starter catalogue."""

from __future__ import annotations

import threading

from sqlalchemy import func, select

from sicargabox_core.catalogue.models import Keyword, TariffLine
from sicargabox_core.catalogue.starter_catalogue import load_starter, starter_nodes
from sicargabox_core.catalogue.tariff import chain, iter_declarable
from sicargabox_core.db import Database


def test_it_covers_what_a_courier_meets() -> None:
    lines = [node for node in starter_nodes() if node.duties is not None]
    assert len(lines) >= 600
    assert len({node.code[:2] for node in lines}) >= 70
    assert all(len(node.keywords_es) >= 3 and node.description_es and node.description_en for node in lines)


def test_it_is_loaded_once_with_approved_keywords_and_chains(database: Database) -> None:
    loaded = load_starter(database)
    assert loaded == sum(node.duties is not None for node in starter_nodes())
    assert load_starter(database) == 0
    with database.read() as session:
        assert sum(1 for _ in iter_declarable(session)) == loaded
        assert session.scalar(select(func.count()).select_from(TariffLine)) == len(starter_nodes())
        assert set(session.scalars(select(Keyword.state).distinct())) == {"APPROVED"}
        assert set(session.scalars(select(Keyword.source).distinct())) == {"starter"}
        codes = [node.code for node in chain(session, "8517130000")]
        assert codes[0] == "85"
        assert codes[-1] == "8517130000"


def test_two_processes_that_start_together_load_it_once(database: Database) -> None:
    loaded: list[int] = []
    threads = [threading.Thread(target=lambda: loaded.append(load_starter(database))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(TariffLine)) == len(starter_nodes())
    assert max(loaded) == sum(node.duties is not None for node in starter_nodes())


def test_it_is_not_loaded_into_a_catalogue_that_has_lines(database: Database) -> None:
    with database.write() as session:
        session.add(
            TariffLine(code="85", level="CHAPTER", position=1, description_es="x", declarable=False, source="official")
        )
    assert load_starter(database) == 0
