"""Whether readers ask Elasticsearch at all: one that failed a moment ago is left alone, and callers answer from SQL.

A connection that is refused or breaks opens the breaker at once. An answer that is late may be one slow moment of a
server that is well (a long collection of its garbage, a merge): only several in a row mean that it hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from sicargabox_core.errors import DataFault, InvalidSetting, SicargaBoxError, Unavailable
from sicargabox_core.search.elasticsearch_errors import Late, Refused
from sicargabox_core.tasks.breaker import Breaker

T = TypeVar("T")

MOST_LATE = 3
_PAUSE_SECONDS = 2.0


class ReaderBreaker:
    """One object per process, for all its threads."""

    def __init__(self) -> None:
        self._breaker = Breaker("search", _PAUSE_SECONDS)
        self._fault: SicargaBoxError | None = None
        self._mutex = threading.Lock()
        self._late = 0

    def ask(self, question: Callable[[], T]) -> T:
        """Asks, unless the server failed a moment ago. Raises ``Unavailable``.

        Also ``Refused`` and ``DataFault``: those are answers of a server that is well.
        """
        if not self._breaker.allows():
            raise self.not_asked()
        try:
            answer = question()
        except (Refused, DataFault):
            self._succeeded()
            raise
        except (InvalidSetting, Unavailable) as error:
            self.failed(error)
            raise Unavailable(error.message, field=error.field, remedy=error.remedy) from error
        self._succeeded()
        return answer

    def _succeeded(self) -> None:
        # Not under the mutex: to lose a count between two threads is a success told a moment earlier or later.
        self._late = 0
        self._breaker.succeeded()

    def failed(self, error: SicargaBoxError) -> None:
        """An answer did not come. A late one counts when as many before it were; the one try after a pause counts."""
        with self._mutex:
            self._late = self._late + 1 if isinstance(error, Late) else 0
            waits = 0 < self._late < MOST_LATE and not self._breaker.is_open
        if not waits:
            self._fault = error
            self._breaker.failed()

    def not_asked(self) -> Unavailable:
        """The server failed a moment ago: with what it failed of, for whoever looks between two tries."""
        fault = self._fault
        if fault is None:
            return Unavailable("Elasticsearch did not answer a moment ago")
        return Unavailable(f"{fault.message} (asked a moment ago)", field=fault.field, remedy=fault.remedy)

    @property
    def is_open(self) -> bool:
        """Whether the server is left alone at present."""
        return self._breaker.is_open
