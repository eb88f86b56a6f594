"""Keeps what was searched, without making any search wait for a write.

Searches are gathered in memory and written once a second in one transaction: on SQLite each commit is a sync to disk,
which would be slower than the search itself. At most a second of log lines is lost with the process; no one's work is.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import asdict, dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sicargabox_core.catalogue.selections import log_search
from sicargabox_core.db import Database

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 1.0
# Two minutes of the heaviest load we promise to serve; what does not fit is not logged.
CAPACITY = 12_000
_BATCH = 500


@dataclass(frozen=True, slots=True)
class LoggedSearch:
    """One search: what was typed and how it went; no person."""

    query: str
    total: int
    first_code: str | None
    took_ms: int
    engine: str
    degraded: bool


class SearchLogWriter:
    """A thread that writes what ``add`` gathered. One per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: queue.Queue[LoggedSearch] = queue.Queue(CAPACITY)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="search-log", daemon=True)
        self._thread.start()

    def add(self, search: LoggedSearch) -> None:
        """Takes a search; never waits and never fails."""
        try:
            self._waiting.put_nowait(search)
        except queue.Full:
            log.debug("a search was not logged: too many wait")

    def stop(self, timeout: float = 3.0) -> None:
        """Writes what was gathered, for at most ``timeout`` seconds."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.wait(FLUSH_SECONDS):
            self.flush()
        self.flush()

    def flush(self) -> int:
        """Writes what waits; returns how many. What the database does not take is dropped with a warning."""
        written = 0
        while batch := self._take():
            try:
                with self._database.write() as session:
                    for search in batch:
                        log_search(session, **asdict(search))
            except SQLAlchemyError as error:
                log.warning("searches were not logged", searches=len(batch), error=type(error).__name__)
                return written
            written += len(batch)
        return written

    def _take(self) -> list[LoggedSearch]:
        batch: list[LoggedSearch] = []
        while len(batch) < _BATCH:
            try:
                batch.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return batch
