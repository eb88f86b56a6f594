"""A small made-up tariff in our own words, and an engine in a folder of the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from core.tests.search.tariff import fill

from sicargabox_core.catalogue.tariff_import import import_tariff
from sicargabox_core.db import Database, migrate
from sicargabox_core.lexicon.loader import Lexicon, Term
from sicargabox_core.search import indexing
from sicargabox_core.search.documents import count_documents
from sicargabox_core.search.service import SearchService
from sicargabox_core.search.tantivy_engine import TantivyEngine
from sicargabox_core.settings import Settings
from tests.search_laws.place import TantivyPlace
from tests.settings import absent, machine


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


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchService]:
    """A search over the official tariff with the whole vocabulary."""
    if not machine().tariff_csv.is_file():
        absent("the official tariff", f"set SICARGABOX_TEST_TARIFF_CSV (not {machine().tariff_csv})")
    folder = tmp_path_factory.mktemp("tariff")
    database = Database(f"sqlite:///{folder / 'sicargabox.db'}")
    migrate(database)
    english = machine().hs_english_csv
    import_tariff(database, machine().tariff_csv, english=english if english.is_file() else None, by="test")
    service = SearchService(database, Settings(data_dir=folder))
    rebuilt = indexing.rebuild(
        database, service.engine, generation="real", on_step=lambda *_: None, publish=nullcontext
    )
    with database.read() as session:
        assert rebuilt.documents == count_documents(session) > 7000
    yield service
    database.dispose()


@pytest.fixture(autouse=True)
def lexicon(monkeypatch: pytest.MonkeyPatch) -> Lexicon:
    """A vocabulary of a few words, so that laws do not hang on how the real one grows."""
    small = Lexicon(by_code={"851830": [Term("audífonos", "es", "851830"), Term("earbuds", "en", "851830")]})
    monkeypatch.setattr(Lexicon, "load", lambda *_: small)
    return small
