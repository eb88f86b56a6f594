"""Procrastinate: tasks in PostgreSQL and nothing else."""

from __future__ import annotations

import procrastinate

from benchmarks.tasks.peers.surroundings import POSTGRES_URL, address, mark, numbers

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=address(POSTGRES_URL)),
    import_paths=["benchmarks.tasks.peers.procrastinate_task"],
)


@app.task(name="bare.no_op")  # type: ignore[untyped-decorator]  # types must not depend on what is installed
async def no_op(number: int) -> None:
    """Does nothing."""
    mark(number)


def fill(count: int) -> None:
    """Makes its tables and puts a backlog into the queue."""
    connector = procrastinate.SyncPsycopgConnector(conninfo=address(POSTGRES_URL))
    with app.replace_connector(connector) as sync, sync.open():
        sync.schema_manager.apply_schema()
        no_op.batch_defer(*({"number": number} for number in numbers(count)))
