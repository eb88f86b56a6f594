"""A worker of bare Celery: ``python -m benchmarks.bare_worker redis://host:port NAME``."""

from __future__ import annotations

import sys

from benchmarks.running import BARE_QUEUE, bare_app

if __name__ == "__main__":
    bare_app(sys.argv[1]).worker_main(
        [*("worker", "-Q", BARE_QUEUE, "-c", "1", "-n", sys.argv[2]), *("--without-gossip", "--without-mingle")]
    )
