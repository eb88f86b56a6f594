"""The search index: whether one serves, and whether it holds as many lines as the database."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from sicargabox_core.db import Database
from sicargabox_core.doctor.findings import Finding, fault, ok, warning
from sicargabox_core.search.documents import count_documents
from sicargabox_core.search.service import make_engine
from sicargabox_core.settings import ENV_PREFIX, Settings

_REBUILD = "Run `sicargabox rebuild-index`."
_OWN_MACHINE = {"localhost", "127.0.0.1", "::1"}


def serving(settings: Settings, database: Database) -> Iterator[Finding]:
    """How the index is. Contents are compared line by line by the task `search.audit`, not here."""
    status = make_engine(settings).status()
    if not status.ready:
        yield fault("search index", status.problem or "there is none; searches are answered from SQL", _REBUILD)
        return
    with database.read() as session:
        lines = count_documents(session)
    detail = f"{status.engine} {status.version}, {status.documents:,} lines, generation {status.generation}"
    if status.documents != lines:
        yield warning("search index", f"{detail}; the database has {lines:,}", _REBUILD)
    elif status.problem:
        yield warning("search index", f"{detail}; {status.problem}", _REBUILD)
    elif status.health == "yellow":
        yield warning(
            "search index",
            f"{detail}; not all its copies are there",
            f"Look at Elasticsearch's nodes: {ENV_PREFIX}SEARCH_REPLICAS={settings.search_replicas} needs one more "
            "than that.",
        )
    else:
        yield ok("search index", detail)
    if _in_clear(settings):
        yield warning(
            "search index",
            "the API key or password of Elasticsearch goes over the network in plain text",
            f"Begin {ENV_PREFIX}SEARCH_URL with https://.",
        )


def _in_clear(settings: Settings) -> bool:
    """Whether a secret leaves this machine for all on its way to read."""
    signs_in = settings.search_username or settings.effective_search_api_key
    hosts = {urlsplit(part.strip()).hostname for part in settings.search_url.split(";")}
    return bool(signs_in) and settings.search_url.startswith("http://") and not hosts <= _OWN_MACHINE
