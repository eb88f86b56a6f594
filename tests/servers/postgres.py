"""A private PostgreSQL cluster: made with initdb, durable settings off, one template per run, one clone per test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import psycopg2

from sicargabox_core.db import Database, migrate
from tests.servers.ports import free_port, wait_until
from tests.settings import absent

_TEMPLATE = "sicargabox_template"


def find_programs() -> Path | None:
    """The folder with ``initdb`` and ``postgres``, newest release first; none when there is no server here."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    folders = debian + ([Path(on_path).resolve().parent] if on_path else [])
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def required_programs() -> Path:
    """The same for a test: skips or fails it when there is no server here."""
    programs = find_programs()
    if programs is None:
        absent("PostgreSQL", "install postgresql-15 (only its programs are used, no service)")
    return programs


class PostgresCluster:
    """A cluster on a free port of the loopback interface, its folder removed at the end."""

    def __init__(self, programs: Path, *, durable: bool = False, settings: Mapping[str, object] | None = None) -> None:
        """Makes the folder and the cluster; starts nothing yet. ``durable``: commits wait for the disk.

        ``settings`` come before those made here, such as ``max_connections``.
        """
        self._durable = durable
        self._settings = dict(settings or {})
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="sicargabox-postgres-"))
        self._programs = programs
        # PostgreSQL refuses to run as root.
        self._account = _unprivileged_account() if os.geteuid() == 0 else None
        if self._account:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        # Order by a language, as people's servers have it: a comparison that holds in ASCII alone must fail here.
        order = ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=es-HN"]
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", *order, "--no-sync"]
        made = self._run("initdb", "-D", str(self.folder / "data"), *options)
        if made.wait() != 0:
            raise AssertionError("initdb failed: " + self._log())

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        account = self._account
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self._programs / program), *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def start(self) -> None:
        """Starts the server and makes the migrated template database."""
        self._launch()
        self._execute(f"CREATE DATABASE {_TEMPLATE}")
        template = Database(self._url(_TEMPLATE))
        migrate(template)
        template.dispose()

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            # The machine's life is the data's life here. synchronous_commit stays on: `doctor` checks it.
            "fsync": "on" if self._durable else "off",
            "full_page_writes": "on" if self._durable else "off",
            "max_connections": 200,
            "shared_buffers": "64MB",
            **self._settings,
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        process = self._run("postgres", "-D", str(self.folder / "data"), *arguments)
        self._process = process
        wait_until(lambda: process.poll() is not None or self._answers(), seconds=30, what="PostgreSQL answers")
        if process.poll() is not None:
            raise AssertionError("PostgreSQL ended: " + self._log())

    def _url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def _answers(self) -> bool:
        try:
            psycopg2.connect(self._url("postgres"), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _execute(self, statement: str) -> None:
        connection = psycopg2.connect(self._url("postgres"))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def create(self, *, migrated: bool = True) -> str:
        """A new database, a clone of the migrated template or empty; returns its URL."""
        name = f"test_{uuid4().hex[:12]}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE if migrated else 'template0'}")
        return self._url(name)

    def drop(self, url: str) -> None:
        """Removes a database that ``create`` made, whoever is still connected."""
        self._execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def restart_immediately(self) -> None:
        """As ``pg_ctl restart -m immediate``: no session ends in order, and the start replays the log."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(timeout=20)
        self._launch()

    def stop(self) -> None:
        """Ends the server at once and removes its folder."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=20)
        shutil.rmtree(self.folder, ignore_errors=True)


def _unprivileged_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("PostgreSQL cannot run as root, and there is neither a postgres nor a nobody account")
