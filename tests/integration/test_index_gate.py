"""The gate on a real Elasticsearch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from elasticsearch import Elasticsearch

from sicargabox_core.search.document import TariffDocument
from sicargabox_core.search.documents import iter_documents
from sicargabox_core.search.elasticsearch_mapping import as_source
from sicargabox_core.search.evidence import blocks
from sicargabox_core.search.service import make_engine
from tests.search_laws.gate import PHONE, GateLaws, indexing_system
from tests.servers.elasticsearch import remove_indexes
from tests.servers.valkey import ValkeyServer
from tests.task_system.system import TaskSystem


class ElasticsearchHands:
    """Writes to the alias with a client of its own, without the lock and without its token."""

    def __init__(self, system: TaskSystem, url: str, alias: str) -> None:
        self._system, self._url, self._alias = system, url, alias

    def spoil(self, code: str) -> None:
        """See ``Hands``."""
        self._put(code, self._document(code), content_hash="spoiled")

    def remove(self, code: str) -> None:
        """See ``Hands``."""
        with Elasticsearch(self._url) as client:
            client.delete(index=self._alias, id=code, refresh=True)

    def invent(self, code: str) -> None:
        """See ``Hands``."""
        self._put(code, self._document(PHONE).model_copy(update={"code": code}), content_hash="invented")

    def _document(self, code: str) -> TariffDocument:
        with self._system.database.read() as session:
            return next(iter_documents(session, [code]))

    def _put(self, code: str, document: TariffDocument, *, content_hash: str) -> None:
        source = as_source(document, blocks(document)) | {"hash": content_hash}
        with Elasticsearch(self._url) as client:
            client.index(index=self._alias, id=code, document=source, refresh=True)


@pytest.fixture
def alias() -> str:
    """Of this test alone."""
    return f"gate-{uuid4().hex[:12]}"


@pytest.fixture
def system(
    elasticsearch_url: str,
    alias: str,
    sqlite_url: str,
    private_valkey: ValkeyServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[TaskSystem]:
    """The product around the index."""
    for name, value in (("URL", elasticsearch_url), ("INDEX", alias), ("TIMEOUT_SECONDS", "10")):
        monkeypatch.setenv(f"SICARGABOX_SEARCH_{name}", value)
    with indexing_system(sqlite_url, private_valkey, tmp_path) as system:
        assert make_engine(system.settings).name == "elasticsearch"
        yield system
    remove_indexes(elasticsearch_url, alias)


@pytest.fixture
def hands(system: TaskSystem, elasticsearch_url: str, alias: str) -> ElasticsearchHands:
    """Writes its documents."""
    return ElasticsearchHands(system, elasticsearch_url, alias)


class TestGate(GateLaws):
    """On a server."""
