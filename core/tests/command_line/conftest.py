"""A command line on a migrated, empty database of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from core.tests.command_line.commands import CommandLine

from sicargabox_core.db import Database


@pytest.fixture
def line(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    """The command line of the operating system's user `tester`, with a Redis that does not answer."""
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "tester")
    yield CommandLine(database, tmp_path)
    structlog.reset_defaults()
