"""The search index: whether one serves, and whether it holds as many lines as the database."""

from __future__ import annotations

from collections.abc import Iterator

from sicargabox_core.db import Database
from sicargabox_core.doctor.findings import Finding, fault, ok, warning
from sicargabox_core.search.documents import count_documents
from sicargabox_core.search.service import make_engine
from sicargabox_core.settings import Settings

_REBUILD = "Run `sicargabox rebuild-index`."


def serving(settings: Settings, database: Database) -> Iterator[Finding]:
    """How the index is. Contents are compared line by line by the task `search.audit`, not here."""
    status = make_engine(settings).status()
    if not status.ready:
        yield fault("search index", status.problem or "there is none; searches are answered from SQL", _REBUILD)
        return
    with database.read() as session:
        lines = count_documents(session)
    detail = f"{status.engine}, {status.documents:,} lines, generation {status.generation}"
    if status.documents != lines:
        yield warning("search index", f"{detail}; the database has {lines:,}", _REBUILD)
    else:
        yield ok("search index", detail)
