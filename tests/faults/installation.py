"""Everything that runs: PostgreSQL, Redis with Sentinels, the API, three kinds of workers, two schedulers, the load.

Ports are free ones of the loopback interface, files lie in a folder of their own. A process that a fault killed is
started again after a second, as a kubelet would; one that ends by itself is started again too, and remembered as a
breach.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.tokens import create_token
from sicargabox_core.catalogue.starter_catalogue import load_starter
from sicargabox_core.db import Database
from sicargabox_core.settings import ENV_PREFIX
from tests.faults.redis_nodes import RedisNodes
from tests.faults.work import EFFECTS_TABLE
from tests.servers.ports import free_port, wait_until
from tests.servers.postgres import PostgresCluster, required_programs
from tests.settings import REPOSITORY

RESTART_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_READY_SECONDS = 90
CHILDREN = 2
# Enough for all of it, not for 300 of somebody else beside it.
MAX_CONNECTIONS = 310
# Name, Celery application, queues, the queue of the tests' own tasks.
WORKERS = (
    ("indexer-worker", "sicargabox_indexer.app", "elasticsearch,celery", "elasticsearch"),
    ("ai-worker", "sicargabox_ai.app", "ai_generation", "ai_generation"),
    ("learning-worker", "sicargabox_learning.app", "learning", "learning"),
)
SCHEDULERS = ("scheduler-1", "scheduler-2")
API = "api"
LOAD = "load"


@dataclass
class Program:
    """A process to keep running. ``expected``: a fault ends it now, or it is meant to end."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]
    expected: bool = False
    again_at: float | None = None
    pids: list[int] = field(default_factory=list)


class Installation:
    """Faults act on it by ``kill``, ``freeze`` and ``thaw``, and on its ``redis`` and ``postgres``."""

    def __init__(self, rate: float) -> None:
        """Starts nothing yet; skips or fails the test when a program is missing."""
        self.folder = Path(tempfile.mkdtemp(prefix="sicargabox-faults-"))
        self.rate = rate
        self.executions = self.folder / "executions.jsonl"
        self.answers = self.folder / "answers.jsonl"
        # While this file is there the API dies before its next message.
        self.die_order = self.folder / "die-before-publishing"
        self.redis = RedisNodes()
        self.postgres = PostgresCluster(
            required_programs(), durable=True, settings={"max_connections": MAX_CONNECTIONS}
        )
        self.programs: dict[str, Program] = {}
        self.breaches: list[str] = []
        self._interrupted: set[int] = set()
        self._ever_interrupted: set[int] = set()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self.port = free_port()
        self.worker_ports: dict[str, int] = {}
        self.database_url = ""

    # --- life --------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Starts everything and returns when all of it answers and the load has begun."""
        self.postgres.start()
        self.database_url = self.postgres.create()
        self.redis.start()
        database = Database(self.database_url)
        load_starter(database)
        with database.write() as session:
            _, token = create_token(session, "faults", Role.ADMIN, ["tasks", "queues"], by="tests")
        database.dispose()
        with self.sql() as cursor:
            cursor.execute(EFFECTS_TABLE)
        python = sys.executable
        self._start(
            API,
            [python, "-m", "tests.faults.api_process"],
            "api",
            PORT=str(self.port),
            FAULTS_DIE_ORDER=str(self.die_order),
        )
        for name in SCHEDULERS:
            self._start(name, [str(Path(python).with_name("sicargabox")), "scheduler"], "scheduler")
        for name, app, queues, queue in WORKERS:
            self._start_worker(name, app, queues, queue)
        self._supervisor.start()
        wait_until(self._all_ready, seconds=_READY_SECONDS, what="API and workers are ready", interval=0.2)
        told = {"url": f"http://127.0.0.1:{self.port}", "token": token, "rate": self.rate, "book": str(self.answers)}
        self._start(LOAD, [python, "-m", "tests.faults.load"], "api", commands=True, FAULTS_LOAD=json.dumps(told))

    def _start_worker(self, name: str, app: str, queues: str, queue: str) -> None:
        metrics = self.folder / "metrics" / name
        metrics.mkdir(parents=True)
        self.worker_ports[name] = free_port()
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "-Q", queues, "-n", f"{name}@%h"]
        command += ["-c", str(CHILDREN), "--pool", "prefork", "--without-gossip", "--without-mingle"]
        command += ["--loglevel", "INFO", "--include", "tests.faults.worker_tasks"]
        self._start(
            name,
            command,
            "worker",
            WORKER_PORT=str(self.worker_ports[name]),
            PROMETHEUS_MULTIPROC_DIR=str(metrics),
            FAULTS_APP=app,
            FAULTS_QUEUE=queue,
            FAULTS_EXECUTIONS=str(self.executions),
        )

    def _start(self, name: str, command: Sequence[str], user: str, *, commands: bool = False, **own: str) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
        settings = {
            "DATABASE_URL": self.database_url,
            "DATA_DIR": str(self.folder / "data"),
            "LOG_FORMAT": "console",
            # The load comes from one address.
            "RATE_LIMIT_STAFF": "600000/minute",
        }
        settings |= {key: value for key, value in own.items() if key in ("PORT", "WORKER_PORT")}
        environment |= {ENV_PREFIX + key: value for key, value in settings.items()}
        environment |= self.redis.environment(user)
        environment |= {key: value for key, value in own.items() if key not in settings}
        # Celery warns at length when it runs as root, as tests in a container do.
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
        # Kept: whoever tests a copy of the sources names it there.
        paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        (self.folder / "data").mkdir(exist_ok=True)
        process = self._run(name, command, environment, commands=commands)
        with self._lock:
            self.programs[name] = Program(name, command, environment, process, pids=[process.pid])

    def _run(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], *, commands: bool = False
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.PIPE if commands else subprocess.DEVNULL,
                env=dict(environment),
                cwd=self.folder,
                start_new_session=True,
            )

    def _all_ready(self) -> bool:
        if self.breaches:
            raise AssertionError(f"{self.breaches[0]}; see {self.folder}")
        ports = [self.port, *self.worker_ports.values()]
        return all(self._ready(port) for port in ports) and self.programs_up()

    @staticmethod
    def _ready(port: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def programs_up(self) -> bool:
        """Whether every process runs now."""
        with self._lock:
            return all(program.process.poll() is None for program in self.programs.values())

    def stop(self, keep: Path | None = None) -> None:
        """Ends everything and removes its files; with ``keep`` logs and ledgers are left in that folder."""
        self._stop.set()
        if self._supervisor.is_alive():
            self._supervisor.join(10)
        for program in self.programs.values():
            program.expected = True
            _signal_group(program.process.pid, signal.SIGKILL)
            program.process.wait()
            if program.process.stdin is not None:
                # What the pipe still held has no reader any more.
                with contextlib.suppress(BrokenPipeError):
                    program.process.stdin.close()
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for file in [*self.folder.glob("*.log"), *self.folder.glob("*.jsonl")]:
                shutil.copyfile(file, keep / file.name)
            shutil.copyfile(self.postgres.folder / "log", keep / "postgres.log")
            self.redis.keep_logs(keep)
        else:
            self.redis.stop()
        self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- supervision -------------------------------------------------------------------------------------------------
    def _supervise(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            with self._lock:
                for program in self.programs.values():
                    self._look_after(program)

    def _look_after(self, program: Program) -> None:
        code = program.process.poll()
        if code is None or (program.name == LOAD and program.expected):
            return
        now = time.monotonic()
        if program.again_at is None:
            program.again_at = now + RESTART_SECONDS
            if not program.expected:
                self.breaches.append(f"{program.name} ended by itself with code {code}")
            # What is left of a container goes with its first process.
            _signal_group(program.process.pid, signal.SIGKILL)
        elif now >= program.again_at and program.name != LOAD:
            for old in (self.folder / "metrics" / program.name).glob("*.db"):
                old.unlink()
            program.process = self._run(program.name, program.command, program.environment)
            program.pids.append(program.process.pid)
            program.again_at, program.expected = None, False

    # --- what faults do ----------------------------------------------------------------------------------------------
    def pid(self, name: str) -> int:
        """Process id of a program as it runs now."""
        return self.programs[name].process.pid

    def children(self, name: str) -> list[int]:
        """Process ids of a worker's children as they run now."""
        try:
            return [child.pid for child in psutil.Process(self.pid(name)).children()]
        except psutil.NoSuchProcess:
            return []

    def kill(self, name: str, number: int = signal.SIGKILL, *, whole: bool = False) -> None:
        """Signals a program that will end of it; ``whole``: its children too, as when a container is killed.

        It is started again a second after its end.
        """
        with self._lock:
            program = self.programs[name]
            program.expected = True
            self.interrupted(program.process.pid, *self.children(name))
            if whole:
                _signal_group(program.process.pid, number)
            else:
                program.process.send_signal(number)

    def let_die(self, name: str) -> None:
        """A program may end now, of something that a fault did; it is started again a second after its end."""
        with self._lock:
            self.programs[name].expected = True
            self.interrupted(self.programs[name].process.pid)

    def start_beside(self, name: str) -> str:
        """One more worker of the same kind; returns its name once it takes messages."""
        _, app, queues, queue = next(worker for worker in WORKERS if worker[0] == name)
        second = f"{name}-beside-{len(self.worker_ports)}"
        self._start_worker(second, app, queues, queue)
        wait_until(lambda: self._ready(self.worker_ports[second]), seconds=_READY_SECONDS, what="it is ready")
        return second

    def end_beside(self, second: str) -> None:
        """Ends what ``start_beside`` started, as a scale-down does."""
        self.interrupted(self.pid(second), *self.children(second))
        with self._lock:
            process = self.programs.pop(second).process
        del self.worker_ports[second]
        process.terminate()
        try:
            process.wait(timeout=_READY_SECONDS)
        finally:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()

    def kill_child(self, name: str) -> int:
        """SIGKILL of one child of a worker; returns its process id."""
        child = self.children(name)[0]
        self.interrupted(child)
        os.kill(child, signal.SIGKILL)
        return child

    def freeze(self, name: str) -> None:
        """SIGSTOP of a program and its children."""
        self.interrupted(self.pid(name), *self.children(name))
        _signal_group(self.pid(name), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        _signal_group(self.pid(name), signal.SIGCONT)

    def interrupted(self, *pids: int) -> None:
        """Says that these processes were killed or frozen: what they had in hand may be executed again."""
        self._interrupted.update(pids)
        self._ever_interrupted.update(pids)

    def take_breaches(self) -> list[str]:
        """What ended by itself since the last time."""
        with self._lock:
            taken, self.breaches = self.breaches, []
        return taken

    def forget_interruptions(self) -> None:
        """A new trial begins: what was frozen in an earlier one and lives on excuses nothing now."""
        self._interrupted.clear()

    def was_interrupted(self, *pids: int, ever: bool = False) -> bool:
        """Whether one of these processes was killed or frozen in this trial, or ``ever``."""
        return not (self._ever_interrupted if ever else self._interrupted).isdisjoint(pids)

    def order(self, command: str) -> None:
        """Tells the load a command."""
        pipe = self.programs[LOAD].process.stdin
        assert pipe is not None
        pipe.write(command.encode() + b"\n")
        pipe.flush()

    def end_load(self, seconds: float) -> None:
        """No more new work; returns when everything sent was answered."""
        program = self.programs[LOAD]
        program.expected = True
        assert program.process.stdin is not None
        program.process.stdin.close()
        program.process.wait(timeout=seconds)

    @contextlib.contextmanager
    def sql(self) -> Iterator[Any]:
        """A cursor that commits each statement, under a name of its own in ``pg_stat_activity``."""
        connection = psycopg2.connect(self.database_url, application_name="faults", connect_timeout=5)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def duplicates_suppressed(self) -> dict[str, float]:
        """Messages that found nothing to claim, by worker, since it was started."""
        return {
            name: _figure(port, "sicargabox_task_duplicate_messages_total") for name, port in self.worker_ports.items()
        }


def _figure(port: int, name: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", "/metrics")
        told = connection.getresponse().read().decode()
    except OSError:
        return 0.0
    finally:
        connection.close()
    return sum(float(value) for value in re.findall(rf"^{name}\{{[^}}]*\}} (\S+)$", told, re.MULTILINE))


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
