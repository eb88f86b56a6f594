"""How a benchmark names the machine and prints its figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Figure(NamedTuple):
    """One row: what was measured, its value with unit, the goal it is compared with (empty: none), and whether met."""

    what: str
    value: str
    goal: str = ""
    met: bool | None = None


def within(value: float, *, least: float = float("-inf"), most: float = float("inf")) -> bool:
    """Whether a value meets its goal."""
    return least <= value <= most


def machine() -> str:
    """Processor, cores, memory, system and Python, for the line above the figures."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    kilobytes = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    load = os.getloadavg()[0]
    memory = f", {kilobytes / 2**20:.0f} GB" if kilobytes else ""
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{cpu}, {os.cpu_count()} cores{memory}, {system}, load {load:.1f}"


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def show(title: str, figures: Sequence[Figure], *, ratio: str = "", note: str = "") -> None:
    """Prints the machine, the table with each goal met (ok) or missed (short), and what is to be said below it."""
    out = Console(highlight=False, width=150)
    table = Table("figure", "measured", "goal", "", title=title, title_justify="left")
    for figure in figures:
        verdict = {True: "ok", False: "short", None: ""}[figure.met]
        table.add_row(figure.what, figure.value, figure.goal, verdict)
    out.print(machine())
    out.print(table)
    if ratio:
        out.print(f"ratio: {ratio}")
    out.print(note)


def spread(values: Sequence[float], unit: str = "", *, digits: int = 0) -> str:
    """The median, and the least and the most in brackets when there are several rounds."""
    middle = f"{median(values):.{digits}f}{unit}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def markdown(figures: Sequence[Figure]) -> str:
    """A table for a document, with the verdict in words."""
    verdict = {True: "met", False: "**missed**", None: ""}
    rows = [f"| {one.what} | {one.value} | {one.goal} | {verdict[one.met]} |" for one in figures]
    return "\n".join(["| figure | measured | goal | verdict |", "|---|---|---|---|", *rows])
