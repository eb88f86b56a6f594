"""What each process takes while nothing happens, as the kernel charges it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from benchmarks.installation import megabytes
from benchmarks.report import Figure, within

GOALS_MB = {"api": 150.0, "indexer-worker": 130.0, "ai-worker": 130.0, "learning-worker": 250.0}


def measure(processes: Mapping[str, subprocess.Popen[bytes]]) -> list[Figure]:
    """A figure per process with its children."""
    figures = []
    for name, process in processes.items():
        size, goal = megabytes(process), GOALS_MB.get(name)
        figures.append(
            Figure(
                f"idle memory (PSS) of {name}",
                f"{size:.0f} MB",
                f"≤ {goal:g} MB" if goal else "",
                within(size, most=goal) if goal else None,
            )
        )
    return figures
