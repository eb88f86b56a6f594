"""The gate on the embedded engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tantivy

from sicargabox_core.search.service import make_engine
from tests.search_laws.gate import GateLaws, indexing_system
from tests.servers.valkey import ValkeyServer
from tests.task_system.system import TaskSystem


class TantivyHands:
    """Writes tantivy's files of the generation that serves; the engine's pointer is not told."""

    def __init__(self, system: TaskSystem) -> None:
        self._system = system

    def spoil(self, code: str) -> None:
        self._write(code, "spoiled")

    def remove(self, code: str) -> None:
        self._write(code, None)

    def invent(self, code: str) -> None:
        self._write(code, "invented")

    def _write(self, code: str, content_hash: str | None) -> None:
        generation = make_engine(self._system.settings).status().generation or ""
        index = tantivy.Index.open(str(self._system.settings.data_dir / "search" / "generations" / generation))
        writer = index.writer(heap_size=15_000_000, num_threads=1)
        writer.delete_documents_by_term("code", code)
        if content_hash is not None:
            document = tantivy.Document()
            document.add_text("code", code)
            document.add_text("hash", content_hash)
            document.add_text("above", " ".join(code[:length] for length in range(2, len(code) + 1)))
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()


@pytest.fixture
def system(sqlite_url: str, private_valkey: ValkeyServer, tmp_path: Path) -> Iterator[TaskSystem]:
    """The product around the index."""
    with indexing_system(sqlite_url, private_valkey, tmp_path) as system:
        assert make_engine(system.settings).name == "tantivy"
        yield system


@pytest.fixture
def hands(system: TaskSystem) -> TantivyHands:
    """Writes its files."""
    return TantivyHands(system)


class TestGate(GateLaws):
    """In a folder."""
