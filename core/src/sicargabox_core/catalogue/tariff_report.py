"""What an import did, in numbers and row by row."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from sicargabox_core.errors import InvalidInput

Action = Literal["made", "changed", "unchanged", "retired", "revived", "rejected", "mended", "missing"]
# What a person must look at, the worst first; the rest is in the CSV only.
NOTABLE: tuple[Action, ...] = ("rejected", "missing", "retired", "revived", "mended")
# Of each action, so that the report does not grow with the file and many of one kind hide none of another.
ROWS_KEPT = 500


@dataclass(frozen=True)
class ReportRow:
    """One thing that happened. ``row``: the file's data row from 1; 0 for what the file does not have."""

    row: int
    code: str
    action: Action
    reason: str


@dataclass
class ImportReport:
    """The outcome of an import. ``nodes`` = made + changed + unchanged + revived (+ nothing else).

    ``declarable``: lines that can be declared after it. ``rows``: the first 500 rows of each notable action
    (rejected, missing, retired, revived, mended, in this order), ``rows_left_out`` how many more there were; the
    report's CSV has all, of every action.
    """

    dry_run: bool = False
    read: int = 0
    nodes: int = 0
    declarable: int = 0
    made: int = 0
    changed: int = 0
    unchanged: int = 0
    retired: int = 0
    revived: int = 0
    rejected: int = 0
    mended: int = 0
    missing: int = 0
    seconds: float = 0.0
    rows: list[ReportRow] = field(default_factory=list)
    rows_left_out: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The numbers alone, in the order people want them."""
        names = ("read", "nodes", "declarable", "made", "changed", "unchanged", "retired", "revived", "rejected")
        return {name: getattr(self, name) for name in (*names, "mended", "missing")}


class Reporter:
    """Counts what happens and writes each row to the CSV, when one is wanted. A context manager."""

    def __init__(self, report: ImportReport, path: Path | None) -> None:
        self.report = report
        self._notable: dict[Action, list[ReportRow]] = {action: [] for action in NOTABLE}
        try:
            self._handle = path.open("w", encoding="utf-8", newline="") if path is not None else None
        except OSError as error:
            raise InvalidInput(
                f"{path} cannot be written ({error.strerror})", field="report", remedy="Choose a writable place."
            ) from error
        self._writer = csv.writer(self._handle, lineterminator="\n") if self._handle else None
        if self._writer:
            self._writer.writerow(["row", "code", "action", "reason"])

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.report.rows.extend(row for action in NOTABLE for row in self._notable[action])
        if self._handle:
            self._handle.close()

    def note(self, row: int, code: str, action: Action, reason: str) -> None:
        """One thing that happened."""
        report = self.report
        setattr(report, action, getattr(report, action) + 1)
        if self._writer:
            self._writer.writerow([row or "", code, action, reason])
        if action in NOTABLE:
            kept = self._notable[action]
            if len(kept) < ROWS_KEPT:
                kept.append(ReportRow(row, code, action, reason))
            else:
                report.rows_left_out += 1
