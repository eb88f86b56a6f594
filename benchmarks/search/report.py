"""The figures of docs/search-engines.md from the files of runs: ``python -m benchmarks.search.report FILE…``.

A figure that a later file has too is the later file's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.search.measured import Measured, Run
from tests.documents import put_between
from tests.settings import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "search-engines.md"
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"
TITLES = {
    "rebuild": "Rebuild",
    "made-up": "Made-up tariffs",
    "http": "Searches over HTTP",
    "during-rebuild": "Searches during rebuilds",
    "ranker": "Our ranker beside the engine's own order",
    "degraded": "A frozen Elasticsearch: answers from SQL",
}
_VERDICTS = {True: " (met)", False: " (**missed**)", None: ""}


def table(runs: Sequence[Run]) -> str:
    """A table for each section, a column for each engine, in Markdown."""
    engines = list(dict.fromkeys(engine for run in runs for engine in run.versions))
    figures = {(one.section, one.what, one.engine): one for run in runs for one in run.figures}
    parts = [_measured_on(run) for run in runs]
    for section, title in TITLES.items():
        rows = dict.fromkeys(what for found, what, _ in figures if found == section)
        if not rows:
            continue
        lines = [f"### {title}", "", f"| | goal | {' | '.join(engines)} |", "|---|---|" + "---|" * len(engines)]
        for what in rows:
            cells = [figures.get((section, what, engine)) for engine in engines]
            goal = next((cell.goal for cell in cells if cell and cell.goal), "")
            lines.append(f"| {what} | {goal} | {' | '.join(_cell(cell) for cell in cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(figure: Measured | None) -> str:
    return "–" if figure is None else f"{figure.value}{_VERDICTS[figure.met]}"


def _measured_on(run: Run) -> str:
    versions = "; ".join(f"{name} {version}" for name, version in run.versions.items())
    sections = ", ".join(run.seconds)
    return (
        f"{run.machine}. {versions}. {run.when}, rounds: {run.rounds}, median (least to most); "
        f"{run.catalogue}; {sum(run.seconds.values()):.0f} s for {sections}."
    )


def write(files: Sequence[Path], document: Path = DOCUMENT) -> str:
    """Puts the tables between the two marks of the document; returns them. Raises ``ValueError`` without the marks."""
    made = table([Run.read(file) for file in files])
    put_between(document, BEGIN, END, made)
    return made


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.search.report FILE…")
    print(write([Path(name) for name in sys.argv[1:]]))
