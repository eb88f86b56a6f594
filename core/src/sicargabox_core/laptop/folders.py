"""Where `sicargabox run` keeps its own things inside the data folder, and how it writes secrets."""

from __future__ import annotations

import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """Absolute paths; ``make()`` creates them, readable by their owner alone."""

    data: Path

    @classmethod
    def of(cls, data_dir: Path) -> Folders:
        """The folders inside ``data_dir``."""
        return cls(data_dir.absolute())

    @property
    def run(self) -> Path:
        """Configuration, socket, lock and secrets of the running processes."""
        return self.data / "run"

    @property
    def logs(self) -> Path:
        """One log file per process, rotated."""
        return self.data / "logs"

    @property
    def redis(self) -> Path:
        """RDB and AOF of the embedded Redis-protocol server."""
        return self.data / "redis"

    @property
    def lock(self) -> Path:
        """Locked, with its process id in it, by the `sicargabox run` that uses the folder."""
        return self.run / "lock"

    def make(self) -> None:
        """Creates what is missing. Raises ``OSError`` when that cannot be done."""
        for folder in (self.data, self.run, self.logs, self.redis):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def holder(folders: Folders) -> int | None:
    """The process id of the `sicargabox run` that uses the data folder now; None without one."""
    try:
        with folders.lock.open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = lock.read().strip()
                return int(text) if text.isdigit() else 0
    except OSError:
        return None
    return None


def kept_secret(path: Path) -> str:
    """The secret kept in ``path`` (mode 0600), generated on first use."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    secret = secrets.token_urlsafe(18)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret + "\n")
    return secret


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
