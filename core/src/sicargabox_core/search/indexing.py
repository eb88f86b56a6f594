"""Keeps the index equal to the database: the whole of it, some lines of it, and the proof that it is.

These are the jobs behind the tasks of the same names; they know nothing of tasks, only callbacks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sicargabox_core.catalogue.tariff import unknown_codes
from sicargabox_core.db import Database
from sicargabox_core.search.document import TariffDocument
from sicargabox_core.search.documents import count_documents, iter_documents
from sicargabox_core.search.engine import Publish, SearchEngine

OnStep = Callable[[int, int, str], None]

_LISTED = 100
# Of what is named as a code and is none: enough to see what it was.
_SHOWN_CHARACTERS = 40
_REPORT_EVERY = 500


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A generation that was put into service; ``seconds`` from the first read to the swap."""

    documents: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Updated:
    """Documents written and deleted, and codes that the catalogue never had; at most 100 of those are listed."""

    updated: int
    deleted: int
    unknown: int
    unknown_codes: list[str]


@dataclass
class Audit:
    """Codes that the index lacks, has too many, or holds in another state than the database; at most 100 are listed."""

    database: int = 0
    index: int = 0
    missing: int = 0
    extra: int = 0
    stale: int = 0
    missing_codes: list[str] = field(default_factory=list)
    extra_codes: list[str] = field(default_factory=list)
    stale_codes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether index and database hold the same."""
        return not (self.missing or self.extra or self.stale)


def rebuild(database: Database, engine: SearchEngine, *, generation: str, on_step: OnStep, publish: Publish) -> Rebuilt:
    """Builds the index anew from the database; see ``SearchEngine.rebuild``.

    ``on_step(current, total, message)`` is called between batches and may raise to stop.
    """
    started = time.monotonic()
    with database.read() as session:
        total = count_documents(session)

        def on_progress(count: int) -> None:
            on_step(count, max(total, count), f"{count}/{max(total, count)} documents indexed")

        documents = engine.rebuild(
            iter_documents(session), generation=generation, on_progress=on_progress, publish=publish
        )
    return Rebuilt(documents, round(time.monotonic() - started, 2))


def update(database: Database, engine: SearchEngine, codes: Sequence[str]) -> Updated:
    """Writes the documents at and below ``codes`` anew and deletes those of lines that are no longer declarable.

    A code that is not in the catalogue is told, and no error: the index may hold a document of it that has to go.
    """
    replaced = engine.replace(codes, _read_late(database, codes))
    with database.read() as session:
        unknown = unknown_codes(session, codes)
    listed = [code[:_SHOWN_CHARACTERS] for code in unknown[:_LISTED]]
    return Updated(replaced.updated, replaced.deleted, len(unknown), listed)


def _read_late(database: Database, codes: Sequence[str]) -> Iterator[TariffDocument]:
    """The documents, read when the engine asks for them and not before."""
    with database.read() as session:
        yield from iter_documents(session, codes)


def audit(database: Database, engine: SearchEngine, *, on_step: OnStep) -> Audit:
    """Compares every document of the index with what the database would make of its line now."""
    found = Audit()
    held = dict(engine.hashes())
    found.index = len(held)
    with database.read() as session:
        total = count_documents(session)
        on_step(0, total, "")
        for document in iter_documents(session):
            found.database += 1
            stored = held.pop(document.code, None)
            if stored is None:
                found.missing += 1
                found.missing_codes += [document.code] if found.missing <= _LISTED else []
            elif stored != document.content_hash():
                found.stale += 1
                found.stale_codes += [document.code] if found.stale <= _LISTED else []
            if found.database % _REPORT_EVERY == 0:
                on_step(found.database, max(total, found.database), f"{found.database}/{total} documents compared")
    found.extra = len(held)
    found.extra_codes = sorted(held)[:_LISTED]
    on_step(found.database, found.database, f"{found.database}/{found.database} documents compared")
    return found
