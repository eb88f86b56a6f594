"""The laws of an index generation with tantivy, and those of its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from core.tests.search.tariff import LINES, build

from sicargabox_core.db import Database
from sicargabox_core.errors import Unavailable
from sicargabox_core.search.engine import Proof
from sicargabox_core.search.tantivy_engine import TantivyEngine
from tests.search_laws.generations import GenerationLaws


class TestGenerations(GenerationLaws):
    """In a folder."""


@pytest.mark.parametrize("content", ["", "{", '{"number": 3}', "[]"])
def test_a_broken_pointer_is_mended_by_a_rebuild(
    sqlite_catalogue: Database, engine: TantivyEngine, content: str
) -> None:
    build(sqlite_catalogue, engine)
    (engine._folder / "pointer.json").write_text(content)
    assert (engine.status().ready, engine.status().fault) == (False, "unreadable")
    build(sqlite_catalogue, engine, "second")
    assert engine.status().documents == len(LINES)


def test_a_folder_that_cannot_be_written_is_one_clear_error(sqlite_catalogue: Database, tmp_path: Path) -> None:
    (tmp_path / "search").write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match="could not be written"):
        build(sqlite_catalogue, TantivyEngine(tmp_path / "search"))


def test_the_pointer_names_what_was_proved(sqlite_catalogue: Database, engine: TantivyEngine) -> None:
    build(sqlite_catalogue, engine)
    pointer = json.loads((engine._folder / "pointer.json").read_text())
    assert engine.status().proof == Proof(given=len(LINES), held=len(LINES))
    assert pointer["proof"] == {"given": len(LINES), "held": len(LINES)}


def test_a_pointer_of_a_release_that_wrote_its_proof_as_a_sentence_still_serves(
    sqlite_catalogue: Database, engine: TantivyEngine
) -> None:
    build(sqlite_catalogue, engine)
    file = engine._folder / "pointer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"proof": "9 documents given, 9 held"}))
    status = engine.status()
    assert (status.ready, status.documents, status.proof) == (True, len(LINES), None)


def test_a_folder_without_an_index_says_so(engine: TantivyEngine) -> None:
    assert (engine.status().health, engine.status().fault) == ("red", "no_index")
