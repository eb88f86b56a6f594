"""A breaker: after a failure nobody asks the failing server for a moment, then one caller tries.

Why: a frozen Redis costs every caller a full time-out; with the breaker only one caller per pause pays it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Breaker:
    """Thread-safe. Ask ``allows()`` before a call and report its outcome with ``succeeded()`` or ``failed()``."""

    def __init__(self, pause: float = 1.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``pause`` seconds pass after a failure before one caller may try again."""
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._closed_again_at: float | None = None

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
            self._closed_again_at = None

    def failed(self) -> None:
        """The server did not answer."""
        with self._lock:
            self._closed_again_at = self._clock() + self._pause

    @property
    def is_open(self) -> bool:
        """Whether calls pause at present."""
        with self._lock:
            return self._closed_again_at is not None
