"""Every law of a search engine, on a real Elasticsearch."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from core.tests.search.tariff import fill

from sicargabox_core.db import Database
from sicargabox_core.lexicon.loader import Lexicon, Term
from sicargabox_core.search.elasticsearch_engine import ElasticsearchEngine
from tests.search_laws.answers import AnswerLaws
from tests.search_laws.generations import GenerationLaws
from tests.search_laws.place import ElasticsearchPlace
from tests.search_laws.processes import ProcessLaws
from tests.servers.elasticsearch import remove_indexes


@pytest.fixture
def place(elasticsearch_url: str) -> Iterator[ElasticsearchPlace]:
    """An alias of this test alone."""
    place = ElasticsearchPlace(elasticsearch_url, f"laws-{uuid4().hex[:12]}")
    yield place
    remove_indexes(place.url, place.alias)
    place.close()


@pytest.fixture
def engine(place: ElasticsearchPlace) -> ElasticsearchEngine:
    """An engine without an index."""
    return place.engine()


@pytest.fixture
def sqlite_catalogue(sqlite_url: str) -> Iterator[Database]:
    """The small tariff."""
    database = Database(sqlite_url)
    fill(database)
    yield database
    database.dispose()


@pytest.fixture
def catalogue(sqlite_catalogue: Database) -> Database:
    """The same: what the kind of database changes is told by the embedded engine's run of these laws."""
    return sqlite_catalogue


@pytest.fixture(autouse=True)
def lexicon(monkeypatch: pytest.MonkeyPatch) -> Lexicon:
    """A vocabulary of a few words, so that laws do not hang on how the real one grows."""
    small = Lexicon(by_code={"851830": [Term("audífonos", "es", "851830"), Term("earbuds", "en", "851830")]})
    monkeypatch.setattr(Lexicon, "load", lambda *_: small)
    return small


class TestGenerations(GenerationLaws):
    """Of an alias."""


class TestAnswers(AnswerLaws):
    """From an alias."""


class TestProcesses(ProcessLaws):
    """Over one alias."""
