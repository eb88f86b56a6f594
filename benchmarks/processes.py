"""Processes of a benchmark: each in a group of its own, its output in a file, all ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

STOP_SECONDS = 15


class Processes:
    """Those started here; a context manager that ends them."""

    def __init__(self, folder: Path) -> None:
        """``folder`` takes the output."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._all: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self, name: str, *command: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Starts one with this process's environment, less the product's settings, and ``environment``."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SICARGABOX_")}
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**inherited, "PYTHONWARNINGS": "ignore", **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._all.append(process)
        return process

    def stop(self) -> None:
        """SIGTERM to all; after 15 s SIGKILL to what is left of their groups."""
        for process in self._all:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._all:
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                kill_group(process)
        self._all.clear()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process and to all it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
