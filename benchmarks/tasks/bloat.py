"""The three ways to bloat a queue in SQL, beside Procrastinate: ``python -m benchmarks.tasks.bloat --minutes 10``.

One PostgreSQL with durable commits; in one of its databases the product (two real worker processes, a scheduler, a
Redis) and Procrastinate (two worker processes), with the same short task at the same offered rate. One after another:

- *pinned xmin*: a foreign transaction with a snapshot and an id of its own stays open, so no vacuum removes anything;
- *four readers*: REPEATABLE READ transactions scan the hot tables again and again, each snapshot 30 to 60 s old;
- *overload*: 1.5 times what the workers can do is offered.

A fault ends with a recovery at the clean phase's rate. Throughput is judged over windows of 15 s; goals: never below
half of the clean phase, and at 0.95 of it again within 60 s. Everything is bounded: with ``--minutes M`` it takes at
most 4 × M + 15 minutes. Figures go to the screen, samples and costs of statements as CSV to ``--out``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from benchmarks.installation import START_SECONDS, Installation
from benchmarks.report import Figure
from benchmarks.tasks import bloat_figures, bloat_procrastinate, bloat_report
from benchmarks.tasks.bloat_figures import (
    BIN_SECONDS,
    OURS,
    PEER,
    SYSTEMS,
    Tables,
)
from benchmarks.tasks.bloat_ours import QUEUE
from benchmarks.tasks.bloat_report import COST_SECONDS, Phase
from benchmarks.tasks.options import Options
from sicargabox_core.tasks.presence import workers
from tests.servers.ports import wait_until
from tests.servers.postgres import PostgresCluster, find_programs
from tests.servers.valkey import ValkeyServer

WORKERS = 2
# Of what the slower of the two can do: high enough that a loss of speed shows, with room to catch up afterwards.
CLEAN_SHARE = 0.7
OVERLOAD = 1.5
RECOVERY_SECONDS = 90.0
CLEAN_SECONDS = 120.0
BURST_SECONDS, BURST_RATE = 10.0, 150.0
# A burst that is not worked off within this long is no ground to measure on.
BURST_PATIENCE_SECONDS = 300.0
READERS = 4
MINUTES, TASK_SECONDS, READER_PAUSE_SECONDS = 10.0, 0.02, 2.0

POSTGRES = {
    "shared_buffers": "128MB",  # PostgreSQL's default
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.max": 5000,
}
TOLD = ("server_version", "shared_buffers", "fsync", "synchronous_commit", "full_page_writes", "autovacuum_naptime")


class Loads:
    """The two processes that offer tasks."""

    def __init__(self, site: Installation, peer_url: str, seconds: float) -> None:
        """Starts them; they offer nothing yet."""
        self._processes = {
            name: subprocess.Popen(
                [sys.executable, "-m", "benchmarks.tasks.bloat_load", module, str(seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(site.folder / f"load-{module}.log").open("ab"),
                text=True,
                env=_environment(site) | {"BENCHMARK_PEER_URL": peer_url},
            )
            for name, module in ((OURS.name, "ours"), (PEER.name, "procrastinate"))
        }
        for name in self._processes:
            self._line(name)

    def _line(self, name: str) -> str:
        stdout = self._processes[name].stdout
        assert stdout is not None
        line = stdout.readline()
        if not line:
            raise AssertionError(f"the process that offers tasks to {name} ended")
        return line

    def change(self, rate: float) -> dict[str, dict[str, float]]:
        """Sets both rates and tells how the last ones went."""
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.write(f"{rate}\n")
            process.stdin.flush()
        return {name: json.loads(self._line(name)) for name in self._processes}

    def stop(self) -> None:
        """Ends both."""
        for process in self._processes.values():
            process.kill()
            process.wait()


class Run:
    """The whole run: what is under load, and what is written down."""

    def __init__(
        self,
        site: Installation,
        loads: Loads,
        admin_url: str,
        folder: Path,
        processes: dict[str, subprocess.Popen[bytes]],
    ) -> None:
        """``folder`` takes the CSV files."""
        self._site, self._loads, self._processes = site, loads, processes
        self._connection = bloat_figures.connect(admin_url)
        self._admin_url = admin_url
        self._began = time.monotonic()
        self.rate = 0.0
        self.phases: list[Phase] = []
        self._samples_file = (folder / "samples.csv").open("w", newline="")
        self._costs_file = (folder / "statements.csv").open("w", newline="")
        self._bins_file = (folder / "throughput.csv").open("w", newline="")
        self._samples = csv.writer(self._samples_file)
        self._samples.writerow(["second", "phase", "system", *Tables.__annotations__])
        self._costs = csv.writer(self._costs_file)
        self._costs.writerow(["phase", "system", "calls", "mean ms", "blocks per call", "total ms", "statement"])
        self._bins = csv.writer(self._bins_file)
        self._bins.writerow(["phase", "system", "second", "tasks per second"])

    def close(self) -> None:
        """Closes what it opened."""
        self._connection.close()
        for file in (self._samples_file, self._costs_file, self._bins_file):
            file.close()

    # --- phases ------------------------------------------------------------------------------------------------------
    def capacity(self) -> float:
        """Offers a burst and measures how fast each works it off; returns the rate of the slower one."""
        self._loads.change(BURST_RATE)
        time.sleep(BURST_SECONDS)
        self._loads.change(0)
        begin = self._now()
        wait_until(self.drained, seconds=BURST_PATIENCE_SECONDS, what="the burst is worked off", interval=0.5)
        end = self._now()
        rates = {}
        for system in SYSTEMS:
            done = bloat_figures.served(self._connection, system, begin, end)
            rates[system.name] = done.finished / done.last_after
        _say("capacity: " + ", ".join(f"{name} {rate:.0f}/s" for name, rate in rates.items()))
        self._capacities = rates
        return min(rates.values())

    @property
    def capacities(self) -> dict[str, float]:
        """Tasks per second each system can do, as measured before the clean phase."""
        return self._capacities

    def phase(self, name: str, seconds: float, rate: float, *, until: Callable[[], bool] | None = None) -> Phase:
        """Offers ``rate`` for ``seconds``, or until ``until`` says so, and writes down what happened."""
        self._loads.change(rate)
        begin, started = self._now(), time.monotonic()
        before = {system.name: bloat_figures.tables(self._connection, system) for system in SYSTEMS}
        most_dead = dict.fromkeys(before, 0)
        cost_from = started + max(0.0, seconds - COST_SECONDS)
        costs_since: datetime | None = None
        end_at = started + seconds
        ended = False
        while not ended and (left := end_at - time.monotonic()) > 0:
            if costs_since is None and time.monotonic() >= cost_from:
                bloat_figures.forget_statements(self._connection)
                costs_since = self._now()
            time.sleep(min(BIN_SECONDS, left))
            self._sample(name, most_dead)
            ended = until is not None and until()
        end = self._now()
        spent = {system.name: bloat_figures.statements(self._connection, system) for system in SYSTEMS}
        offered = self._loads.change(0 if until else rate)
        after = {system.name: bloat_figures.tables(self._connection, system) for system in SYSTEMS}
        served, sql_ms, blocks = {}, {}, {}
        for system in SYSTEMS:
            done = bloat_figures.served(self._connection, system, begin, end)
            lately = bloat_figures.served(self._connection, system, costs_since or begin, end)
            served[system.name] = done
            sql_ms[system.name] = sum(one.total_ms for one in spent[system.name]) / max(1, lately.finished)
            blocks[system.name] = sum(one.blocks for one in spent[system.name]) / max(1, lately.finished)
            for one in spent[system.name][:15]:
                mean, each = one.total_ms / one.calls, one.blocks / one.calls
                told = [f"{mean:.3f}", f"{each:.1f}", f"{one.total_ms:.0f}"]
                self._costs.writerow([name, system.name, one.calls, *told, one.text[:1500]])
            for number, one_bin in enumerate(done.bins):
                self._bins.writerow([name, system.name, number * BIN_SECONDS, one_bin])
        self._costs_file.flush()
        self._bins_file.flush()
        notes = [f"{who}: {int(told['failed'])} not accepted" for who, told in offered.items() if told["failed"]] + [
            f"{who}: the offer was {told['behind_s']:.1f} s behind"
            for who, told in offered.items()
            if told["behind_s"] > 1
        ]
        notes += [f"{who} ended" for who, process in self._processes.items() if process.poll() is not None]
        phase = Phase(
            name, time.monotonic() - started, rate, served, most_dead, before, after, sql_ms, blocks, "; ".join(notes)
        )
        self.phases.append(phase)
        _say(
            f"{name}: offered {rate:.0f}/s; "
            + "; ".join(
                f"{who} least {done.least:.1f}/s, median {done.usual:.1f}/s, claim p50 {done.p50:.0f}"
                f" p99 {done.p99:.0f} ms, accept p99 {offered[who]['p99_ms']:.0f} ms, {most_dead[who]} dead,"
                f" {sql_ms[who]:.2f} ms SQL a task"
                for who, done in served.items()
            )
            + (f" ({phase.note})" if phase.note else "")
        )
        return phase

    def drained(self) -> bool:
        """Whether nobody has anything left to do."""
        return not any(bloat_figures.value(self._connection, system.waiting) for system in SYSTEMS)

    def _sample(self, phase: str, most_dead: dict[str, int]) -> None:
        second = round(time.monotonic() - self._began, 1)
        for system in SYSTEMS:
            found = bloat_figures.tables(self._connection, system)
            most_dead[system.name] = max(most_dead[system.name], found.dead)
            self._samples.writerow([second, phase, system.name, *asdict(found).values()])
        self._samples_file.flush()

    def _now(self) -> datetime:
        return bloat_figures.now(self._connection)

    # --- faults ------------------------------------------------------------------------------------------------------
    @contextmanager
    def pinned(self) -> Iterator[None]:
        """A foreign transaction with a snapshot and a transaction id, open for the time of the block."""
        foreign = bloat_figures.connect(self._admin_url)
        try:
            with foreign.cursor() as cursor:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("SELECT pg_current_xact_id(), (SELECT count(*) FROM tasks), pg_backend_pid()")
                pid = cursor.fetchall()[0][2]
            self._prove_pinned(pid)
            yield
            self._prove_pinned(pid)
            with foreign.cursor() as cursor:
                cursor.execute("ROLLBACK")
        finally:
            foreign.close()

    def _prove_pinned(self, pid: int) -> None:
        (xid, xmin, age), *_ = bloat_figures.rows(
            self._connection,
            "SELECT backend_xid::text, backend_xmin::text, age(backend_xmin) FROM pg_stat_activity WHERE pid = %(pid)s",
            {"pid": pid},
        )
        assert xid is not None, "the foreign transaction has no id"
        assert xmin is not None, "the foreign transaction holds no snapshot"
        _say(f"foreign transaction: xid {xid}, backend_xmin {xmin}, {age} transactions old")

    @contextmanager
    def readers(self, pause: float) -> Iterator[None]:
        """Four REPEATABLE READ transactions that scan both hot tables, for the time of the block."""
        stop = threading.Event()
        scans: list[float] = []
        threads = [
            threading.Thread(target=_read, args=(self._admin_url, stop, pause, scans), daemon=True)
            for _ in range(READERS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        mean = 1000 * sum(scans) / max(1, len(scans))
        _say(f"readers: {len(scans)} scans of both tables, {mean:.0f} ms each on average, {pause:g} s between two")


def _read(url: str, stop: threading.Event, pause: float, scans: list[float]) -> None:
    connection = bloat_figures.connect(url)
    try:
        while not stop.is_set():
            let_go = time.monotonic() + random.uniform(30, 60)
            with connection.cursor() as cursor:
                cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                while not stop.is_set() and time.monotonic() < let_go:
                    began = time.monotonic()
                    cursor.execute("SELECT count(*), sum(length(payload::text)) FROM tasks")
                    cursor.execute("SELECT count(*), sum(length(args::text)) FROM procrastinate_jobs")
                    scans.append(time.monotonic() - began)
                    stop.wait(pause)
                cursor.execute("COMMIT")
    finally:
        connection.close()


# --- the installation ------------------------------------------------------------------------------------------------
def _environment(site: Installation) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SICARGABOX_")}
    return {**inherited, **{f"SICARGABOX_{name}": value for name, value in site.variables.items()}}


def _start(site: Installation, valkey: ValkeyServer, peer_url: str) -> dict[str, subprocess.Popen[bytes]]:
    """A scheduler and both kinds of workers; returns when the product's take messages."""
    started = {"scheduler": site.start_scheduler()}
    celery = [sys.executable, "-m", "celery", "-A", "benchmarks.tasks.bloat_ours", "worker", "-Q", QUEUE.value]
    for number in range(WORKERS):
        options = ["-c", "1", "-n", f"bloat{number}@%h", "--without-gossip", "--without-mingle"]
        with _variables(BENCHMARK_ROLE="worker"):
            started[f"worker {number}"] = site.start(f"worker-{number}", *celery, *options)
        with _variables(BENCHMARK_PEER_URL=peer_url):
            command = (sys.executable, "-m", "benchmarks.tasks.bloat_procrastinate")
            started[f"Procrastinate's worker {number}"] = site.start(f"procrastinate-{number}", *command)

    def listening() -> bool:
        with valkey.client() as client:
            return len(workers(client)) >= WORKERS

    wait_until(listening, seconds=START_SECONDS, what="the workers take messages")
    return started


@contextmanager
def _variables(**variables: str) -> Iterator[None]:
    # Installation.start hands on this process's environment.
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def _users(admin_url: str) -> None:
    connection = bloat_figures.connect(admin_url)
    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION pg_stat_statements")
        for system in SYSTEMS:
            # Of the server's own making for this run alone; what they may do is not what is measured.
            cursor.execute(f"CREATE ROLE {system.user} SUPERUSER LOGIN")
    told = ", ".join(f"{name} {bloat_figures.value(connection, f'SHOW {name}')}" for name in TOLD)
    connection.close()
    _say(f"PostgreSQL: {told}")


def run_phases(minutes: float, folder: Path, task_seconds: float, pause: float) -> list[Phase]:
    """Runs all phases. Raises ``AssertionError`` when a server or a worker does not start."""
    programs = find_programs()
    assert programs is not None, "PostgreSQL is not installed: apt-get install postgresql-15"
    seconds = 60 * minutes
    recovery, clean = min(RECOVERY_SECONDS, max(30.0, seconds)), min(CLEAN_SECONDS, max(30.0, seconds))
    with ExitStack() as stack:
        cluster = PostgresCluster(programs, durable=True, settings=POSTGRES)
        stack.callback(cluster.stop)
        cluster.start()
        valkey = ValkeyServer()
        stack.callback(valkey.stop)
        valkey.start()
        admin_url = cluster.create(migrated=False)
        _users(admin_url)
        our_url, peer_url = (admin_url.replace("postgres@", f"{system.user}@") for system in SYSTEMS)
        site = stack.enter_context(
            Installation(Path(stack.enter_context(tempfile.TemporaryDirectory())), our_url, valkey.url)
        )
        bloat_procrastinate.create_tables(peer_url)
        processes = _start(site, valkey, peer_url)
        loads = Loads(site, peer_url, task_seconds)
        stack.callback(loads.stop)
        run = Run(site, loads, admin_url, folder, processes)
        stack.callback(run.close)
        try:
            _phases(run, seconds, clean, recovery, pause)
        finally:
            bloat_report.show(run.phases)
            for log in site.folder.glob("*.log"):
                (folder / log.name).write_bytes(log.read_bytes()[-100_000:])
    return run.phases


def _phases(run: Run, seconds: float, clean: float, recovery: float, pause: float) -> None:
    run.phase("warm-up", 10, 20)
    rate = CLEAN_SHARE * run.capacity()
    run.phase("clean", clean, rate)
    with run.pinned():
        run.phase("pinned xmin", seconds, rate)
    run.phase("after pinned xmin", recovery, rate)
    with run.readers(pause):
        run.phase("four readers", seconds, rate)
    run.phase("after four readers", recovery, rate)
    run.phase("overload", seconds, OVERLOAD * max(run.capacities.values()))
    # Nothing is offered until both have caught up, or for as long as they were overloaded.
    run.phase("draining", max(60.0, seconds), 0, until=run.drained)
    run.phase("after overload", recovery, rate)


def measure(_options: Options) -> list[Figure]:
    """The section ``bloat`` of ``python -m benchmarks.tasks``: once, with faults of ten minutes."""
    folder = Path(tempfile.mkdtemp(prefix="sicargabox-bloat-"))
    _say(f"CSV files and logs: {folder}")
    return bloat_report.figures(run_phases(MINUTES, folder, TASK_SECONDS, READER_PAUSE_SECONDS), MINUTES)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def main() -> None:
    """Reads the options, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="length of each of the three faults")
    parser.add_argument("--out", type=Path, help="folder for the CSV files and the logs (default: a new one)")
    parser.add_argument("--task-ms", type=float, default=1000 * TASK_SECONDS, help="how long a task sleeps")
    parser.add_argument(
        "--reader-pause", type=float, default=READER_PAUSE_SECONDS, help="seconds between two scans of one reader"
    )
    options = parser.parse_args()
    folder = options.out or Path(tempfile.mkdtemp(prefix="sicargabox-bloat-"))
    folder.mkdir(parents=True, exist_ok=True)
    _say(f"CSV files and logs: {folder}")
    run_phases(options.minutes, folder, options.task_ms / 1000, options.reader_pause)


if __name__ == "__main__":
    main()
