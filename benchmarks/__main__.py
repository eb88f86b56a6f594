"""All figures in one table: ``python -m benchmarks`` (`make bench`). At most six minutes.

The official tariff is used when SICARGABOX_TEST_TARIFF_CSV names it, PostgreSQL when its programs are installed.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks import accepting, idle_memory, running, searching, start_up
from benchmarks.installation import Installation
from benchmarks.report import Figure, show
from tests.servers.ports import free_port
from tests.servers.postgres import PostgresCluster, find_programs
from tests.servers.valkey import ValkeyServer


def main() -> None:
    """Measures everything and prints one table."""
    began = time.monotonic()
    figures: list[Figure] = []
    programs = find_programs()
    valkey = ValkeyServer()
    with tempfile.TemporaryDirectory(prefix="sicargabox-bench-") as name:
        folder = Path(name)
        try:
            valkey.start()
            figures += _main_road(folder, valkey)
            figures += _accepting(folder / "sqlite", "SQLite", valkey, None)
            figures += _throughput(folder / "sqlite-workers", "SQLite", valkey, None)
            if programs is not None:
                # Durable, as in production: the test suite's own clusters do not wait for the disk.
                cluster = PostgresCluster(programs, durable=True)
                try:
                    cluster.start()
                    figures += _accepting(folder / "postgres", "PostgreSQL", valkey, cluster)
                    figures += _throughput(folder / "postgres-workers", "PostgreSQL", valkey, cluster)
                finally:
                    cluster.stop()
        finally:
            valkey.stop()
    figures += start_up.measure()
    missing = "" if programs else " PostgreSQL was left out: its programs are not installed."
    show("SicargaBox", figures, note=f"Measured in {time.monotonic() - began:.0f} s.{missing}")


def _main_road(folder: Path, valkey: ValkeyServer) -> list[Figure]:
    _empty(valkey)
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


def _accepting(folder: Path, kind: str, valkey: ValkeyServer, cluster: PostgresCluster | None) -> list[Figure]:
    _empty(valkey)
    number = iter(range(10))

    def database_url() -> str:
        return cluster.create(migrated=False) if cluster else f"sqlite:///{folder.with_suffix(f'.{next(number)}.db')}"

    return accepting.measure(folder, kind, database_url, valkey.url, f"redis://127.0.0.1:{free_port()}")


def _throughput(folder: Path, kind: str, valkey: ValkeyServer, cluster: PostgresCluster | None) -> list[Figure]:
    _empty(valkey)
    url = cluster.create(migrated=False) if cluster else f"sqlite:///{folder.with_suffix('.db')}"
    with Installation(folder, url, valkey.url) as site:
        return running.measure_throughput(site, valkey, kind)


def _empty(valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        client.flushall()


if __name__ == "__main__":
    main()
