"""The whole product as `sicargabox run` starts it, in a data folder and on ports of its own."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import psutil

from sicargabox_core.db import Database
from sicargabox_core.laptop.folders import Folders
from sicargabox_core.laptop.supervision import ProgramState, Supervision
from sicargabox_core.settings import ENV_PREFIX, Settings
from tests.servers.ports import free_port, free_ports_in_a_row, wait_until

_START_SECONDS = 90


class Product:
    """Started, stopped and started again by tests; ``said`` is what it printed since its last start."""

    def __init__(self, folder: Path) -> None:
        self.ports = {name: free_port() for name in ("PORT", "ADMIN_PORT", "FLOWER_PORT", "REDIS_PORT")}
        self.ports["WORKER_PORT"] = free_ports_in_a_row(4)
        self.settings = Settings(
            data_dir=folder / "data",
            **{name.lower(): port for name, port in self.ports.items()},  # type: ignore[arg-type]  # all are numbers
        )
        self.folders = Folders.of(self.settings.data_dir)
        self._output = folder / "output"
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self, **changes: str) -> dict[str, str]:
        """The environment for a command on this product; ``changes`` without the prefix."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
        own = {"DATA_DIR": str(self.settings.data_dir), **{name: str(port) for name, port in self.ports.items()}}
        return inherited | {ENV_PREFIX + name: value for name, value in {**own, **changes}.items()}

    def command(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Runs ``sicargabox`` with these arguments to its end."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("sicargabox")), *arguments],
            env=self.environment(**changes),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self) -> None:
        """Starts it and returns when it says that it is ready."""
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("sicargabox")), "run"],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        process = self._process
        wait_until(
            lambda: "SicargaBox is ready" in self.said or process.poll() is not None,
            seconds=_START_SECONDS,
            what="the product is ready",
        )
        if process.poll() is not None:
            raise AssertionError(self.said + self._logs())

    @property
    def said(self) -> str:
        """What it printed since it was started."""
        return self._output.read_text()

    def _logs(self) -> str:
        return "".join(f"\n── {log.name}\n{log.read_text()[-2000:]}" for log in sorted(self.folders.logs.glob("*.log")))

    @property
    def pid(self) -> int:
        """Process id of the foreground command."""
        assert self._process is not None, "it was not started"
        return self._process.pid

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ends it as Ctrl-C does; returns its exit code once it has ended."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = self._process.wait(timeout=60)
        self._process = None
        return code

    def states(self) -> dict[str, ProgramState]:
        """The programs as the supervisor sees them; none while it does not answer."""
        return {state.name: state for state in Supervision(self.folders, [], {}).states() or []}

    def running(self) -> dict[str, ProgramState]:
        """The same, once every program runs."""

        def all_running() -> dict[str, ProgramState]:
            states = self.states()
            return (
                states
                if states and all(state.pid and state.state in ("STARTING", "RUNNING") for state in states.values())
                else {}
            )

        return wait_until(all_running, seconds=60, what="every program runs")

    def family(self) -> list[psutil.Process]:
        """The foreground command and every process under it."""
        foreground = psutil.Process(self.pid)
        return [foreground, *foreground.children(recursive=True)]

    def database(self) -> Database:
        """A new connection to its database."""
        return Database.from_settings(self.settings)

    def get(self, port: str, path: str, *, user: str | None = None) -> tuple[int, str]:
        """GET from one of its ports; ``user`` is ``name:password`` for basic authentication."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=10)
        try:
            headers = {"Authorization": "Basic " + b64encode(user.encode()).decode()} if user else {}
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()
