"""A breaker: after a failure nobody asks the failing server for a moment, then one caller tries.

Why: a frozen Redis costs every caller a full time-out; with the breaker only one caller per pause pays it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sicargabox_core import observability


class Breaker:
    """Thread-safe. Ask ``allows()`` before a call and report its outcome with ``succeeded()`` or ``failed()``."""

    def __init__(self, name: str, pause: float = 1.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``pause`` seconds pass after a failure before one caller may try again; ``name`` is its metrics' label."""
        self._name = name
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._closed_again_at: float | None = None
        # Told from the start, so that an alert need not tell "never opened" from "not there".
        for metric in (observability.BREAKER_OPEN, observability.BREAKER_OPENED):
            metric.labels(name).set(0)
        for counter in (observability.BREAKER_FAILURES, observability.BREAKER_OPENINGS):
            counter.labels(name)

    def allows(self) -> bool:
        """Whether to call. After the pause exactly one caller is let through until its outcome is known."""
        with self._lock:
            if self._closed_again_at is None:
                return True
            if self._clock() < self._closed_again_at:
                return False
            # Half open: the others keep waiting while this one tries, and not for ever if it never reports.
            self._closed_again_at = self._clock() + self._pause
            return True

    def succeeded(self) -> None:
        """The server answered."""
        with self._lock:
            # Every call succeeds: only one that closes it is worth a metric's lock.
            closes, self._closed_again_at = self._closed_again_at is not None, None
        if closes:
            observability.BREAKER_OPEN.labels(self._name).set(0)

    def failed(self) -> None:
        """The server did not answer."""
        with self._lock:
            opens, self._closed_again_at = self._closed_again_at is None, self._clock() + self._pause
        observability.BREAKER_FAILURES.labels(self._name).inc()
        observability.BREAKER_OPEN.labels(self._name).set(1)
        if opens:
            observability.BREAKER_OPENINGS.labels(self._name).inc()
            observability.BREAKER_OPENED.labels(self._name).set_to_current_time()

    @property
    def is_open(self) -> bool:
        """Whether calls pause at present."""
        with self._lock:
            return self._closed_again_at is not None
