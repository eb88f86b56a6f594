"""Building the tariff's tree from a file's rows, in a private SQLite file outside the catalogue.

Why a file: the memory used does not grow with the table. Why not the catalogue's database: checking and mending take
seconds, and on SQLite the one writer's place must not be held so long (running tasks could not renew their leases).
"""

from __future__ import annotations

import csv
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Literal

from sicargabox_core.catalogue.models import Level
from sicargabox_core.catalogue.tariff import LINE_LENGTH, level_of
from sicargabox_core.catalogue.tariff_file import FileRow, open_table, read_header, unreadable

# What only the whole table shows.
Finding = Literal["mended", "rejected", "missing"]
ENGLISH_COLUMNS = ("hscode", "description")


@dataclass(frozen=True)
class Title:
    """Our own short name of a chapter, or of a heading that the official file forgets."""

    es: str
    en: str


@dataclass(frozen=True)
class Node:
    """A node of the new tree, complete but for the courier category."""

    code: str
    level: Level
    parent_code: str | None
    position: int
    description_es: str
    description_en: str | None
    declarable: bool
    duties: tuple[Decimal, Decimal, Decimal, Decimal] | None
    derived: str | None


@dataclass(frozen=True)
class Note:
    """Something the report must say about one row (0: a row that the file does not have)."""

    row: int
    code: str
    reason: str


@lru_cache
def own_titles() -> dict[str, Title]:
    """Our own titles by code (2 or 4 digits)."""
    with resources.files(__package__).joinpath("own_titles.csv").open(encoding="utf-8") as handle:
        return {row["code"]: Title(row["title_es"], row["title_en"]) for row in csv.DictReader(handle)}


class Workbench:
    """Put rows on it, ``finish``, then read the tree in the order of codes. A context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sicargabox-import-")
        self._db = sqlite3.connect(Path(self._folder.name) / "rows.db", isolation_level=None)
        # A private file that is thrown away: nothing of it must survive a crash.
        self._db.executescript(
            """
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -4096;
            CREATE TABLE nodes (
                code TEXT PRIMARY KEY, row INTEGER, wording TEXT, dai TEXT, isc TEXT, ispc TEXT, isv TEXT, derived TEXT
            ) WITHOUT ROWID;
            CREATE TABLE untouched (code TEXT PRIMARY KEY) WITHOUT ROWID;
            CREATE TABLE english (code TEXT PRIMARY KEY, wording TEXT) WITHOUT ROWID;
            BEGIN;
            """
        )
        self.has_english = False

    def __enter__(self) -> Workbench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
        self._folder.cleanup()

    def add(self, row: FileRow) -> int | None:
        """Puts a row down; gives the number of the earlier row when one had the same code (the earlier one stays)."""
        duties = row.duties or (None, None, None, None)
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (row.code, row.row, row.wording, *(None if duty is None else str(duty) for duty in duties)),
        )
        if cursor.rowcount:
            return None
        earlier: int = self._db.execute("SELECT row FROM nodes WHERE code = ?", (row.code,)).fetchone()[0]
        return earlier

    def leave_untouched(self, code: str) -> None:
        """The catalogue's node of this code is to stay as it is: the file names it, but its data does not read."""
        self._db.execute("INSERT OR IGNORE INTO untouched VALUES (?)", (code,))

    def is_untouched(self, code: str) -> bool:
        """Whether ``leave_untouched`` was said of it and no readable row came after all."""
        return self._db.execute("SELECT 1 FROM untouched WHERE code = ?", (code,)).fetchone() is not None

    def add_english(self, path: Path) -> None:
        """Puts down the English wording of chapters, headings and subheadings. Raises ``InvalidInput``."""
        with open_table(path) as handle:
            columns, reader = read_header(path, handle, ENGLISH_COLUMNS)
            try:
                for cells in reader:
                    row = dict(zip(columns, cells, strict=False))
                    code, wording = row.get("hscode", "").strip(), " ".join(row.get("description", "").split())
                    if code.isdecimal() and len(code) in (2, 4, 6) and wording:
                        self._db.execute("INSERT OR IGNORE INTO english VALUES (?, ?)", (code, wording))
            except (csv.Error, UnicodeDecodeError) as error:
                raise unreadable(path, str(error)) from error
        self.has_english = True

    def finish(self) -> Iterator[tuple[Finding, Note]]:
        """Mends what only the whole table shows; gives each finding."""
        yield from self._restore_last_digits()
        yield from self._restore_subheadings()
        yield from self._drop_empty_groups()
        self._add_missing_parents()
        if self.has_english:
            # Chapters 98 and 99 are for national use; every other heading of the HS should have a line.
            for code, wording in self._db.execute(
                "SELECT code, wording FROM english e WHERE length(code) = 4 AND code < '98'"
                " AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.code = e.code)"
            ):
                yield "missing", Note(0, code, f"the file has no line of this heading ({wording[:120]})")

    def _restore_last_digits(self) -> Iterator[tuple[Finding, Note]]:
        # 2934.92.00.0 carries rates and nothing lies below it: a line whose last zero is gone.
        for code, row in self._db.execute(
            "SELECT code, row FROM nodes g WHERE length(code) = 9 AND code LIKE '%000' AND dai IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.code > g.code AND n.code < g.code || ':')"
        ).fetchall():
            self._db.execute("UPDATE nodes SET code = code || '0' WHERE code = ?", (code,))
            yield "mended", Note(row, code + "0", "the last digit of the code was missing")
        self._db.execute("UPDATE nodes SET dai = NULL, isc = NULL, ispc = NULL, isv = NULL WHERE length(code) < 10")

    def _restore_subheadings(self) -> Iterator[tuple[Finding, Note]]:
        # 0102.9 above nothing but 0102.90.…: subheading 0102.90, whose zero a spreadsheet took for a decimal's.
        for code, row in self._db.execute(
            "SELECT code, row FROM nodes g WHERE length(code) = 5"
            " AND EXISTS (SELECT 1 FROM nodes n WHERE n.code > g.code || '0' AND n.code < g.code || '0:')"
            " AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.code = g.code || '0')"
            " AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.code > g.code AND n.code < g.code || ':'"
            "                 AND substr(n.code, 6, 1) <> '0')"
        ).fetchall():
            self._db.execute("UPDATE nodes SET code = code || '0' WHERE code = ?", (code,))
            yield "mended", Note(row, code + "0", "the subheading's last zero was missing")

    def _drop_empty_groups(self) -> Iterator[tuple[Finding, Note]]:
        for code, row in self._db.execute(
            "SELECT code, row FROM nodes g WHERE length(code) < ? AND NOT EXISTS ("
            " SELECT 1 FROM nodes n WHERE n.code > g.code AND n.code < g.code || ':' AND length(n.code) >= ?)",
            (LINE_LENGTH, LINE_LENGTH),
        ).fetchall():
            self._db.execute("DELETE FROM nodes WHERE code = ?", (code,))
            yield "rejected", Note(row, code, "a group without any line below it")

    def _add_missing_parents(self) -> None:
        for length in (4, 2):
            orphans = self._db.execute(
                "SELECT substr(code, 1, ?) AS parent, min(row), count(*) FROM nodes WHERE length(code) > ?"
                " GROUP BY parent HAVING NOT EXISTS (SELECT 1 FROM nodes p WHERE p.code = parent)",
                (length, length),
            ).fetchall()
            for parent, row, _ in orphans:
                wording, derived = self._derive_wording(parent)
                self._db.execute(
                    "INSERT INTO nodes VALUES (?, ?, ?, NULL, NULL, NULL, NULL, ?)", (parent, row, wording, derived)
                )

    def _derive_wording(self, parent: str) -> tuple[str, str]:
        title = own_titles().get(parent)
        if title is not None:
            return title.es, "the file has no row of it; our own title"
        # The nearest nodes below: those that have no other node between themselves and the parent.
        below = [
            wording
            for (wording,) in self._db.execute(
                "SELECT wording FROM nodes c WHERE c.code > :p AND c.code < :p || ':' AND NOT EXISTS ("
                " SELECT 1 FROM nodes m WHERE m.code > :p AND m.code < c.code AND c.code LIKE m.code || '%')"
                " ORDER BY code LIMIT 12",
                {"p": parent},
            )
        ]
        return "; ".join(dict.fromkeys(below))[:500], "the file has no row of it; made from the lines below"

    def count(self) -> int:
        """Nodes on the bench."""
        total: int = self._db.execute("SELECT count(*) FROM nodes").fetchone()[0]
        return total

    def nodes(self) -> Iterator[Node]:
        """The whole tree in the order of codes, parents before children."""
        above: list[str] = []
        waiting: tuple[str, int, str, str | None, str | None, str | None, str | None, str | None, str | None] | None
        waiting = None
        rows = self._db.execute(
            "SELECT n.code, n.row, n.wording, n.dai, n.isc, n.ispc, n.isv, n.derived, e.wording FROM nodes n"
            " LEFT JOIN english e ON e.code = CASE WHEN length(n.code) = 5 THEN '' ELSE substr(n.code, 1, 6) END"
            " ORDER BY n.code"
        )
        for row in rows:
            if waiting is not None:
                yield self._node(waiting, above, has_children=row[0].startswith(waiting[0]))
            waiting = row
        if waiting is not None:
            yield self._node(waiting, above, has_children=False)

    def _node(
        self,
        row: tuple[str, int, str, str | None, str | None, str | None, str | None, str | None, str | None],
        above: list[str],
        *,
        has_children: bool,
    ) -> Node:
        code, number, wording, dai, isc, ispc, isv, derived, english = row
        while above and not code.startswith(above[-1]):
            above.pop()
        parent = above[-1] if above else None
        above.append(code)
        title = own_titles().get(code)
        if title is not None and derived is not None:
            english = title.en
        duties = None
        if dai is not None and isc is not None and ispc is not None and isv is not None:
            duties = (Decimal(dai), Decimal(isc), Decimal(ispc), Decimal(isv))
        return Node(
            code=code,
            level=level_of(code),
            parent_code=parent,
            position=number,
            description_es=wording,
            description_en=english,
            declarable=len(code) >= LINE_LENGTH and not has_children,
            duties=duties,
            derived=derived,
        )
