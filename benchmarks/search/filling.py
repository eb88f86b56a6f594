"""The process that rebuilds an index from made-up documents and tells what that took; started by ``made_up``.

Its memory is what the kernel counts for it: what it holds itself (anonymous), looked at fifty times a second, and the
peak of everything, files that are mapped included.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

from benchmarks.search.engines import engine_of
from benchmarks.search.invented import documents

_LOOK_SECONDS = 0.02


def main(lines: int, variables: dict[str, str]) -> None:
    """Builds, and prints the figures as JSON."""
    engine = engine_of(variables)
    began = time.perf_counter()
    made = sum(1 for _ in documents(min(lines, 20_000)))
    making = (time.perf_counter() - began) / made * lines
    before = _megabytes("RssAnon")
    with _Watched() as watched:
        began = time.perf_counter()
        engine.rebuild(documents(lines), generation="made-up", on_progress=lambda _count: None, publish=nullcontext)
        seconds = time.perf_counter() - began
    told = {
        "seconds": seconds,
        "making": making,
        "before_mb": before,
        "most_mb": watched.most,
        "peak_mb": _megabytes("VmHWM"),
    }
    print(json.dumps(told))


class _Watched:
    """The most that this process held."""

    def __init__(self) -> None:
        self.most = 0.0
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watched:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._enough.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.most = max(self.most, _megabytes("RssAnon"))
            if self._enough.wait(_LOOK_SECONDS):
                return


def _megabytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
