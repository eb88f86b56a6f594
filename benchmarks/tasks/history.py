"""Whether a history of ten million tasks slows anything: ``python -m benchmarks.tasks.history``. PostgreSQL only.

The same steps on a table with nothing in it, with one and with ten million finished rows; the ratio to the empty table
is what counts. It needs some 12 GB of disk for a few minutes, which are freed at the end.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from benchmarks.installation import Installation
from benchmarks.report import machine
from benchmarks.tasks.filling import RARE_NAME, RARE_PERSON, RARE_QUEUE, fill
from sicargabox_core.db import Database, Limits
from sicargabox_core.settings import Settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import NO_OP, NoOp
from sicargabox_core.tasks.queues import queue_figures
from sicargabox_core.tasks.reconcile import EMPTY, OldestMessage, Reconciler
from sicargabox_core.tasks.retention import delete_finished
from tests.servers.ports import wait_until
from tests.servers.postgres import PostgresCluster, find_programs
from tests.servers.valkey import ValkeyServer

KNOWN = {NO_OP.name: NO_OP}
ROUNDS = 300
THROUGHPUT_TASKS = 2000
# The shape of a small production server; what commits wait for stays as it is there.
SERVER = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "15min"}


class _NoBroker:
    """A broker that holds nothing and takes everything: Redis is not what is measured."""

    refusing = False

    def oldest_message_published_at(self, _queue: str) -> OldestMessage:
        return EMPTY

    def publish(self, _tasks: object, /) -> None:
        """Takes them."""


class _Steps:
    """Every statement of the product that meets the table, each once per call."""

    def __init__(self, database: Database, valkey: ValkeyServer) -> None:
        self._database = database
        broker = _NoBroker()
        self._reconciler = Reconciler(database, Settings(), broker, broker)
        self._broker = valkey.client()
        with database.read() as session:
            oldest, newest = session.execute(text("SELECT min(created_at), max(created_at) FROM tasks")).one()
        self._oldest: datetime = oldest or database.now() - timedelta(days=100)
        self._newest: datetime = newest or database.now()

    def life(self) -> Iterator[tuple[str, float]]:
        """One task from its accept to its end; the seconds of each step."""
        database = self._database
        began = time.perf_counter()
        with database.write() as session:
            task = store.submit(session, NO_OP, NoOp(), initiated_by="bench", idempotency_key=random_key()).task
        yield "accept", time.perf_counter() - began
        began = time.perf_counter()
        claim = store.claim(database, task.id, worker="bench", lease_seconds=600, known=KNOWN)
        yield "claim", time.perf_counter() - began
        assert claim is not None
        began = time.perf_counter()
        store.heartbeat(database, task.id, claim.attempt, 600)
        yield "heartbeat", time.perf_counter() - began
        began = time.perf_counter()
        with database.write() as session:
            store.finish_success(session, task.id, claim.attempt, {})
        yield "finish", time.perf_counter() - began
        began = time.perf_counter()
        with database.read() as session:
            store.get(session, task.id)
        yield "look at one", time.perf_counter() - began

    def once(self) -> dict[str, Callable[[], object]]:
        """The steps that are not part of one task's life."""
        moment = self._oldest + (self._newest - self._oldest) / 2

        def listed(**conditions: Any) -> Callable[[], object]:
            def run() -> object:
                with self._database.read() as session:
                    return store.list_tasks(session, **conditions)

            return run

        with self._database.read() as session:
            middle = store.list_tasks(session, until=moment, limit=1).next_cursor
        return {
            "reconcile, nothing to do": self._reconciler.run_once,
            "queue figures": lambda: queue_figures(self._database, self._broker),
            "list, first page": listed(),
            "list, from the middle": listed(before=middle),
            "list of one day in the middle": listed(since=moment, until=moment + timedelta(days=1)),
            "list of FAILURE": listed(states=["FAILURE"]),
            "list of what is unfinished": listed(states=["PENDING", "RETRY", "STARTED"]),
            "list of a name that occurs once": listed(names=[RARE_NAME]),
            "list of a name that never occurs": listed(names=["none.such"]),
            "list of a queue with one task": listed(queues=[RARE_QUEUE]),
            "list of one person's only task": listed(initiated_by=RARE_PERSON),
            "list of one's SUCCESSes of a name": listed(
                states=["SUCCESS"], names=[RARE_NAME], initiated_by=RARE_PERSON
            ),
            "retention, nothing to delete": lambda: delete_finished(self._database, older_than_days=200),
        }


def random_key() -> str:
    """An Idempotency-Key as clients make them."""
    return f"{random.getrandbits(128):032x}"  # a key, no secret


def measure(database: Database, valkey: ValkeyServer) -> dict[str, list[float]]:
    """Seconds of every step, many times over."""
    steps = _Steps(database, valkey)
    took: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, seconds in steps.life():
            took.setdefault(name, []).append(seconds)
    for name, step in steps.once().items():
        took[name] = []
        give_up = time.monotonic() + 10
        while len(took[name]) < ROUNDS // 3 and time.monotonic() < give_up:
            began = time.perf_counter()
            step()
            took[name].append(time.perf_counter() - began)
    return took


def throughput(site: Installation, valkey: ValkeyServer) -> float:
    """No-op tasks a second through two workers with one child each, of a backlog; the second half counts."""
    with valkey.client() as client:
        client.flushall()
    with site.database.write() as session:
        ids = [
            store.submit(session, NO_OP, NoOp(note=str(number)), initiated_by="bench").task.id
            for number in range(THROUGHPUT_TASKS)
        ]
    with site.database.read() as session:
        site.publisher.publish(store.hints(session, ids))
    assert site.publisher.flush(60)
    site.start_scheduler()
    for number in range(2):
        site.start_worker("indexer-worker", valkey, name=f"indexer-{number}")
    ended = text("SELECT finished_at FROM tasks WHERE id = ANY(:ids) AND finished_at IS NOT NULL ORDER BY 1")

    def ends() -> list[datetime] | None:
        with site.database.read() as session:
            found = list(session.scalars(ended, {"ids": ids}))
        return found if len(found) == len(ids) else None

    found = wait_until(ends, seconds=180, what="every task has ended", interval=0.5)
    half = len(found) // 2
    return (len(found) - half) / (found[-1] - found[half - 1]).total_seconds()


def measure_deleting(database: Database, rows: int) -> dict[str, str]:
    """Deletes the older tenth of the history beside 50 accepted and finished tasks a second."""
    wanted = rows // 10
    with database.read() as session:
        days = session.execute(
            text(
                "SELECT extract(epoch FROM clock_timestamp() - created_at) / 86400 FROM tasks"
                " ORDER BY created_at OFFSET :n LIMIT 1"
            ),
            {"n": wanted},
        ).scalar_one()
    stop, beside, alone = threading.Event(), _Load(database), _Load(database)
    alone.run(seconds=10, stop=stop)
    load = threading.Thread(target=beside.run, kwargs={"seconds": 600, "stop": stop})
    load.start()
    longest = _LongestTransaction(database)
    began = time.monotonic()
    try:
        deleted = delete_finished(database, older_than_days=float(days))
    finally:
        took = time.monotonic() - began
        seconds = longest.stop()
        stop.set()
        load.join()
    return {
        "deleted": f"{deleted:,} of {rows:,} rows in {took:.0f} s, {deleted / took:,.0f}/s",
        "longest transaction of it": f"{seconds * 1000:.0f} ms",
        "accept to finish, alone": alone.told(),
        "accept to finish, beside it": beside.told(),
    }


class _Load:
    """Fifty tasks a second, each accepted, claimed and finished."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._took: list[float] = []

    def run(self, *, seconds: float, stop: threading.Event) -> None:
        end = due = time.monotonic()
        end += seconds
        while due < end and not stop.wait(max(0.0, due - time.monotonic())):
            began = time.perf_counter()
            with self._database.write() as session:
                task = store.submit(session, NO_OP, NoOp(), initiated_by="bench").task
            claim = store.claim(self._database, task.id, worker="bench", lease_seconds=600, known=KNOWN)
            assert claim is not None
            with self._database.write() as session:
                store.finish_success(session, task.id, claim.attempt, {})
            self._took.append(time.perf_counter() - began)
            due += 0.02

    def told(self) -> str:
        return f"p50 {quantile(self._took, 0.5):.1f} ms, p99 {quantile(self._took, 0.99):.1f} ms"


class _LongestTransaction:
    """Looks twenty times a second at how long a deleting transaction has been open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._longest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        question = text(
            "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE '%DELETE FROM tasks%' AND pid <> pg_backend_pid()"
        )
        while not self._ended.wait(0.05):
            with self._database.read() as session:
                self._longest = max(self._longest, float(session.execute(question).scalar_one()))

    def stop(self) -> float:
        self._ended.set()
        self._thread.join()
        return self._longest


def quantile(seconds: list[float], share: float) -> float:
    """A quantile, in milliseconds."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def main() -> None:
    """Measures and prints; exit code 1 without PostgreSQL's programs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks.history", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="finished rows at the end (default: ten million)")
    parser.add_argument("--no-throughput", action="store_true", help="leave the workers out")
    parser.add_argument("--no-deleting", action="store_true", help="leave the retention out")
    arguments = parser.parse_args()
    programs = find_programs()
    if programs is None:
        sys.exit("PostgreSQL's programs are not installed (postgresql-15).")
    out = Console(highlight=False, width=150)
    out.print(machine())
    sizes = [0, arguments.rows // 10, arguments.rows]
    measured: list[dict[str, list[float]]] = []
    rates: list[float] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sicargabox-history-")))
        valkey = ValkeyServer()
        stack.callback(valkey.stop)
        valkey.start()
        cluster = PostgresCluster(programs, durable=True, settings=SERVER)
        stack.callback(cluster.stop)
        cluster.start()
        url = cluster.create()
        database = Database(url)
        stack.callback(database.dispose)
        filling = Database(url, limits=Limits(statement_seconds=3600))
        stack.callback(filling.dispose)
        for place, rows in enumerate(sizes):
            if rows:
                filled = fill(filling, present=sizes[place - 1], wanted=rows, all_rows=arguments.rows)
                out.print(
                    f"{rows:,} rows: filled in {filled.seconds:.0f} s, table {filled.table / 2**30:.2f} GB, "
                    f"indexes {filled.indexes / 2**30:.2f} GB"
                )
            measured.append(measure(database, valkey))
            if not arguments.no_throughput:
                with Installation(folder / str(rows), url, valkey.url) as site:
                    rates.append(throughput(site, valkey))
        _print_steps(out, sizes, measured, rates)
        if not arguments.no_deleting:
            for what, told in measure_deleting(database, arguments.rows).items():
                out.print(f"{what}: {told}")


def _print_steps(out: Console, sizes: list[int], measured: list[dict[str, list[float]]], rates: list[float]) -> None:
    table = Table("step", *(f"{rows:,} rows, p50 / p99 ms" for rows in sizes), "ratio of p50", "of p99")
    for name, empty in measured[0].items():
        cells = [f"{quantile(at[name], 0.5):.2f} / {quantile(at[name], 0.99):.2f}" for at in measured]
        full = measured[-1][name]
        table.add_row(
            name,
            *cells,
            f"{quantile(full, 0.5) / quantile(empty, 0.5):.2f}",
            f"{quantile(full, 0.99) / quantile(empty, 0.99):.2f}",
        )
    if rates:
        cells = [f"{rate:.0f}/s" for rate in rates]
        table.add_row("no-op throughput, two workers", *cells, f"{rates[-1] / rates[0]:.2f}", "")
    out.print(table)


if __name__ == "__main__":
    main()
