"""What cluster tests measure: a line of JSON for each figure, and the tables of ``docs/kubernetes.md`` made of them.

A figure counts only when its test has passed. ``python -m tests.kubernetes.figures FILE…`` writes the tables of any
number of runs.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tests.documents import put_between
from tests.settings import REPOSITORY, machine

DOCUMENT = REPOSITORY / "docs" / "kubernetes.md"
BEGIN, END = "<!-- cluster-table:begin -->", "<!-- cluster-table:end -->"
# Of the installation whose workers come and go, so that a test does not take as long as a quiet evening.
COOLDOWN_SECONDS = 15
# A law's figure is told as a sum: what counts is that it stays 0 over all runs.
COUNTED = ("accepted", "lost", "finished twice", "begun again", "API requests", "errors")
_ERRORS = "errors, %"


@dataclass(frozen=True)
class Table:
    """``columns`` in their order, ``first`` the name of the rows'; ``said`` stands above it."""

    said: str
    first: str
    columns: tuple[str, ...]


TABLES: Mapping[str, Table] = {
    "faults": Table(
        "**Faults and operations.** Over: when what stands in brackets was so. Next task: when one ended that a worker "
        "took after that. Both from the order on. Accepted, and what became of it: all that the API took from before "
        "the fault until after it. Begun again is no fault: a task that was given back begins anew.",
        "fault or operation (over when)",
        ("over, s", "next task, s", *COUNTED, _ERRORS),
    ),
    "scaling": Table(
        f"**Scaling by KEDA**, which asks every 5 s, with {COOLDOWN_SECONDS} s of cooldown and of stabilisation. "
        "0→1: from the first request to a worker that is ready; 0→N: to N that are; N→0: from the last task's end "
        "until none is there. One task: from its acceptance, with no worker, to its end; 1→0 as N→0.",
        "queue",
        ("0→1, s", "N", "0→N, s", "N→0, s", "one task, s", "1→0, s"),
    ),
    "install": Table(
        "**Installing**, the images loaded, with `--wait`.",
        "what",
        ("seconds",),
    ),
    "memory": Table(
        "**Memory** of a pod that has nothing to do, beside what it asks for and what it may have.",
        "pod",
        ("idle, MiB", "request, MiB", "limit, MiB"),
    ),
}


@dataclass(frozen=True)
class Figure:
    """A value of a cell: seconds, MiB or a number of things, as its column says."""

    table: str
    row: str
    column: str
    value: float

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.table}: {self.row}: {self.column}: {shown(self.value)}"


class Figures:
    """``told`` is what passed tests have told; the settings may name a file to which each is added."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or machine().cluster_figures
        self._held: list[Figure] = []
        self.told: list[Figure] = []

    def note(self, table: str, row: str, column: str, value: float) -> None:
        """Holds a figure back until its test has passed. Raises ``KeyError`` for a cell that no table has."""
        if column not in TABLES[table].columns:
            raise KeyError(f"the table {table} has no column {column}")
        self._held.append(Figure(table, row, column, round(value, 3)))

    def passed(self) -> None:
        """Tells what was held back."""
        self.told += self._held
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as lines:
                lines.writelines(json.dumps(asdict(figure), ensure_ascii=False) + "\n" for figure in self._held)
        self._held = []

    def failed(self) -> None:
        """Forgets what was held back."""
        self._held = []


def tables(figures: Sequence[Figure]) -> str:
    """All tables in Markdown, rows in the order in which they were first told."""
    parts = []
    for name, made in TABLES.items():
        cells: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for one in figures:
            if one.table == name:
                cells[one.row][one.column].append(one.value)
        lines = [f"| {' | '.join((made.first, *made.columns))} |", f"|---|{'--:|' * len(made.columns)}"]
        for row, found in cells.items():
            lines.append(f"| {' | '.join((row, *(_cell(column, found) for column in made.columns)))} |")
        parts.append("\n".join((made.said, "", *lines)))
    return "\n\n".join(parts)


def _cell(column: str, found: Mapping[str, list[float]]) -> str:
    if column == _ERRORS and "API requests" in found:
        rate = 100 * sum(found.get("errors", ())) / max(1, sum(found["API requests"]))
        return shown(round(rate, 3), places=3)
    values = found.get(column)
    if not values:
        return "–"
    if column in COUNTED:
        return shown(sum(values))
    spread = f" ({shown(min(values))} to {shown(max(values))})" if len(values) > 1 else ""
    return shown(median(values)) + spread


def shown(value: float, places: int = 1) -> str:
    """A number as the tables have it: no more than a hundred's part is lost, and only zero is 0."""
    if value == round(value) or value >= 100:
        return f"{value:.0f}"
    least: float = 10**-places
    return f"{value:.{places}f}" if value >= least / 2 else f"<{least}"


def read(files: Sequence[Path]) -> list[Figure]:
    """What runs have told. Raises ``ValueError`` where a table would have no row: that was not the whole suite."""
    found = [Figure(**json.loads(line)) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    if missing := TABLES.keys() - {one.table for one in found}:
        raise ValueError(f"nothing was measured for {', '.join(sorted(missing))}: run every cluster test")
    return found


def write(files: Sequence[Path], document: Path = DOCUMENT) -> str:
    """Puts the tables between the two marks of the document; returns them. Raises ``ValueError``, see ``read``."""
    made = tables(read(files))
    put_between(document, BEGIN, END, made)
    return made


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m tests.kubernetes.figures FILE…")
    try:
        print(write([Path(name) for name in sys.argv[1:]]))
    except ValueError as error:
        sys.exit(f"{DOCUMENT.name} was left as it is: {error}")
