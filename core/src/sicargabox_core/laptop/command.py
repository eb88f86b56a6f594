"""The foreground command `sicargabox run`: starts everything, says where it is, and ends everything on Ctrl-C."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from types import FrameType

from rich.console import Console

from sicargabox_core.db import Database
from sicargabox_core.errors import InvalidInput, Unavailable
from sicargabox_core.laptop import first_use, preflight
from sicargabox_core.laptop.folders import Folders
from sicargabox_core.laptop.processes import FLOWER_USER, configure, environment, flower_password_file, programs
from sicargabox_core.laptop.supervision import ProgramState, Supervision, only_one
from sicargabox_core.observability import configure_logging
from sicargabox_core.redis_server import Db, RedisError, connect, parse_address
from sicargabox_core.settings import Settings, load_settings, misspelt

_READY_SECONDS = 120.0
# What a crashed supervisor left is asked to end at once and is gone by then.
_SECONDS_TO_DIE = 12.0
# supervisord itself died this often within a minute: something is wrong that a restart does not mend.
_SUPERVISOR_RESTARTS = 3


def run() -> None:
    """Starts everything and returns once it was stopped by Ctrl-C, SIGTERM or a closed terminal.

    Raises ``InvalidSetting`` for a wrong setting, a taken port or a folder that cannot be written, ``Unavailable`` when
    something that is needed does not start.
    """
    # What the processes keep is theirs alone: tasks hold names, the database hashes of passwords.
    os.umask(0o077)
    settings = load_settings()
    # The processes' lines are in their log files; here they would stand between ours.
    configure_logging(settings.model_copy(update={"log_level": "CRITICAL", "log_format": "console"}), "run")
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    out = Console(highlight=False, soft_wrap=True)
    for name, near in misspelt(os.environ).items():
        out.print(f"{name} is no setting and has no effect{f'; did you mean {near}?' if near else '.'}", markup=False)
    _run(settings, out, stopping)


def _run(settings: Settings, out: Console, stopping: threading.Event) -> None:
    preflight.check_folder(settings)
    folders = Folders.of(settings.data_dir)
    with only_one(folders):
        supervision = Supervision(folders, programs(settings, folders), environment(settings, os.environ))
        supervision.end_previous()
        _wait_for_ports(settings, stopping, seconds=_SECONDS_TO_DIE if supervision.left_traces else 0.0)
        database = Database.from_settings(settings)
        try:
            prepared = first_use.prepare(database)
            if prepared.lines:
                out.print(f"Starter catalogue: {prepared.lines} tariff lines")
            if prepared.password:
                name = first_use.ADMINISTRATOR
                out.print(f"Staff sign-in, shown only this once: {name} / {prepared.password}", markup=False)
            configure(settings, folders)
            try:
                supervision.start(servers_ready=lambda: _wait_for_redis(settings, supervision, stopping))
                _wait_for_pages(settings, supervision, stopping)
                if not stopping.is_set():
                    _announce(settings, folders, out)
                    _say_whether_redis_is_away(settings, out)
                    if first_use.rebuild_if_no_index(database, settings):
                        out.print("Building the search index; the staff pages show its progress.")
                _watch(settings, supervision, out, stopping)
            finally:
                began = time.monotonic()
                supervision.stop()
                out.print(f"Stopped in {time.monotonic() - began:.1f} s.")
        finally:
            database.dispose()


def _watch(settings: Settings, supervision: Supervision, out: Console, stopping: threading.Event) -> None:
    """Tells what dies and comes back, until it is time to stop. Starts the supervisor itself again when that died."""
    known: dict[str, ProgramState] = {}
    restarts: list[float] = []
    while not stopping.wait(1.0):
        if not supervision.alive:
            restarts = [moment for moment in restarts if moment > time.monotonic() - 60] + [time.monotonic()]
            if len(restarts) > _SUPERVISOR_RESTARTS:
                raise Unavailable("the supervisor keeps dying", remedy=f"See {supervision.logs}.")
            out.print("The supervisor died; starting everything again.")
            _wait_for_ports(settings, stopping, seconds=_SECONDS_TO_DIE)
            supervision.start(servers_ready=lambda: _wait_for_redis(settings, supervision, stopping))
            known = {}
            continue
        for now in supervision.states() or []:
            before = known.get(now.name)
            if before and now.state == "RUNNING" and now.pid != before.pid:
                out.print(f"{now.name} died and was started again (process {now.pid}); log: {now.log}", markup=False)
            if now.state == "BACKOFF" and (before is None or before.state == "RUNNING"):
                out.print(f"{now.name} does not stay up and is tried again and again; log: {now.log}", markup=False)
            # What is not RUNNING has no process to compare with: remember the last one.
            if now.state in ("RUNNING", "BACKOFF") or before is None:
                known[now.name] = now


def _wait_for_ports(settings: Settings, stopping: threading.Event, *, seconds: float) -> None:
    """Raises ``InvalidSetting`` when a port is still taken after ``seconds``, the time that dying programs may need."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            preflight.check(settings)
        except InvalidInput:
            if time.monotonic() >= deadline or stopping.wait(0.2):
                raise
        else:
            return


def _wait_for_redis(settings: Settings, supervision: Supervision, stopping: threading.Event) -> None:
    if not settings.embedded_redis:
        return
    deadline = time.monotonic() + _READY_SECONDS
    while not _redis_answers(settings.redis_port) and not stopping.wait(0.05):
        failed = any(state.name == "redis" and state.state == "BACKOFF" for state in supervision.states() or [])
        if failed or time.monotonic() > deadline:
            raise Unavailable("the Redis-protocol server does not start", remedy=f"See {supervision.logs}/redis.log.")


def _redis_answers(port: int) -> bool:
    # A raw PING: a client would have to be told apart for each way in which a server is not ready yet.
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


def _wait_for_pages(settings: Settings, supervision: Supervision, stopping: threading.Event) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    for name, port, path in (("api", settings.port, "/readyz"), ("admin", settings.admin_port, "/healthz")):
        lives: set[int] = set()
        while not _answers(settings.host, port, path) and not stopping.wait(0.1):
            state = next((state for state in supervision.states() or [] if state.name == name), None)
            lives |= {state.pid} if state and state.pid else set()
            # It may have died once because a database was still starting; who dies again will not answer.
            dead = len(lives) > 1 and state is not None and state.state == "BACKOFF"
            if dead or time.monotonic() > deadline:
                raise Unavailable(f"the {name} does not start", remedy=f"See {supervision.logs / name}.log.")


def _say_whether_redis_is_away(settings: Settings, out: Console) -> None:
    if settings.embedded_redis:
        return
    try:
        with connect(settings, Db.BROKER) as broker:
            broker.ping()
    except RedisError as error:
        where = ", ".join(f"{host}:{port}" for host, port in parse_address(settings).hosts)
        out.print(f"Redis does not answer at {where} ({error}): tasks are kept and wait until it does.", markup=False)


def _announce(settings: Settings, folders: Folders, out: Console) -> None:
    flower = f"http://{settings.host}:{settings.flower_port}"
    out.print(
        f"\nSicargaBox is ready.\n"
        f"  Search       {settings.effective_public_url}/\n"
        f"  Staff pages  {settings.effective_admin_url}/admin/\n"
        f"  API          {settings.effective_public_url}/api/v1/docs\n"
        f"  Flower       {flower}/ (user {FLOWER_USER}, password in {flower_password_file(folders)})\n"
        f"  Figures      {settings.effective_public_url}/metrics; scheduler and workers on ports "
        f"{', '.join(str(port) for port in preflight.health_ports(settings))}\n"
        f"  Logs         {folders.logs}\n"
        f"Ctrl-C stops it.",
        markup=False,
    )


def _answers(host: str, port: int, path: str) -> bool:
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    connection = http.client.HTTPConnection(own, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
