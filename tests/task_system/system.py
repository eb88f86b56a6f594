"""Starts, stops and watches the processes of a small installation for tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import text

from sicargabox_core.db import Database
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.scheduler import Scheduler
from sicargabox_core.settings import Settings, load_settings
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.contracts import Queue
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.presence import workers
from sicargabox_core.tasks.results import ResultEntries
from sicargabox_core.tasks.service import TaskService
from sicargabox_core.tasks.store import TaskView
from tests.servers.ports import wait_until
from tests.servers.secured_redis import SecuredRedis
from tests.servers.sentinels import SentinelInstallation
from tests.servers.valkey import ValkeyServer
from tests.settings import REPOSITORY
from tests.task_system.probe_specs import Act

# Shortened, so that a law about a lost worker takes two seconds instead of twenty. What is waited for never depends
# on a machine being fast: every wait has a deadline far beyond these.
SHORT = {
    "task_lease_seconds": 2.0,
    "task_heartbeat_seconds": 0.5,
    "reconcile_interval_seconds": 0.2,
    "task_cancel_grace_seconds": 2.0,
    "drain_seconds": 3.0,
}
DEADLINE = 30.0
PROBE = "tests.task_system.probe"


class Worker:
    """One worker process with its children, in a process group of its own."""

    def __init__(
        self,
        system: TaskSystem,
        queues: tuple[Queue, ...],
        concurrency: int,
        name: str,
        app: str,
        environment: Mapping[str, str],
    ) -> None:
        self._log = system.folder / f"{name}.log"
        command = [sys.executable, "-m", "celery", "-A", app, "worker"]
        command += ["-Q", ",".join(queue.value for queue in queues), "-c", str(concurrency), "-n", f"{name}@%h"]
        command += ["--without-gossip", "--without-mingle"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**system.environment, **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        """To the parent process alone, as a kubelet does it."""
        self.process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """To parent and children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def wait(self, seconds: float = DEADLINE) -> int:
        """Its exit code."""
        return self.process.wait(timeout=seconds)

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """Ends it and its children at once."""
        self.signal_all(signal.SIGKILL)
        self.process.wait()


class TaskSystem:
    """A database, a Redis, schedulers and workers; everything it started is gone after ``close``."""

    def __init__(
        self, database_url: str, valkey: ValkeyServer | SentinelInstallation | SecuredRedis, folder: Path
    ) -> None:
        self.redis = valkey
        self.folder = folder
        own: dict[str, Any] = {"database_url": database_url, "data_dir": folder, "log_format": "console", **SHORT}
        secured = valkey if isinstance(valkey, SecuredRedis) else None
        # Behind users each process signs in as its own; this one accepts and publishes, as the API does.
        of_redis = secured.options("api") if secured else {"redis_url": valkey.url}
        self.settings: Settings = load_settings(**own, **of_redis)
        self._of_scheduler = load_settings(**own, **secured.options("scheduler")) if secured else self.settings
        self._probe_log = folder / "probe.log"
        self.environment = os.environ | {
            "SICARGABOX_DATABASE_URL": database_url,
            "SICARGABOX_REDIS_URL": valkey.url,
            "SICARGABOX_DATA_DIR": str(folder),
            "SICARGABOX_LOG_FORMAT": "console",
            "PROBE_LOG": str(self._probe_log),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")])),
            # Tests may run as root in a container; Celery warns at length.
            "PYTHONWARNINGS": "ignore",
            **{f"SICARGABOX_{name.upper()}": str(value) for name, value in SHORT.items()},
            **(secured.environment("worker") if secured else {}),
        }
        self.database = Database.from_settings(self.settings)
        self.celery = make_celery(self.settings, "tests")
        self.publisher = Publisher(self.settings, self.celery)
        self.service = TaskService(self.database, self.publisher, ResultEntries(self.settings))
        self._workers: list[Worker] = []
        self._schedulers: list[tuple[Scheduler, threading.Thread]] = []
        self._scheduler_processes: list[subprocess.Popen[bytes]] = []

    @classmethod
    @contextlib.contextmanager
    def running(
        cls, database_url: str, valkey: ValkeyServer | SentinelInstallation | SecuredRedis, folder: Path
    ) -> Iterator[TaskSystem]:
        """One with a scheduler, for the time of a block; tests start the workers."""
        system = cls(database_url, valkey, folder)
        try:
            system.start_scheduler()
            yield system
        finally:
            system.close()

    @property
    def valkey(self) -> ValkeyServer:
        """The one server, where there are no Sentinels."""
        assert isinstance(self.redis, ValkeyServer)
        return self.redis

    # --- processes ---------------------------------------------------------------------------------------------------
    def start_worker(
        self,
        *queues: Queue,
        concurrency: int = 1,
        ready: bool = True,
        app: str = PROBE,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Worker:
        """A worker of ``queues``; returns when it takes messages. ``app``: the module of another Celery application.

        ``environment``: variables of this worker alone.
        """
        before = self.present() if ready else set()
        worker = Worker(self, queues, concurrency, f"probe{len(self._workers)}", app, environment)
        self._workers.append(worker)
        if ready:
            wait_until(
                lambda: worker.process.poll() is not None or self.present() - before,
                seconds=DEADLINE,
                what="the worker takes messages",
            )
            assert worker.process.poll() is None, worker.log[-3000:]
        return worker

    def present(self) -> set[str]:
        """The names of the workers that take messages."""
        with connect(self.settings, Db.BROKER) as client:
            return {one.worker for one in workers(client)}

    def start_scheduler(self) -> Scheduler:
        """A scheduler's loop, in a thread of this process."""
        scheduler = Scheduler(self._of_scheduler)
        thread = threading.Thread(target=scheduler.run, name="scheduler", daemon=True)
        thread.start()
        self._schedulers.append((scheduler, thread))
        return scheduler

    def start_scheduler_process(self, environment: Mapping[str, str] = MappingProxyType({})) -> subprocess.Popen[bytes]:
        """A scheduler as its own process; ``environment``: variables of it alone."""
        with (self.folder / f"scheduler{len(self._scheduler_processes)}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", "from sicargabox_core.cli import main; main()", "scheduler"],
                cwd=REPOSITORY,
                env={**self.environment, **environment},
                stdout=log,
                stderr=log,
            )
        self._scheduler_processes.append(process)
        return process

    @contextlib.contextmanager
    def worker(self, *queues: Queue, concurrency: int = 1) -> Iterator[Worker]:
        """A worker for the time of a block."""
        worker = self.start_worker(*queues, concurrency=concurrency)
        try:
            yield worker
        finally:
            worker.signal_all(signal.SIGCONT)
            worker.kill()

    def close(self) -> None:
        """Ends everything."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.kill()
        for process in self._scheduler_processes:
            process.kill()
            process.wait()
        for scheduler, thread in self._schedulers:
            scheduler.stop()
            thread.join(10)
        self.publisher.stop()
        self.database.dispose()

    # --- what tests ask ----------------------------------------------------------------------------------------------
    def submit(self, spec: Any, **payload: Any) -> str:
        """Accepts a probe task and returns its id."""
        return self.service.submit(spec, Act(**payload), initiated_by="user:test").task.id

    def task(self, task_id: str) -> TaskView:
        """The row."""
        return self.service.get(task_id)

    def wait_final(self, task_id: str, seconds: float = DEADLINE) -> TaskView:
        """The row once it is final."""
        return wait_until(
            lambda: task if (task := self.task(task_id)).is_final else None,
            seconds=seconds,
            what=f"task {task_id} ends",
            interval=0.05,
        )

    def wait_begun(self, task_id: str, attempt: int = 1) -> dict[str, Any]:
        """The log line of an attempt's beginning."""
        return wait_until(
            lambda: next((one for one in self.runs(task_id, "begin") if one["attempt"] >= attempt), None),
            seconds=DEADLINE,
            what=f"attempt {attempt} of {task_id} begins",
        )

    def runs(self, task_id: str | None = None, what: str = "begin") -> list[dict[str, Any]]:
        """The executions of a task (or of all), from the file its function writes."""
        if not self._probe_log.exists():
            return []
        lines = [json.loads(line) for line in self._probe_log.read_text().splitlines()]
        return [one for one in lines if one["what"] == what and task_id in (None, one["id"])]

    def effects(self, note: str) -> int:
        """How often the effect of the task with this note was committed."""
        with self.database.read() as session:
            value = session.execute(
                text("SELECT value FROM counters WHERE name = :name"), {"name": f"effect:{note}"}
            ).scalar()
        return int(value or 0)
