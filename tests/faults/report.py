"""The table of ``docs/durability.md`` from any number of runs: ``python -m tests.faults.report FILE…``."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from tests.documents import put_between
from tests.faults.faults import all_faults
from tests.settings import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "durability.md"
BEGIN, END = "<!-- fault-table:begin -->", "<!-- fault-table:end -->"
# The account of a whole run at its end; its tasks are counted by the faults before it.
_WHOLE_RUN = "all"


def table(lines: list[dict[str, Any]]) -> str:
    """The table in Markdown, with totals and what must be known to read it."""
    by_fault: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        if line["fault"] != _WHOLE_RUN:
            by_fault[line["fault"]].append(line)
    order = {kind.name: number for number, kind in enumerate(all_faults())}
    rows = [f"| {' | '.join(_COLUMNS)} |", "|---|" + "--:|" * (len(_COLUMNS) - 1)]
    for name in sorted(by_fault, key=lambda name: order.get(name, len(order))):
        found = by_fault[name]
        sums = [str(sum(line[key] for line in found)) for key in _SUMMED]
        rows.append(
            f"| {found[-1]['title']} | {len(found)} | {' | '.join(sums)} "
            f"| {_spread(found, 'resume', 1)} | {_spread(found, 'accept_p99', 2)} |"
        )
    faults = [line for found in by_fault.values() for line in found]
    sums = [str(sum(line[key] for line in faults)) for key in _SUMMED]
    rows.append(f"| **all** | **{len(faults)}** | {' | '.join(f'**{one}**' for one in sums)} | | |")
    broken = sum(bool(line["breaches"]) for line in lines)
    accepted = sum(line["accepted"] for line in faults)
    notes = [
        f"{len(faults)} faults, {accepted} accepted tasks, {broken} trials in which a promise was broken.",
        _ERRORS,
    ]
    clocks = [f"{kind.title}: {kind.own_clock}." for kind in all_faults() if kind.own_clock and kind.name in by_fault]
    return "\n".join([*rows, "", " ".join([*notes, *clocks])])


_COLUMNS = (
    "fault",
    "times",
    "accepted",
    "lost",
    "effect not once",
    "executed twice",
    "doubled messages dropped",
    "errors",
    "work goes on after, s: median (most)",
    "accept p99, s: median (most)",
)
_ERRORS = (
    "“Errors” are answers other than 2xx and broken connections; each request was repeated with its key until it was "
    "accepted. They are a breach unless SQL or the API itself was away."
)
_SUMMED = ("accepted", "lost", "effects_wrong", "executed_twice", "suppressed", "errors")


def _spread(lines: list[dict[str, Any]], key: str, digits: int) -> str:
    values = [line[key] for line in lines if line[key] is not None]
    if not values:
        return "–"
    return f"{median(values):.{digits}f} ({max(values):.{digits}f})"


def write(files: list[Path], document: Path = DOCUMENT) -> str:
    """Puts the table between the two marks of the document; returns it. Raises ``ValueError`` without the marks."""
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    made = table(lines)
    put_between(document, BEGIN, END, made)
    return made


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m tests.faults.report FILE…")
    print(write([Path(name) for name in sys.argv[1:]]))
