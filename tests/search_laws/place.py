"""Where an engine keeps its indexes, and what a law may do to them behind its back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from elasticsearch import Elasticsearch

from sicargabox_core.search import elasticsearch_bulk, elasticsearch_state, tantivy_engine
from sicargabox_core.search.elasticsearch_engine import ElasticsearchEngine
from sicargabox_core.search.elasticsearch_mapping import index_body
from sicargabox_core.search.engine import SearchEngine
from sicargabox_core.search.tantivy_engine import TantivyEngine
from sicargabox_core.settings import load_settings

# A writer that was killed with the lock keeps others waiting for this long.
_LOCK_SECONDS = 3.0


class Place(Protocol):
    """A place of one test. ``address`` leads another process to it, see ``open_place``."""

    @property
    def address(self) -> str: ...

    def engine(self) -> SearchEngine:
        """An engine of its own, as another process has it, that sees every change at its next question."""
        ...

    def generations(self) -> set[str]:
        """The names of all generations that are stored."""
        ...

    def leave_crashed(self, name: str) -> None:
        """What a builder leaves that was killed."""
        ...

    def lose_a_document(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on a build is given one document more than is there."""
        ...

    def set_batch(self, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        """How many documents are written between two tellings of progress."""
        ...

    def locked(self, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[object]:
        """Somebody else writes meanwhile, and nobody waits for long."""
        ...

    def away(self) -> AbstractContextManager[object]:
        """Meanwhile there is no index; afterwards it is as before."""
        ...


class TantivyPlace:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def address(self) -> str:
        return str(self.folder)

    def engine(self) -> TantivyEngine:
        return TantivyEngine(self.folder)

    def generations(self) -> set[str]:
        return {place.name for place in (self.folder / "generations").iterdir()}

    def leave_crashed(self, name: str) -> None:
        crashed = self.folder / "generations" / name
        crashed.mkdir()
        (crashed / "journal.jsonl").touch()

    def lose_a_document(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fill = tantivy_engine._fill

        def losing(*arguments: Any) -> Any:
            count, vocabulary = fill(*arguments)
            return count + 1, vocabulary

        monkeypatch.setattr(tantivy_engine, "_fill", losing)

    def set_batch(self, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        monkeypatch.setattr(tantivy_engine, "BATCH", size)

    def locked(self, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[object]:
        monkeypatch.setattr(tantivy_engine, "_LOCK_SECONDS", 0.1)
        return self.engine()._write_lock()

    @contextmanager
    def away(self) -> Iterator[None]:
        hidden = self.folder.with_name("away")
        self.folder.rename(hidden)
        yield
        hidden.rename(self.folder)


class ElasticsearchPlace:
    """An alias of a server."""

    def __init__(self, url: str, alias: str) -> None:
        self.url, self.alias = url, alias
        self.client = Elasticsearch(url, request_timeout=30)

    @property
    def address(self) -> str:
        return f"{self.url}#{self.alias}"

    def engine(self) -> ElasticsearchEngine:
        settings = load_settings(search_url=self.url, search_index=self.alias, search_timeout_seconds=10)
        return ElasticsearchEngine(settings, lock_seconds=_LOCK_SECONDS, look_seconds=0, news_seconds=10)

    def generations(self) -> set[str]:
        found = self.client.indices.get(index=f"{self.alias}-*")
        return {name.removeprefix(f"{self.alias}-") for name in found}

    def leave_crashed(self, name: str) -> None:
        index = f"{self.alias}-{name}"
        settings, mapping = index_body(self.alias, name)
        self.client.indices.create(index=index, settings=settings, mappings=mapping, aliases={f"{index}+build": {}})

    def lose_a_document(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fill = ElasticsearchEngine._fill

        def losing(engine: ElasticsearchEngine, *arguments: Any) -> Any:
            count, vocabulary = fill(engine, *arguments)
            return count + 1, vocabulary

        monkeypatch.setattr(ElasticsearchEngine, "_fill", losing)

    def set_batch(self, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        monkeypatch.setattr(elasticsearch_bulk, "BATCH", size)

    def locked(self, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[object]:
        monkeypatch.setattr(elasticsearch_state, "WAIT_SECONDS", 0.1)
        return self.engine()._state.lock()

    @contextmanager
    def away(self) -> Iterator[None]:
        (index,) = self.client.indices.get_alias(name=self.alias)
        self.client.indices.delete_alias(index=index, name=self.alias)
        yield
        self.client.indices.put_alias(index=index, name=self.alias)

    def close(self) -> None:
        self.client.close()


def open_place(address: str) -> Place:
    """The place that an ``address`` leads to."""
    if address.startswith("http"):
        return ElasticsearchPlace(*address.split("#"))
    return TantivyPlace(Path(address))
