"""Shows what was measured at the end of the run, passed or not: pytest keeps a passed test's own output to itself."""

from __future__ import annotations

import pytest

from tests.faults.told import TOLD


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is told yet."""
    config.stash[TOLD] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line for each fault."""
    if config.stash[TOLD]:
        terminalreporter.section("faults")
        for line in config.stash[TOLD]:
            terminalreporter.write_line(line)
