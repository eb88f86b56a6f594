"""Fills a peer's queue, in a process of its own: ``python -m benchmarks.tasks.peers.fill MODULE COUNT``."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    importlib.import_module(f"benchmarks.tasks.peers.{sys.argv[1]}").fill(int(sys.argv[2]))
