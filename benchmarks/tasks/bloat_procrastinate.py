"""Procrastinate's side of the bloat runs: the same short task, and who accepts it.

``python -m benchmarks.tasks.bloat_procrastinate`` is one worker with its defaults: one job at a time, woken by NOTIFY.
The database is named by BENCHMARK_PEER_URL.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

QUEUE = "benchmark"
_TASK = "benchmark.short"

app = App(connector=PsycopgConnector(conninfo=os.environ.get("BENCHMARK_PEER_URL", ""), min_size=1, max_size=4))


@app.task(name=_TASK, queue=QUEUE)  # type: ignore[untyped-decorator]  # mypy reads no types of peers
async def short(seconds: float) -> None:
    """Sleeps."""
    await asyncio.sleep(seconds)


def create_tables(url: str) -> None:
    """Makes its tables in the database."""
    with App(connector=SyncPsycopgConnector(conninfo=url)).open() as opened:
        opened.schema_manager.apply_schema()


def accepting(seconds: float) -> Callable[[], object]:
    """A function that accepts one job each time it is called."""
    connector = SyncPsycopgConnector(conninfo=os.environ["BENCHMARK_PEER_URL"], min_size=4, max_size=4)
    client = App(connector=connector)
    client.open()
    job = client.configure_task(name=_TASK, queue=QUEUE, allow_unknown=True)
    return lambda: job.defer(seconds=seconds)


async def _work() -> None:
    async with app.open_async():
        await app.run_worker_async(queues=[QUEUE], concurrency=1)


if __name__ == "__main__":
    asyncio.run(_work())
