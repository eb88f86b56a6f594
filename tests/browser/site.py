"""The product's processes, started one by one for a browser: what a person meets, without the supervisor."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.users import create_user
from sicargabox_core.catalogue.starter_catalogue import load_starter
from sicargabox_core.db import Database, migrate
from sicargabox_core.settings import ENV_PREFIX, Settings, load_settings
from tests.servers.ports import free_port, wait_until
from tests.servers.valkey import ValkeyServer

PASSWORD = "una-clave-de-prueba"
_SCHEDULER = """
from sicargabox_core.scheduler import run_scheduler
from sicargabox_core.settings import load_settings
run_scheduler(load_settings())
"""


@dataclass
class Site:
    """A running product with the starter catalogue and a user of each role, named as the role."""

    settings: Settings
    folder: Path
    redis: ValkeyServer
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def public(self) -> str:
        """Address of the public page."""
        return self.settings.effective_public_url

    @property
    def admin(self) -> str:
        """Address of the staff pages."""
        return self.settings.effective_admin_url + "/admin/"

    def database(self) -> Database:
        """Its database."""
        return Database.from_settings(self.settings)

    def start(self, name: str, *command: str) -> None:
        """Starts a process that writes its log into the folder."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(ENV_PREFIX)}
        environment |= {
            f"{ENV_PREFIX}DATA_DIR": str(self.settings.data_dir),
            f"{ENV_PREFIX}PORT": str(self.settings.port),
            f"{ENV_PREFIX}ADMIN_PORT": str(self.settings.admin_port),
            f"{ENV_PREFIX}REDIS_URL": self.redis.url,
            f"{ENV_PREFIX}DRAIN_SECONDS": "1",
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )

    def stop(self, name: str) -> None:
        """Ends a process and all that it started."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def logs(self) -> str:
        """The end of each log, for a failure's message."""
        return "".join(f"\n── {log.name}\n{log.read_text()[-1500:]}" for log in sorted(self.folder.glob("*.log")))


@contextlib.contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Starts everything and ends it."""
    redis = ValkeyServer()
    settings = load_settings(data_dir=folder / "data", port=free_port(), admin_port=free_port())
    site = Site(settings, folder, redis)
    try:
        redis.start()
        database = site.database()
        migrate(database)
        load_starter(database)
        with database.write() as session:
            for role in Role:
                create_user(session, role.value, PASSWORD, role, by="test")
        database.dispose()
        for name, factory, port in (
            ("api", "sicargabox_api.main:app_factory", settings.port),
            ("admin", "sicargabox_api.admin.app:app_factory", settings.admin_port),
        ):
            site.start(name, sys.executable, "-m", "uvicorn", "--factory", factory, "--port", str(port))
        site.start("scheduler", sys.executable, "-c", _SCHEDULER)
        for app, queues in (("sicargabox_indexer.app", "elasticsearch,celery"), ("sicargabox_ai.app", "ai_generation")):
            command = ("-m", "celery", "-A", app, "worker", "-Q", queues, "-c", "1", "-n", f"{app}@%h")
            site.start(app, sys.executable, *command, "--without-gossip", "--without-mingle")
        for port, path in ((settings.port, "/readyz"), (settings.admin_port, "/readyz")):
            _wait_for(site, port, path)
        yield site
    finally:
        for name in list(site.processes):
            site.stop(name)
        redis.stop()


def _wait_for(site: Site, port: int, path: str) -> None:
    def answers() -> bool:
        dead = [name for name, process in site.processes.items() if process.poll() is not None]
        if dead:
            raise AssertionError(f"{dead} ended\n{site.logs()}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    wait_until(answers, seconds=60, what=f"port {port} answers", interval=0.1)
