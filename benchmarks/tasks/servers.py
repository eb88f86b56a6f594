"""The servers of one section: Redis' protocol as the product configures it, and a PostgreSQL that keeps commits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from benchmarks.installation import Installation
from tests.servers.postgres import PostgresCluster, find_programs
from tests.servers.valkey import ValkeyServer


@dataclass
class Servers:
    """Running. Each installation and each peer gets an empty Redis and a database of its own."""

    redis: ValkeyServer
    cluster: PostgresCluster
    folder: Path
    _numbers: Iterator[int] = field(default_factory=count)

    def empty_redis(self) -> None:
        """Forgets what the one before left."""
        with self.redis.client() as client:
            client.flushall()

    def new_folder(self) -> Path:
        """For what one contestant writes."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir()
        return folder

    @contextmanager
    def installation(self) -> Iterator[Installation]:
        """Ours, on PostgreSQL, without processes yet."""
        self.empty_redis()
        url = self.cluster.create()
        with Installation(self.new_folder(), url, self.redis.url) as site:
            yield site
        self.cluster.drop(url)


@contextmanager
def servers() -> Iterator[Servers]:
    """Starts both. Ends the program when PostgreSQL is not installed, since the goals are of durable commits."""
    programs = find_programs()
    if programs is None:
        raise SystemExit("the programs of PostgreSQL are not here: install postgresql-15 (no service is needed)")
    redis, cluster = ValkeyServer(), PostgresCluster(programs, durable=True)
    with tempfile.TemporaryDirectory(prefix="sicargabox-bench-") as name:
        try:
            redis.start()
            cluster.start()
            yield Servers(redis, cluster, Path(name))
        finally:
            redis.stop()
            cluster.stop()
