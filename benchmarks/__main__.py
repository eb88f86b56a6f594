"""All figures in one table: ``python -m benchmarks`` (`make bench`). At most six minutes.

The official tariff is used when SICARGABOX_TEST_TARIFF_CSV names it, PostgreSQL when its programs are installed.
Tasks are measured at length, and beside other task queues, by ``python -m benchmarks.tasks``.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks import idle_memory, running, searching, start_up
from benchmarks.installation import Installation
from benchmarks.report import Figure, show
from benchmarks.tasks import accept, throughput
from benchmarks.tasks.options import Options
from tests.servers.postgres import find_programs
from tests.servers.valkey import ValkeyServer


def main() -> None:
    """Measures everything and prints one table."""
    began = time.monotonic()
    figures: list[Figure] = []
    valkey = ValkeyServer()
    with tempfile.TemporaryDirectory(prefix="sicargabox-bench-") as name:
        try:
            valkey.start()
            figures += _main_road(Path(name), valkey)
        finally:
            valkey.stop()
    missing = ""
    if find_programs() is not None:
        figures += accept.measure(Options(rounds=1))
        figures += throughput.measure_against_celery(Options(rounds=1))
    else:
        missing = " Accepting and throughput were left out: the programs of PostgreSQL are not installed."
    figures += start_up.measure()
    show("SicargaBox", figures, note=f"Measured in {time.monotonic() - began:.0f} s.{missing}")


def _main_road(folder: Path, valkey: ValkeyServer) -> list[Figure]:
    with Installation(folder / "road", f"sqlite:///{folder / 'road.db'}", valkey.url) as site:
        catalogue = searching.fill(site)
        processes = {"api": site.start_api(), "admin": site.start_admin(), "scheduler": site.start_scheduler()}
        for kind in ("indexer-worker", "ai-worker", "learning-worker"):
            processes[kind] = site.start_worker(kind, valkey)
        figures = idle_memory.measure(processes)
        figures += running.measure_idle(site)
        figures += searching.measure_rebuild(site, catalogue)
        figures += searching.measure_search(site, catalogue)
    return figures


if __name__ == "__main__":
    main()
