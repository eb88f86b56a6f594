"""Writes made-up tariff tables in the official file's form."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

COLUMNS = ("No", "Codigo", "Descripcion", "dai", "isc", "ispc", "isv", "nivel", "nivel-padre", "padre", "partida")


def row(code: str, wording: str, dai: str = "0.15", isv: str = "0.15", *, chain: str = "#N/A") -> list[str]:
    """One row; what the importer does not read is left empty."""
    return ["", code, wording, dai, "0.00", "0.00", isv, "", "", "", chain]


def write_table(path: Path, rows: Iterable[list[str]], *, columns: tuple[str, ...] = COLUMNS) -> Path:
    """Writes the header and the rows, and gives the path back."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def big_table(lines: int) -> Iterator[list[str]]:
    """A tariff of any length: headings of ten lines each."""
    for number in range(lines // 10):
        heading = f"{1000 + number % 9000:04d}"
        group = f"{number // 9000:02d}"
        if number < 9000:
            yield row(heading, f"MADE-UP GOODS {number}")
        for line in range(10):
            yield row(
                f"{heading}.{group}.{line:02d}.00", f"- Goods {number} of kind {line}, with a wording of usual length"
            )
