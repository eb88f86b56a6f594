"""A small real installation: its database, its Redis, and the processes a benchmark asks for, over loopback."""

from __future__ import annotations

import http.client
import subprocess
import sys
from pathlib import Path

import psutil

from benchmarks.processes import Processes
from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.tokens import create_token
from sicargabox_core.db import Database, migrate
from sicargabox_core.settings import Settings, load_settings
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.presence import workers
from sicargabox_core.tasks.service import TaskService
from tests.servers.ports import free_port, wait_until
from tests.servers.valkey import ValkeyServer

START_SECONDS = 60
WORKERS = {
    "indexer-worker": ("sicargabox_indexer.app", "elasticsearch,celery"),
    "ai-worker": ("sicargabox_ai.app", "ai_generation"),
    "learning-worker": ("sicargabox_learning.app", "learning"),
}


class Installation:
    """Migrated, with a token of an administrator; a context manager that ends all it started."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, **variables: str) -> None:
        """``redis_url`` may be one that nobody listens on; ``variables`` are further settings of every process."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.variables = {
            "DATA_DIR": str(folder),
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "PORT": str(free_port()),
            "ADMIN_PORT": str(free_port()),
            # A client that asks as fast as it can is not what the limits are for.
            "RATE_LIMIT_STAFF": "",
            "RATE_LIMIT_PUBLIC": "",
            "LOG_LEVEL": "WARNING",
            **variables,
        }
        self.settings: Settings = load_settings(**{name.lower(): value for name, value in self.variables.items()})
        self.database = Database.from_settings(self.settings)
        migrate(self.database)
        with self.database.write() as session:
            # The folder's name in it: one database may see several installations, one after the other.
            name = f"benchmark-{folder.name}"[:60]
            self.token = create_token(session, name, Role.ADMIN, ["tasks", "search"], by="benchmark")[1]
        self.publisher = Publisher(self.settings, make_celery(self.settings, "benchmark"), capacity=100_000)
        self.tasks = TaskService(self.database, self.publisher)
        self._processes = Processes(folder)

    def __enter__(self) -> Installation:
        return self

    def __exit__(self, *_error: object) -> None:
        self._processes.stop()
        self.publisher.stop()
        self.database.dispose()

    @property
    def port(self) -> int:
        """The API's."""
        return self.settings.port

    def start(self, name: str, *command: str, **variables: str) -> subprocess.Popen[bytes]:
        """Starts a process in a group of its own; its output goes to a file."""
        settings = {f"SICARGABOX_{key}": value for key, value in {**self.variables, **variables}.items()}
        return self._processes.start(name, *command, environment=settings)

    def start_api(self) -> subprocess.Popen[bytes]:
        """The API, ready to answer."""
        process = self.start("api", _sicargabox(), "api")
        wait_for(self.port, "/readyz", process)
        return process

    def start_admin(self) -> subprocess.Popen[bytes]:
        """The staff pages, ready to answer."""
        process = self.start("admin", _sicargabox(), "admin")
        wait_for(self.settings.admin_port, "/admin/login", process)
        return process

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        """A scheduler."""
        return self.start("scheduler", _sicargabox(), "scheduler")

    def start_worker(
        self, kind: str, valkey: ValkeyServer, *, children: int = 1, name: str = ""
    ) -> subprocess.Popen[bytes]:
        """A worker; returns when it takes messages."""
        before = present(valkey)
        process = self.launch_worker(kind, children=children, name=name)
        wait_until(lambda: present(valkey) - before, seconds=START_SECONDS, what=f"{kind} takes messages")
        return process

    def launch_worker(self, kind: str, *, children: int = 1, name: str = "") -> subprocess.Popen[bytes]:
        """A worker, not waited for."""
        application, queues = WORKERS[kind]
        return self.launch(application, queues, children=children, name=name or kind)

    def launch(self, application: str, queues: str, *, children: int, name: str) -> subprocess.Popen[bytes]:
        """A worker of any application, not waited for."""
        return self.start(
            name,
            *(sys.executable, "-m", "celery", "-A", application, "worker", "-Q", queues, "-c", str(children)),
            *("-n", f"{name}@%h", "--without-gossip", "--without-mingle"),
        )


def present(valkey: ValkeyServer) -> set[str]:
    """The workers that take messages."""
    with valkey.client() as client:
        return {one.worker for one in workers(client)}


def _sicargabox() -> str:
    return str(Path(sys.executable).with_name("sicargabox"))


def wait_for(port: int, path: str, process: subprocess.Popen[bytes]) -> None:
    """Returns when the process answers there. Raises ``AssertionError`` when it ends or takes too long."""

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the process at port {port} ended with {process.returncode}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status < 400
        except OSError:
            return False
        finally:
            connection.close()

    wait_until(answers, seconds=START_SECONDS, what=f"port {port} answers")


def megabytes(process: subprocess.Popen[bytes]) -> float:
    """What the kernel charges a process and its children: private memory and their share of what is shared (PSS)."""
    parent = psutil.Process(process.pid)
    shares: list[int] = [one.memory_full_info().pss for one in [parent, *parent.children(recursive=True)]]
    return sum(shares) / 2**20
