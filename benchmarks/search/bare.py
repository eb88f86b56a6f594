"""The peers of a rebuild: the same documents, made beforehand, given to each engine's own library and nothing more.

No tariff is read, no wording is taken apart, nothing is counted, locked, proved or put into service: what is left is
what the engine itself needs.
"""

from __future__ import annotations

import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import tantivy
from elasticsearch import Elasticsearch
from elasticsearch.helpers import bulk

from sicargabox_core.search.document import TariffDocument
from sicargabox_core.search.elasticsearch_mapping import as_source, index_body
from sicargabox_core.search.evidence import Block, blocks

# The engine's own, so that both write the same fields: a copy here would drift.
from sicargabox_core.search.tantivy_engine import _BUILD_HEAP, _as_tantivy, _schema

INDEX = "bench-bare"
SECONDS = 120.0


class Peer(ABC):
    """Holds the documents as the library takes them; making them is a share of a rebuild that the peer is spared."""

    def __init__(self, documents: Callable[[], Iterable[TariffDocument]]) -> None:
        """``documents`` begins anew at each call."""
        self._documents = documents
        self._made = [self.plain(self.prepare(document, blocks(document))) for document in documents()]

    def make(self) -> float:
        """The seconds that it takes to read the documents and to prepare them for the engine, which is not asked."""
        began = time.perf_counter()
        for document in self._documents():
            self.prepare(document, blocks(document))
        return time.perf_counter() - began

    @abstractmethod
    def prepare(self, document: TariffDocument, parts: Sequence[Block]) -> Any:
        """A document as a rebuild gives it to the engine's library."""

    def plain(self, prepared: Any) -> Any:
        """The same as ``fill`` takes it."""
        return prepared

    @abstractmethod
    def fill(self) -> float:
        """Adds all to a new index until they can be searched; returns the seconds. The index is removed after it."""


class BareTantivy(Peer):
    """Adding to a writer, and a commit."""

    def __init__(self, folder: Path, documents: Callable[[], Iterable[TariffDocument]]) -> None:
        super().__init__(documents)
        self._place = folder / "bare"

    def prepare(self, document: TariffDocument, parts: Sequence[Block]) -> Any:
        """As the engine does."""
        return _as_tantivy(document, parts)

    def plain(self, prepared: Any) -> Any:
        """Its fields and their values; the library tells bytes as a list of numbers."""
        return {
            name: [value if isinstance(value, str) else bytes(value) for value in values]
            for name, values in prepared.to_dict().items()
        }

    def fill(self) -> float:
        """See ``Peer.fill``."""
        self._place.mkdir()
        began = time.perf_counter()
        index = tantivy.Index(_schema(), path=str(self._place))
        writer = index.writer(heap_size=_BUILD_HEAP, num_threads=1)
        for fields in self._made:
            document = tantivy.Document()
            for name, values in fields.items():
                for value in values:
                    if isinstance(value, str):
                        document.add_text(name, value)
                    else:
                        document.add_bytes(name, value)
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        seconds = time.perf_counter() - began
        assert index.searcher().num_docs == len(self._made)
        shutil.rmtree(self._place)
        return seconds


class BareElasticsearch(Peer):
    """The client's bulk helper as it comes, an index of the same mapping and settings, and a refresh."""

    def __init__(self, url: str, documents: Callable[[], Iterable[TariffDocument]]) -> None:
        super().__init__(documents)
        self._client = Elasticsearch(url, request_timeout=SECONDS)

    def prepare(self, document: TariffDocument, parts: Sequence[Block]) -> Any:
        """Its code and its source."""
        return document.code, as_source(document, parts)

    def fill(self) -> float:
        """See ``Peer.fill``."""
        settings, mapping = index_body(INDEX, "bare")
        began = time.perf_counter()
        self._client.indices.create(index=INDEX, settings=settings, mappings=mapping)
        bulk(self._client, ({"_index": INDEX, "_id": code, "_source": source} for code, source in self._made))
        self._client.indices.refresh(index=INDEX)
        seconds = time.perf_counter() - began
        assert self._client.count(index=INDEX)["count"] == len(self._made)
        self._client.indices.delete(index=INDEX)
        return seconds
