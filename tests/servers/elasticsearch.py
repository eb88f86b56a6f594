"""A private Elasticsearch, started by the script that the machine has for it.

A start takes 10 to 30 seconds, so tests that need no server of their own share one, each with an alias of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from elasticsearch import Elasticsearch

from tests.servers.ports import free_port, wait_until
from tests.settings import absent, machine

_HEAP = "512m"
_START_SECONDS = 240


class ElasticsearchServer:
    """One node on a free port of the loopback interface. A test may pause it, kill it, start it and find its data."""

    def __init__(self, *, heap: str = _HEAP, full_jit: bool = False) -> None:
        """Starts nothing yet; the test is skipped, or fails where servers are required, where there is none.

        ``full_jit``: with the JVM's usual compilers, for measuring; a start then takes longer.
        """
        self._script = machine().search_server
        if not self._script.is_file():
            absent("Elasticsearch", f"set SICARGABOX_TEST_SEARCH_SERVER to its script (not {self._script})")
        self._options = ["--heap", heap, *(["--full-jit"] if full_jit else [])]
        self.port = free_port()
        self.pid = 0
        self._folder: Path | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and returns when it is healthy."""
        told = dict(line.split(": ", 1) for line in self._run("start", *self._options).splitlines() if ": " in line)
        self.pid = int(told["pid"])
        self._folder = Path(told["data"]).parent

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._script), arguments[0], "--port", str(self.port), *arguments[1:]],
            capture_output=True,
            text=True,
            timeout=_START_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"search-server {arguments[0]}: {done.stderr[-2000:]}")
        return done.stdout

    def pause(self) -> None:
        """SIGSTOP: connections are taken and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Goes on after ``pause``."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not _runs(self.pid), seconds=20, what="Elasticsearch is gone")

    def stop(self) -> None:
        """Ends it and removes its folder."""
        if self.pid and _runs(self.pid):
            self.resume()
            self._run("stop")
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def remove_indexes(url: str, alias: str) -> None:
    """Deletes everything of one alias."""
    with Elasticsearch(url, request_timeout=30) as client:
        names = list(client.indices.get(index=f"{alias},{alias}-*", expand_wildcards="all", ignore_unavailable=True))
        if names:
            client.indices.delete(index=names)


def fetch() -> int:
    """Gets the server's files, so that no test waits for a download; the exit code says whether they are here."""
    script = machine().search_server
    if not script.is_file():
        print(f"{script} is not here: set SICARGABOX_TEST_SEARCH_SERVER", file=sys.stderr)
        return 1
    return subprocess.run([str(script), "fetch"], check=False).returncode


if __name__ == "__main__":
    sys.exit(fetch())
