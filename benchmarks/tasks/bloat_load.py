"""Offers tasks at a steady rate: ``python -m benchmarks.tasks.bloat_load ours|procrastinate SECONDS_OF_A_TASK``.

Reads a new rate (tasks a second, 0: none) from each line of its input and answers with a line of JSON about the rate
before. An open loop: who is late asks as fast as it can, and a latency counts from the moment a request was due.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
from collections.abc import Callable

# What one client process can keep up with; each waits for its own commit.
THREADS = 4


class Offer:
    """The clock all threads take their next due moment from, and what they met."""

    def __init__(self, accept: Callable[[], object]) -> None:
        """Offers nothing yet."""
        self._accept = accept
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._rate = 0.0
        self._due = 0.0
        self._latencies: list[float] = []
        self._failed = 0

    def change(self, rate: float) -> dict[str, float]:
        """Sets the rate and tells how the last one went: accepted, failed, latencies in ms, seconds behind now."""
        with self._changed:
            took, self._latencies = sorted(self._latencies), []
            failed, self._failed = self._failed, 0
            behind = max(0.0, time.monotonic() - self._due) if self._rate else 0.0
            self._rate, self._due = rate, time.monotonic()
            self._changed.notify_all()
        return {
            "accepted": len(took),
            "failed": failed,
            "p50_ms": 1000 * took[len(took) // 2] if took else 0.0,
            "p99_ms": 1000 * took[int(0.99 * len(took))] if took else 0.0,
            "behind_s": behind,
        }

    def run(self) -> None:
        """One thread's work, for ever."""
        while True:
            due = self._next()
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            try:
                self._accept()
            except Exception as error:  # noqa: BLE001  # counted and told: an accept that fails is a finding
                print(f"not accepted: {error}", file=sys.stderr, flush=True)
                with self._lock:
                    self._failed += 1
                continue
            with self._lock:
                self._latencies.append(time.monotonic() - due)

    def _next(self) -> float:
        with self._changed:
            while not self._rate:
                self._changed.wait()
            due, self._due = self._due, self._due + 1 / self._rate
            return due


def main(which: str, seconds: str) -> None:
    """Runs until its input ends."""
    accept = importlib.import_module(f"benchmarks.tasks.bloat_{which}").accepting(float(seconds))
    offer = Offer(accept)
    for _ in range(THREADS):
        threading.Thread(target=offer.run, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(offer.change(float(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
