"""What the sections share: the tariff, imported once, and a private Elasticsearch, started when it is first needed."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from functools import cached_property
from itertools import count
from pathlib import Path

from benchmarks.installation import Installation
from benchmarks.search.engines import build, engine_of, remove
from benchmarks.search.options import Options
from sicargabox_core.catalogue.starter_catalogue import load_starter
from sicargabox_core.catalogue.tariff_import import import_tariff
from sicargabox_core.db import Database, migrate
from sicargabox_core.search.engine import SearchEngine
from sicargabox_core.search.evaluate import Labelled, read_set
from tests.servers.elasticsearch import ElasticsearchServer
from tests.settings import REPOSITORY, machine

HEAP = "1g"
PATIENCE_SECONDS = 5.0


class Stage:
    """A context manager; whatever was started ends with it."""

    def __init__(self, options: Options, folder: Path) -> None:
        """``folder`` takes everything that is written."""
        self.options = options
        self.folder = folder
        self._numbers = count(1)
        self._server: ElasticsearchServer | None = None

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._server is not None:
            self._server.stop()

    @property
    def server(self) -> ElasticsearchServer:
        """Elasticsearch with the compilers that its users have, not the quick one of the tests."""
        if self._server is None:
            if not machine().search_server.is_file():
                raise SystemExit(
                    f"Elasticsearch is not here ({machine().search_server}): set SICARGABOX_TEST_SEARCH_SERVER, "
                    "or measure the other engine alone with --engines tantivy"
                )
            server = ElasticsearchServer(heap=HEAP, full_jit=True)
            self._server = server
            server.start()
        return self._server

    @cached_property
    def _tariff(self) -> tuple[Path, str]:
        path = self.folder / "tariff.db"
        database = Database(f"sqlite:///{path}")
        migrate(database)
        english = machine().hs_english_csv
        if machine().tariff_csv.is_file():
            import_tariff(
                database, machine().tariff_csv, english=english if english.is_file() else None, by="benchmark"
            )
            name = "official tariff"
        else:
            load_starter(database)
            name = "starter catalogue (SICARGABOX_TEST_TARIFF_CSV names no file)"
        database.dispose()
        return path, name

    @property
    def catalogue(self) -> str:
        """Which tariff the real one is on this machine."""
        return self._tariff[1]

    @cached_property
    def everyday(self) -> list[Labelled]:
        """The labelled everyday queries."""
        return read_set(REPOSITORY / "core" / "tests" / "search" / "everyday.csv")

    def new_folder(self, name: str) -> Path:
        """An empty one."""
        folder = self.folder / f"{name}-{next(self._numbers)}"
        folder.mkdir()
        return folder

    def variables(self, engine: str) -> dict[str, str]:
        """The settings that choose this engine, with an index of its own."""
        if engine == "tantivy":
            return {}
        return {"SEARCH_URL": self.server.url, "SEARCH_INDEX": f"bench-{next(self._numbers)}"}

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """The tariff."""
        database = Database(f"sqlite:///{self._tariff[0]}")
        try:
            yield database
        finally:
            database.dispose()

    @contextlib.contextmanager
    def engine_settings(self, name: str) -> Iterator[dict[str, str]]:
        """Settings of this engine, without an index; what it holds in the end is removed. It waits longer than the
        product does: a figure of an engine must not be that of an answer from SQL."""
        folder = self.new_folder(name)
        variables = {"DATA_DIR": str(folder), "SEARCH_TIMEOUT_SECONDS": str(PATIENCE_SECONDS), **self.variables(name)}
        try:
            yield variables
        finally:
            remove(engine_of(variables))
            shutil.rmtree(folder)

    @contextlib.contextmanager
    def engine(self, name: str) -> Iterator[SearchEngine]:
        """An engine with these settings."""
        with self.engine_settings(name) as variables:
            yield engine_of(variables)

    @contextlib.contextmanager
    def installation(self, name: str, redis_url: str) -> Iterator[Installation]:
        """The tariff with a built index of this engine; no process runs yet."""
        folder = self.new_folder(name)
        path = folder / "sicargabox.db"
        with (
            contextlib.closing(sqlite3.connect(self._tariff[0])) as source,
            contextlib.closing(sqlite3.connect(path)) as target,
        ):
            source.backup(target)
        with Installation(folder, f"sqlite:///{path}", redis_url, **self.variables(name)) as site:
            engine = engine_of(site.variables)
            build(site.database, engine, "first")
            yield site
        remove(engine)
        shutil.rmtree(folder)
