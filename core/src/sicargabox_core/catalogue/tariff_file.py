"""Reading the official tariff's CSV: one row at a time, with every fault it is known to have mended or named.

It knows the file and nothing of the database. What is mended, and why it is safe:

- A code with stray spaces, dots or line breaks around its digits: the digits are the code.
- A code that a spreadsheet took for a date and stored as that day's number (``738065`` is 3920-10-01, written
  ``3920.10.1``): accepted only when the next row's code lies below the decoded one.
- A text broken over lines, leading dashes, a trailing colon: layout, not wording.
- ``#N/A`` in ``partida``: the row's own ``Descripcion`` is the wording.

Footnotes that slipped into the code column, suppressed lines and unreadable duties are given back as ``Rejected``.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from itertools import chain, pairwise
from pathlib import Path
from typing import TextIO

from sicargabox_core.catalogue.tariff import CODE_LENGTHS, LINE_LENGTH
from sicargabox_core.errors import InvalidInput

REQUIRED_COLUMNS = ("codigo", "descripcion", "dai", "isc", "ispc", "isv")
DUTIES = ("dai", "isc", "ispc", "isv")
# Day 0 of spreadsheets' date numbers (with their 1900 leap-year error, which matters for no date after it).
SPREADSHEET_EPOCH = date(1899, 12, 30)
_ABSENT = frozenset({"", "#N/A", "#N/D", "#REF!", "#VALUE!"})


@dataclass(frozen=True)
class FileRow:
    """A row that names a node. Duties are percent; ``None`` for groups. ``mended`` says what was wrong with it."""

    row: int
    code: str
    wording: str
    duties: tuple[Decimal, Decimal, Decimal, Decimal] | None
    mended: str | None = None


@dataclass(frozen=True)
class Rejected:
    """A row that is not taken. ``code``: digits when they are readable. ``known``: the line exists, its data does not
    read, so what the catalogue has of it must stay as it is."""

    row: int
    raw_code: str
    reason: str
    code: str | None = None
    known: bool = False


@dataclass(frozen=True)
class _Raw:
    row: int
    cells: dict[str, str]
    fault: str | None = None


def read_tariff(path: Path) -> Iterator[FileRow | Rejected]:
    """The rows of the table at ``path``, in its order. Row numbers count data rows from 1.

    Raises ``InvalidInput`` (field ``file``) when it cannot be read, is not UTF-8 or lacks a column.
    """
    raws = _raw_rows(path)
    first = next(raws, None)
    if first is None:
        return
    for raw, following in pairwise(_with_end(first, raws)):
        if raw is not None:
            yield _interpret(raw, following)


def _with_end(first: _Raw, rest: Iterator[_Raw]) -> Iterator[_Raw | None]:
    yield first
    yield from rest
    yield None


def _raw_rows(path: Path) -> Iterator[_Raw]:
    with open_table(path) as handle:
        columns, reader = read_header(path, handle, REQUIRED_COLUMNS)
        number = 0
        try:
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                number += 1
                fault = None
                if len(cells) < len(columns) or any(cell.strip() for cell in cells[len(columns) :]):
                    fault = f"has {len(cells)} cells where the header has {len(columns)}"
                yield _Raw(number, dict(zip(columns, cells, strict=False)), fault)
        except (csv.Error, UnicodeDecodeError) as error:
            raise unreadable(path, f"after row {number}: {error}") from error


def open_table(path: Path) -> TextIO:
    """Opens a CSV file as UTF-8, with or without a byte order mark. Raises ``InvalidInput``."""
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise InvalidInput(
            f"{path.name} cannot be read ({error.strerror})", field="file", remedy="Check its path and rights."
        ) from error


def unreadable(path: Path, detail: str) -> InvalidInput:
    """The error for a file that is not UTF-8 CSV all through."""
    return InvalidInput(
        f"{path.name} is not a readable CSV, {detail}",
        field="file",
        remedy="Save it as “CSV UTF-8” (comma delimited) and import it again; nothing was changed.",
    )


def read_header(path: Path, handle: TextIO, required: tuple[str, ...]) -> tuple[list[str], Iterator[list[str]]]:
    """The columns' names (lower case, without accents) and the reader standing behind the header.

    Raises ``InvalidInput`` naming the columns that are missing.
    """
    try:
        # Nothing is read twice: the file may be a pipe.
        line = handle.readline()
        # Spreadsheets of Spanish-speaking countries separate by semicolons.
        reader = csv.reader(
            chain([line], handle), delimiter=";" if line.count(";") > line.count(",") else ",", strict=True
        )
        header = next(reader, [])
    except (csv.Error, UnicodeDecodeError) as error:
        raise unreadable(path, f"in its header: {error}") from error
    columns = [_column_name(cell) for cell in header]
    missing = [name for name in required if name not in columns]
    if missing:
        raise InvalidInput(
            f"{path.name} is not such a table: it lacks the columns {', '.join(missing)}",
            field="file",
            remedy=f"Its first line must name {', '.join(required)}; nothing was changed.",
        )
    return columns, reader


def _column_name(cell: str) -> str:
    decomposed = unicodedata.normalize("NFKD", cell.strip().casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _interpret(raw: _Raw, following: _Raw | None) -> FileRow | Rejected:
    raw_code = raw.cells.get("codigo", "")
    shown = " ".join(raw_code.split())
    if raw.fault:
        return Rejected(raw.row, shown, f"the row {raw.fault}")
    code, mended = _read_code(raw_code, following)
    if code is None:
        digits = re.sub(r"\D", "", raw_code)
        if len(digits) == 11 and re.fullmatch(r"[\d.\s]+", raw_code):
            # The lost digit is an ordinal that only the official gazette can tell.
            return Rejected(raw.row, shown, "a digit of the code is missing and the file does not say which")
        return Rejected(raw.row, shown, "the code column holds no code")
    wording = clean_wording(raw.cells)
    if not wording:
        return Rejected(raw.row, shown, "it has no wording", code=code, known=True)
    if re.search(r"\bsuprimid[ao]s?\b", wording.casefold()):
        return Rejected(raw.row, shown, "the file marks it as suppressed", code=code)
    if len(code) < LINE_LENGTH and not _lost_last_digit(raw_code):
        return FileRow(raw.row, code, wording, None, mended)
    try:
        dai, isc, ispc, isv = (_percent(name, raw.cells.get(name, "")) for name in DUTIES)
    except ValueError as error:
        return Rejected(raw.row, shown, str(error), code=code, known=True)
    return FileRow(raw.row, code, wording, (dai, isc, ispc, isv), mended)


def _lost_last_digit(raw_code: str) -> bool:
    # Rates are read for it too: it may turn out to be a line (see tariff_workbench).
    return bool(re.fullmatch(r"\d{4}\.\d\d\.\d\d\.0", raw_code.strip()))


def _read_code(raw: str, following: _Raw | None) -> tuple[str | None, str | None]:
    """The digits and what was mended; ``None`` when there is no code in it."""
    text = raw.strip()
    code = _plain_code(text)
    if code is not None:
        return code, None
    code = _plain_code(re.sub(r"\s+", "", text).strip("."))
    if code is not None:
        return code, "stray characters around the code"
    if re.fullmatch(r"\d{3,7}", text) and following is not None:
        day = _spreadsheet_day(int(text))
        below, _ = _read_code(following.cells.get("codigo", ""), None)
        if day is not None and below is not None and below.startswith(day) and len(below) > len(day):
            return day, f"a spreadsheet had turned the code into the date number {text}"
    return None, None


def _plain_code(text: str) -> str | None:
    if not re.fullmatch(r"\d{2}|\d{4}(\.\d\d)*(\.\d)?|\d{10}|\d{12}", text):
        return None
    digits = text.replace(".", "")
    return digits if len(digits) in CODE_LENGTHS else None


def _spreadsheet_day(number: int) -> str | None:
    try:
        day = SPREADSHEET_EPOCH + timedelta(days=number)
    except OverflowError:
        return None
    # 3920.10.1 was read as the first of October 3920: two digits of month, and of the day no leading zero.
    return f"{day.year:04d}{day.month:02d}{day.day}"


def clean_wording(cells: dict[str, str]) -> str:
    """The wording of a row in one line, without layout. ``partida`` is preferred: headings are in lower case there."""
    first_of_chain = cells.get("partida", "").split(" | ")[0].strip()
    text = cells.get("descripcion", "") if first_of_chain in _ABSENT else first_of_chain
    if text.strip() in _ABSENT:
        return ""
    # A hyphen at a line's end belongs to the word (chemical names, CAS numbers); other breaks are spaces.
    text = re.sub(r"(?<=\w)-[ \t]*\r?\n\s*(?=\w)", "-", text)
    text = " ".join(text.split()).lstrip("-– ").rstrip(": ")
    return _sentence_case(text) if _in_capitals(text) else text


def _in_capitals(text: str) -> bool:
    # Some headings in capitals hold a few small letters ("partidas 93.03 o 93.04", "cm2"), so a share decides.
    letters = [character for character in text if character.isalpha()]
    return len(letters) > 3 and sum(map(str.isupper, letters)) > 0.7 * len(letters)


def _sentence_case(text: str) -> str:
    lowered = re.sub(r"\w+", lambda word: word[0] if re.fullmatch(r"[IVX]{2,}", word[0]) else word[0].lower(), text)
    start = re.search(r"\w", lowered)
    if start is None:
        return lowered
    return lowered[: start.start()] + start[0].upper() + lowered[start.end() :]


def _percent(name: str, cell: str) -> Decimal:
    """A duty as percent; the file holds fractions (0.15 is 15 %). Raises ``ValueError`` saying what is wrong."""
    text = cell.strip()
    try:
        if text.endswith("%"):
            value = Decimal(text[:-1].strip().replace(",", "."))
        else:
            value = Decimal(text.replace(",", ".")) * 100
    except InvalidOperation as error:
        raise ValueError(f"{name} is {text[:20]!r}, not a number") from error
    if not value.is_finite() or not 0 <= value <= 100:
        raise ValueError(f"{name} is {text[:20]!r}, not a fraction from 0 to 1")
    return value.quantize(Decimal("0.0001"))
