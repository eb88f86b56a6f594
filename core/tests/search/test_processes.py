"""The laws between processes with tantivy, and those of its open files."""

from __future__ import annotations

from core.tests.search.tariff import LINES, build

from sicargabox_core.db import Database
from sicargabox_core.search.tantivy_engine import TantivyEngine
from tests.search_laws.place import TantivyPlace
from tests.search_laws.processes import ProcessLaws


class TestProcesses(ProcessLaws):
    """Over one folder."""


def test_an_open_generation_answers_after_its_files_are_deleted(
    sqlite_catalogue: Database, engine: TantivyEngine, place: TantivyPlace
) -> None:
    build(sqlite_catalogue, engine, "g0")
    held = engine._current()
    for name in ("g1", "g2"):
        build(sqlite_catalogue, TantivyEngine(engine._folder), name)
    assert "g0" not in place.generations()
    assert held.searcher.num_docs == len(LINES)
    assert engine.status().generation == "g2"
