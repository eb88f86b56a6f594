"""A small made-up tariff in our own words, and an engine in a folder of the test."""

from __future__ import annotations

from pathlib import Path

import pytest
from core.tests.search.tariff import fill

from sicargabox_core.db import Database
from sicargabox_core.lexicon.loader import Lexicon, Term
from sicargabox_core.search.tantivy_engine import TantivyEngine
from tests.search_laws.place import TantivyPlace


@pytest.fixture
def catalogue(database: Database) -> Database:
    """The small tariff on each kind of database."""
    fill(database)
    return database


@pytest.fixture
def sqlite_catalogue(sqlite_url: str) -> Database:
    """The small tariff on SQLite alone, for laws in which the database plays no part."""
    database = Database(sqlite_url)
    fill(database)
    return database


@pytest.fixture
def place(tmp_path: Path) -> TantivyPlace:
    """A folder that the first rebuild makes."""
    return TantivyPlace(tmp_path / "search")


@pytest.fixture
def engine(place: TantivyPlace) -> TantivyEngine:
    """An engine without an index."""
    return place.engine()


@pytest.fixture(autouse=True)
def lexicon(monkeypatch: pytest.MonkeyPatch) -> Lexicon:
    """A vocabulary of a few words, so that laws do not hang on how the real one grows."""
    small = Lexicon(by_code={"851830": [Term("audífonos", "es", "851830"), Term("earbuds", "en", "851830")]})
    monkeypatch.setattr(Lexicon, "load", lambda *_: small)
    return small
