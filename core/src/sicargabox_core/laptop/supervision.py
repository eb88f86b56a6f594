"""Keeps programs running under supervisord, and ends them; the one module that knows `supervisor`.

supervisord restarts a program that dies (1 s, 2 s, 3 s … between tries, for ever) and rotates its log. It runs in a
session of its own, so that a Ctrl-C reaches the foreground command alone, and on a leash (`leash`): when the
foreground command dies without a word, supervisord ends its programs and itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import shlex
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from sicargabox_core.errors import InvalidSetting, Unavailable
from sicargabox_core.laptop.folders import Folders, write_private
from sicargabox_core.laptop.processes import (
    PROGRAM_STEADY_SECONDS,
    PROGRAM_STOP_SECONDS,
    SERVER_STEADY_SECONDS,
    SERVER_STOP_SECONDS,
    Program,
)
from sicargabox_core.settings import ENV_PREFIX

_STOP_DEADLINE_SECONDS = 12.0
# Unix sockets have a path of at most 104 bytes on macOS; supervisord adds its pid to it while it starts.
_LONGEST_SOCKET_PATH = 90
_NO_ANSWER = (OSError, http.client.HTTPException, xmlrpc.client.Error)


@dataclass(frozen=True)
class ProgramState:
    """A program as supervisord sees it now; ``state`` is its word (RUNNING, BACKOFF, …)."""

    name: str
    state: str
    pid: int
    log: Path


class Supervision:
    """One supervisord and its programs, in one data folder."""

    def __init__(self, folders: Folders, programs: Sequence[Program], environment: Mapping[str, str]) -> None:
        """``environment`` is the whole environment of every program."""
        self._folders = folders
        self._programs = list(programs)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, servers_ready: Callable[[], None]) -> None:
        """Starts supervisord and the servers, waits for ``servers_ready`` to return, and starts the other programs.

        Raises ``Unavailable`` when supervisord does not come up.
        """
        configuration = self._folders.run / "supervisord.conf"
        write_private(configuration, self._configuration())
        output = (self._folders.logs / "supervisord-output.log").open("ab")
        with output:
            self._process = subprocess.Popen(
                [*on_leash(sys.executable, "-m", "supervisor.supervisord"), "-n", "-c", str(configuration)],
                env=self._environment,
                cwd=self._folders.data,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._wait(lambda: self.states() is not None or not self.alive, 15, "the supervisor does not start")
        if not self.alive:
            raise Unavailable(
                "the supervisor does not start", remedy=f"See {self._folders.logs / 'supervisord-output.log'}."
            )
        servers_ready()
        with self._rpc() as supervisor:
            supervisor.startProcessGroup("programs", False)

    @property
    def logs(self) -> Path:
        """The folder of all log files."""
        return self._folders.logs

    @property
    def left_traces(self) -> bool:
        """Whether an earlier supervisord died without cleaning up, so that its programs may still be ending."""
        return self._pid_file.exists()

    @property
    def _pid_file(self) -> Path:
        return self._folders.run / "supervisord.pid"

    @property
    def alive(self) -> bool:
        """Whether supervisord itself runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """supervisord's process id; None when it was not started."""
        return self._process.pid if self._process else None

    def states(self) -> list[ProgramState] | None:
        """Each program's state; None while supervisord does not answer."""
        try:
            with self._rpc() as supervisor:
                answer: Any = supervisor.getAllProcessInfo()
        except _NO_ANSWER:
            return None
        return [
            ProgramState(entry["name"], entry["statename"], entry["pid"], Path(entry["stdout_logfile"]))
            for entry in answer
        ]

    def stop(self) -> None:
        """Ends all programs, the servers last, then supervisord; returns when all have ended."""
        if self._process is None:
            return
        if self.alive:
            self._process.terminate()
        try:
            self._process.wait(timeout=_STOP_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def end_previous(self) -> None:
        """Ends what an earlier foreground command left running, on systems without a leash or still on its way out.

        Raises ``Unavailable`` when it does not end.
        """
        if self.states() is None:
            return
        with contextlib.suppress(*_NO_ANSWER), self._rpc() as supervisor:
            supervisor.shutdown()
        self._wait(lambda: self.states() is None, _STOP_DEADLINE_SECONDS, "an earlier run does not end")

    def _wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise Unavailable(what, remedy=f"See {self._folders.logs}.")
            time.sleep(0.05)

    @property
    def socket(self) -> Path:
        """supervisord's control socket, reachable by its owner alone."""
        path = self._folders.run / "supervisor.sock"
        return path if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH else _short_alias(self._folders.run) / path.name

    @contextlib.contextmanager
    def _rpc(self) -> Iterator[Any]:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
            yield server.supervisor

    def _configuration(self) -> str:
        sections: dict[str, dict[str, object]] = {
            "unix_http_server": {"file": self.socket, "chmod": "0700"},
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
            "supervisord": {
                "nodaemon": "true",
                "silent": "true",
                "logfile": self._folders.logs / "supervisord.log",
                "logfile_maxbytes": "5MB",
                "logfile_backups": 2,
                "pidfile": self._pid_file,
                "childlogdir": self._folders.logs,
                "umask": "077",
            },
        }
        servers = [program.name for program in self._programs if program.server]
        others = [program.name for program in self._programs if not program.server]
        # Groups end one after the other, the highest priority first; the programs of one group end together.
        if servers:
            sections["group:servers"] = {"programs": ",".join(servers), "priority": 1}
        sections["group:programs"] = {"programs": ",".join(others), "priority": 2}
        for program in self._programs:
            sections[f"program:{program.name}"] = {
                "command": shlex.join(on_leash(*program.command)),
                "directory": self._folders.data,
                "environment": ",".join(f'{key}="{value}"' for key, value in program.environment.items()),
                "autostart": str(program.server).lower(),
                "autorestart": "true",
                "startsecs": SERVER_STEADY_SECONDS if program.server else PROGRAM_STEADY_SECONDS,
                # A full disk or a migration may last: giving up would need a person to come and start it again.
                "startretries": 1_000_000,
                # Not stopasgroup: SIGTERM kills a Celery child in mid-task, its parent drains it.
                "stopasgroup": "false",
                "killasgroup": "true",
                "stopwaitsecs": SERVER_STOP_SECONDS if program.server else PROGRAM_STOP_SECONDS,
                "redirect_stderr": "true",
                "stdout_logfile": self._folders.logs / f"{program.name}.log",
                "stdout_logfile_maxbytes": "10MB",
                "stdout_logfile_backups": 3,
            }
        return "\n".join(
            f"[{section}]\n" + "".join(f"{key}={_escaped(value)}\n" for key, value in entries.items())
            for section, entries in sections.items()
        )


def _escaped(value: object) -> str:
    # supervisord expands % in every value.
    return str(value).replace("%", "%%")


def on_leash(*command: str) -> list[str]:
    """The command line that runs ``command`` until its parent dies."""
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("leash.py")), *command]


def _short_alias(folder: Path) -> Path:
    """A symbolic link to ``folder`` with a short path, the same at each call; it gives no access of its own."""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    alias = Path(tempfile.gettempdir()) / f"sicargabox-{os.geteuid()}-{digest}"
    with contextlib.suppress(FileExistsError):
        alias.symlink_to(folder)
    if alias.lstat().st_uid != os.geteuid() or alias.resolve() != folder.resolve():
        raise InvalidSetting(
            f"{alias} stands in the way of a short name for {folder}",
            field=f"{ENV_PREFIX}DATA_DIR",
            remedy="Choose a folder with a shorter path.",
        )
    return alias


@contextlib.contextmanager
def only_one(folders: Folders) -> Iterator[None]:
    """Holds the data folder for this process. Raises ``InvalidSetting`` when another `sicargabox run` holds it."""
    with folders.lock.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise InvalidSetting(
                f"{folders.data} is in use by `sicargabox run` (process {lock.read().strip()})",
                field=f"{ENV_PREFIX}DATA_DIR",
                remedy="Stop it, or choose another folder.",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
