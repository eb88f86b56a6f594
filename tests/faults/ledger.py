"""Append-only files outside SQL: what was really executed, and what the client was really answered.

A line is on the disk before the writer goes on, so a process that is killed in the next moment has not forgotten it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def append(path: Path, *lines: dict[str, Any]) -> None:
    """Adds lines as one write, which other writers of the file cannot split, and waits for the disk."""
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Reader:
    """Reads what was added since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def fresh(self) -> Iterator[dict[str, Any]]:
        """The whole lines since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            yield json.loads(line)
