"""This machine: Python, the settings' names, the data folder, ports, who may read secrets."""

from __future__ import annotations

import os
import platform
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping

from sicargabox_core.doctor.findings import Finding, fault, ok, warning
from sicargabox_core.errors import InvalidSetting
from sicargabox_core.laptop import preflight
from sicargabox_core.laptop.folders import Folders, holder
from sicargabox_core.settings import ENV_PREFIX, Settings, misspelt

_LEAST_PYTHON = (3, 11)


def python() -> Iterator[Finding]:
    """The interpreter's version."""
    found = platform.python_version()
    if sys.version_info < _LEAST_PYTHON:
        yield fault("python", f"{found} is too old", "Install Python 3.11 or newer and run `make setup`.")
    else:
        yield ok("python", f"{platform.python_implementation()} {found}, {platform.system()} {platform.machine()}")


def unknown_variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    """SICARGABOX_… variables that no setting reads: most are typing errors, and silently without effect."""
    strange = misspelt(environment)
    if not strange:
        yield ok("variables", f"every {ENV_PREFIX}… variable is a setting")
    for name, near in strange.items():
        remedy = f"Did you mean {near}?" if near else "Unset it; docs/reference.md lists the settings."
        yield warning("variables", f"{name} is no setting and has no effect", remedy)


def data_folder(settings: Settings) -> Iterator[Finding]:
    """Whether the data folder can be written, or made where it does not exist yet."""
    folder = settings.data_dir.absolute()
    place = folder
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield fault(
            "data folder",
            f"{place} cannot be written ({error.strerror})",
            f"Give the user {os.geteuid()} the right to, or set {ENV_PREFIX}DATA_DIR.",
        )
        return
    if place is not folder:
        yield ok("data folder", f"{folder} will be made")
        return
    yield ok("data folder", f"{folder} can be written")


def ports(settings: Settings) -> Iterator[Finding]:
    """Whether our ports are free, or held by our own `sicargabox run`."""
    if settings.environment == "production":
        # Each process has an address of its own there.
        return
    process = holder(Folders.of(settings.data_dir))
    for name, port in preflight.ports(settings).items():
        check = f"port {port}"
        try:
            preflight.check_port(settings.host if name != "REDIS_PORT" else "127.0.0.1", port, preflight.variable(name))
        except InvalidSetting as error:
            if process is not None:
                yield ok(check, f"{ENV_PREFIX}{name}, in use while `sicargabox run` (process {process}) runs")
            else:
                yield fault(check, error.fault, error.remedy or "Choose another.")
        else:
            yield ok(check, f"{ENV_PREFIX}{name}, free")


def secrets(settings: Settings) -> Iterator[Finding]:
    """Files of the data folder that hold secrets or people's data: readable by their owner alone."""
    folders = Folders.of(settings.data_dir)
    names = ("secret.key", "run/flower-password", "run/flower.py", "run/redis.conf", "run/supervisord.conf")
    paths = [folders.data / name for name in names]
    present = [path for path in paths if path.exists()]
    open_to_others = [path for path in present if stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in open_to_others:
        mode = stat.S_IMODE(path.stat().st_mode)
        yield fault("secrets", f"{path} can be read by others (mode {mode:04o})", f"chmod 600 {path}")
    if not open_to_others:
        yield ok("secrets", f"{len(present)} files, readable by their owner alone")
