"""Measures the search on the official tariff with our own labelled queries: ``python -m benchmarks.quality``.

Writes the baseline that lies beside the queries (counts alone) and the examples and figures of docs/search.md. Needs
the official tariff and Elasticsearch, which it starts itself; ``--engines tantivy`` measures the embedded engine alone
and leaves the other's figures as they are. Prints nothing of the half that is only counted but counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from sicargabox_core.catalogue.tariff_import import import_tariff
from sicargabox_core.db import Database, migrate
from sicargabox_core.search import indexing
from sicargabox_core.search.evaluate import OWN_SET, read_set
from sicargabox_core.search.evaluation import ask, headings_in_force
from sicargabox_core.search.quality_report import Report, answerable, own_baseline
from sicargabox_core.search.service import SearchService
from sicargabox_core.settings import Settings
from tests.documents import put_between
from tests.search_document import DOCUMENT, EXAMPLES_BEGIN, EXAMPLES_END, examples, figures, figures_marks
from tests.servers.elasticsearch import ElasticsearchServer
from tests.settings import machine

EMBEDDED, SERVER = "tantivy", "elasticsearch"
# A search that a busy machine holds up is to be answered by the index all the same.
_PATIENCE_SECONDS = 10.0


def main() -> None:
    """Measures each engine, then writes what belongs to it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engines", nargs="+", choices=(EMBEDDED, SERVER), default=[EMBEDDED, SERVER])
    engines = parser.parse_args().engines
    tariff, english = machine().tariff_csv, machine().hs_english_csv
    if not tariff.is_file():
        sys.exit(f"The official tariff is not here ({tariff}): set SICARGABOX_TEST_TARIFF_CSV")
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/sicargabox.db")
        migrate(database)
        import_tariff(database, tariff, english=english if english.is_file() else None, by="quality")
        for engine in engines:
            with _settings(engine, Path(folder)) as settings:
                service = SearchService(database, settings)
                indexing.rebuild(
                    database, service.engine, generation="quality", on_step=lambda *_: None, publish=nullcontext
                )
                report = _measured(service, database)
                put_between(DOCUMENT, *figures_marks(engine), figures(report))
                print(f"{engine}\n{figures(report)}\n")
                report.write(own_baseline(engine), counts_only=True)
                if engine == EMBEDDED:
                    put_between(DOCUMENT, EXAMPLES_BEGIN, EXAMPLES_END, examples(service))
        database.dispose()


@contextmanager
def _settings(engine: str, folder: Path) -> Iterator[Settings]:
    if engine == EMBEDDED:
        yield Settings(data_dir=folder)
        return
    if not machine().search_server.is_file():
        sys.exit(f"Elasticsearch is not here ({machine().search_server}): set SICARGABOX_TEST_SEARCH_SERVER")
    server = ElasticsearchServer()
    server.start()
    try:
        yield Settings(data_dir=folder, search_url=server.url, search_timeout_seconds=_PATIENCE_SECONDS)
    finally:
        server.stop()


def _measured(service: SearchService, database: Database) -> Report:
    own = read_set(OWN_SET)
    with database.read() as session:
        queries = answerable(own, headings_in_force(session))
    return Report.of(service.engine.name, ask(service, queries), left_out=len(own) - len(queries))


if __name__ == "__main__":
    main()
