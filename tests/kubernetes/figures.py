"""What cluster tests measure: a line of JSON for each figure, and the table of ``docs/kubernetes.md`` made of them.

``python -m tests.kubernetes.figures FILE…`` writes the table of any number of runs.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tests.documents import put_between
from tests.settings import REPOSITORY, machine

DOCUMENT = REPOSITORY / "docs" / "kubernetes.md"
BEGIN, END = "<!-- cluster-table:begin -->", "<!-- cluster-table:end -->"
# A law's figure is told as a sum: what counts is that it stays 0 over all runs.
COUNTED = "tasks"


@dataclass(frozen=True)
class Figure:
    """``what`` was measured in ``of`` (a row's first words); ``unit`` is s, MiB, % or tasks."""

    of: str
    what: str
    value: float
    unit: str = "s"

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.of}: {self.what}: {_number(self.value)} {self.unit}"


class Figures:
    """``told`` is shown at the end of the run; the settings may name a file to which each is added."""

    def __init__(self) -> None:
        self.told: list[Figure] = []

    def note(self, of: str, what: str, value: float, unit: str = "s") -> None:
        """Tells a figure."""
        figure = Figure(of, what, round(value, 2), unit)
        self.told.append(figure)
        if (file := machine().cluster_figures) is not None:
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(figure)) + "\n")


def table(figures: list[Figure]) -> str:
    """The table in Markdown, in the order in which they were first told."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for one in figures:
        found[one.of, one.what, one.unit].append(one.value)
    rows = ["| where | what | times | median | least to most | |", "|---|---|--:|--:|--:|---|"]
    for (of, what, unit), values in found.items():
        middle = f"{_number(sum(values))} in all" if unit == COUNTED else _number(median(values))
        spread = f"{_number(min(values))} to {_number(max(values))}" if len(values) > 1 else ""
        rows.append(f"| {of} | {what} | {len(values)} | {middle} | {spread} | {unit} |")
    return "\n".join(rows)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) or value >= 100 else f"{value:.1f}"


def write(files: list[Path], document: Path = DOCUMENT) -> str:
    """Puts the table between the two marks of the document; returns it. Raises ``ValueError`` without the marks."""
    made = table([Figure(**json.loads(line)) for file in files for line in file.read_text().splitlines()])
    put_between(document, BEGIN, END, made)
    return made


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m tests.kubernetes.figures FILE…")
    print(write([Path(name) for name in sys.argv[1:]]))
