"""Reads labelled queries from a CSV as people have them: written by hand, by a program or by Excel in Honduras.

Knows nothing of what the queries are for. Every fault of a file is told at once, each with its line and what to do.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from sicargabox_core.errors import InvalidInput

FORM = "query,headings[,lang,kind]"
_SEPARATORS = ",;\t"
_TOLD = 20
_LONGEST_QUERY = 500
_CODE = re.compile(r"\d{4}(\d{2}){0,4}", re.ASCII)
_LOST_ZERO = re.compile(r"\d{3}(\d{2}){0,4}", re.ASCII)
_CHAPTERS = range(1, 98)


class LabelledRow(NamedTuple):
    """A row: ``headings`` are the first four digits of every code that was given."""

    query: str
    headings: frozenset[str]
    lang: str
    kind: str


def read_rows(path: Path) -> list[LabelledRow]:
    """The rows of the file, empty ones left out.

    Comma, semicolon or tab between columns; UTF-8 or UTF-16 with or without a mark, else Windows-1252; codes of 4 to 12
    digits with or without dots, between them ``|``, spaces, commas or semicolons. Raises ``InvalidInput`` naming every
    line that is not of this form (the first twenty).
    """
    # Lines end as in CSV, not wherever Unicode knows an end: a query may hold any of those.
    lines = list(io.StringIO(_text(path), newline=""))
    # Excel's own note of the separator.
    start = next((at for at, line in enumerate(lines) if line.strip() and not line.lower().startswith("sep=")), None)
    if start is None:
        raise InvalidInput(f"{path.name} is empty", field="set", remedy=f"Begin with the row {FORM}.")
    rows = _rows(path, lines[start:], start)
    line, first = next(rows)
    columns = [name.strip().lower() for name in first]
    if not {"query", "headings"} <= set(columns):
        raise InvalidInput(
            f"{path.name}, line {line}: the columns are {', '.join(filter(None, columns)) or 'none'}",
            field="set",
            remedy=f"Begin with the row {FORM}.",
        )
    return _checked(path, columns, rows)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field="set", remedy="Name a CSV.") from error
    # Excel in Spanish saves "CSV" in Windows' own encoding.
    encodings = ("utf-16",) if content.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise InvalidInput(f"{path.name} is not text", field="set", remedy='Save it as "CSV UTF-8".')


def _rows(path: Path, lines: Sequence[str], before: int) -> Iterator[tuple[int, list[str]]]:
    """Rows that hold anything, each with the line of the file in which it begins."""
    reader = csv.reader(lines, delimiter=max(_SEPARATORS, key=lines[0].count), strict=True)
    begins = before + 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begins, cells
            begins = before + reader.line_num + 1
    except csv.Error as error:
        raise InvalidInput(
            f"{path.name}, line {begins}: {error}", field="set", remedy="Close every quotation mark."
        ) from error


def _checked(path: Path, columns: Sequence[str], rows: Iterator[tuple[int, list[str]]]) -> list[LabelledRow]:
    good, faults = [], []
    for line, cells in rows:
        row = dict(zip_longest(columns, cells[: len(columns)], fillvalue=""))
        query = " ".join(row["query"].split())
        codes = [part.replace(".", "") for part in re.split(r"[\s,;|]+", row["headings"].strip("|,; \t"))]
        fault = _fault(query, codes, any(cell.strip() for cell in cells[len(columns) :]))
        if fault:
            faults.append(f"line {line}: {fault}")
        else:
            lang, kind = (row.get(name, "").strip() for name in ("lang", "kind"))
            good.append(LabelledRow(query, frozenset(code[:4] for code in codes), lang, kind))
    if faults:
        more = f"; and {len(faults) - _TOLD:,} more" if len(faults) > _TOLD else ""
        raise InvalidInput(
            f"{path.name}: {'; '.join(faults[:_TOLD])}{more}",
            field="set",
            remedy='Mend these lines; a row is like: audífonos,8518  or: zapatos,"6402,6403,6404".',
        )
    return good


def _fault(query: str, codes: Sequence[str], too_many: bool) -> str | None:
    if too_many:
        return "more cells than columns; put quotes around what holds the separator"
    if not query:
        return "no query"
    if len(query) > _LONGEST_QUERY:
        return f"a query of more than {_LONGEST_QUERY} letters"
    for code in codes:
        if not code:
            return "no headings; write four digits such as 8518"
        if not _CODE.fullmatch(code):
            if _LOST_ZERO.fullmatch(code):
                return f"{code} lacks a digit; write 0{code} if a program dropped the zero in front"
            return f"{code[:20]!r} is no heading; write four or six digits such as 8518 or 8518.30"
        if int(code[:2]) not in _CHAPTERS:
            return f"{code} is of no chapter; chapters are 01 to 97"
    return None
