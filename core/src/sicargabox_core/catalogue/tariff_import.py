"""Importing the official tariff into the catalogue, in one transaction.

The file is read, checked and mended on a workbench outside the database (``tariff_file``, ``tariff_workbench``); only
then does one short transaction walk the new tree and the stored one side by side, both in the order of codes.
Memory does not grow with the file, and the writer's place is held for about a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import Table, bindparam, func, insert, select, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.orm import Session

from sicargabox_core.accounts import audit
from sicargabox_core.catalogue.courier import CATALOGUE_COUNTER, CourierRules, courier_rules
from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.catalogue.tariff import LINE_LENGTH
from sicargabox_core.catalogue.tariff_file import Rejected, read_tariff
from sicargabox_core.catalogue.tariff_report import ImportReport, Reporter
from sicargabox_core.catalogue.tariff_workbench import Node, Workbench
from sicargabox_core.db import Database, db_now, wait_for_locks
from sicargabox_core.errors import InvalidInput
from sicargabox_core.tasks.store import bump_counter

BATCH = 500
# A new edition of the Harmonized System moves about a tenth of its lines. A file that drops more than twice that is
# more likely one chapter, or a download that broke off, than the tariff.
MOST_RETIRED_SHARE: Final = 0.2
_FEW: Final = 20
OFFICIAL: Final = "official"
# What an import may change; `position` is written along but a mere shift of rows is no change of a line.
_COMPARED: Final = (
    "level",
    "parent_code",
    "description_es",
    "description_en",
    "declarable",
    "dai",
    "isc",
    "ispc",
    "isv",
    "courier_category",
    "courier_rule",
    "courier_reason_es",
    "courier_reason_en",
    "source",
)
_TABLE = cast(Table, TariffLine.__table__)
_WRITTEN: Final = (*_COMPARED, "position")
_WRITTEN_VALUES: Final[dict[str, Any]] = {name: bindparam(name) for name in _WRITTEN}
_HERE: Final = update(_TABLE).where(_TABLE.c.code == bindparam("key"))
_INSERT: Final = insert(_TABLE)
_UPDATE: Final = _HERE.values(**_WRITTEN_VALUES, retired_at=None, updated_at=db_now())
_MOVE: Final = _HERE.values(position=bindparam("position"))
_RETIRE: Final = _HERE.values(retired_at=db_now(), updated_at=db_now())


class _RolledBack(Exception):
    """Ends a dry run's transaction; never leaves this module."""


def import_tariff(
    database: Database,
    path: Path,
    *,
    english: Path | None = None,
    dry_run: bool = False,
    allow_retiring: bool = False,
    by: str,
    report_csv: Path | None = None,
    rules: CourierRules | None = None,
) -> ImportReport:
    """Makes the catalogue what the file says and reports what was done.

    ``english``: a table of English wording by HS code. ``by``: the principal for the audit trail. ``report_csv``: gets
    every row's action and reason. A dry run does everything and rolls back. ``allow_retiring``: the file may drop more
    than a fifth of the catalogue.

    Raises ``InvalidInput`` (field ``file`` or ``report``), with nothing changed, when the file is not such a table or
    only a part of one.
    """
    started = time.monotonic()
    report = ImportReport(dry_run=dry_run)
    with Reporter(report, report_csv) as reporter, Workbench() as bench:
        _fill(bench, path, english, reporter)
        try:
            with database.write() as session:
                wait_for_locks(session)
                official = _official_nodes(session)
                _merge(session, bench, reporter, rules or courier_rules())
                if not (allow_retiring or dry_run):
                    _refuse_a_part(path, report, official)
                audit.record(
                    session,
                    actor=by,
                    action="tariff.import",
                    object_type="tariff",
                    object_id=path.name[:100],
                    after=report.counts,
                )
                if report.made or report.changed or report.retired or report.revived:
                    bump_counter(session, CATALOGUE_COUNTER)
                if dry_run:
                    raise _RolledBack
        except _RolledBack:
            pass
    report.seconds = round(time.monotonic() - started, 3)
    return report


def _official_nodes(session: Session) -> int:
    official = select(func.count()).where(TariffLine.source == OFFICIAL, TariffLine.retired_at.is_(None))
    return session.scalar(official) or 0


def _refuse_a_part(path: Path, report: ImportReport, before: int) -> None:
    # What the starter catalogue made is there to be replaced; only official nodes count.
    if report.retired > max(_FEW, before * MOST_RETIRED_SHARE) and before:
        raise InvalidInput(
            f"{path.name} lacks {report.retired:,} of the {before:,} nodes there are; it looks like a part of a tariff",
            field="file",
            remedy="--dry-run shows which; --allow-retiring retires them. Nothing was changed.",
        )


def _fill(bench: Workbench, path: Path, english: Path | None, reporter: Reporter) -> None:
    lines = 0
    for row in read_tariff(path):
        reporter.report.read += 1
        if isinstance(row, Rejected):
            reporter.note(row.row, row.code or row.raw_code, "rejected", row.reason)
            if row.known and row.code is not None:
                bench.leave_untouched(row.code)
            continue
        earlier = bench.add(row)
        if earlier is not None:
            reporter.note(row.row, row.code, "rejected", f"row {earlier} has the same code already")
            continue
        lines += len(row.code) >= LINE_LENGTH
        if row.mended:
            reporter.note(row.row, row.code, "mended", row.mended)
    if not lines:
        # Going on would retire the whole catalogue.
        raise InvalidInput(
            f"{path.name} holds no line that can be read ({reporter.report.read} rows)",
            field="file",
            remedy="Check that it is the tariff's table; nothing was changed.",
        )
    if english is not None:
        bench.add_english(english)
    for action, note in bench.finish():
        reporter.note(note.row, note.code, action, note.reason)


def _merge(session: Session, bench: Workbench, reporter: Reporter, rules: CourierRules) -> None:
    inserts: list[dict[str, Any]] = []
    updates: list[dict[str, Any]] = []
    retired: list[dict[str, Any]] = []
    report = reporter.report
    stored = _stored(session)
    old = next(stored, None)
    for node in bench.nodes():
        while old is not None and old["code"] < node.code:
            _retire(old, bench, reporter, retired)
            old = next(stored, None)
        report.nodes += 1
        report.declarable += node.declarable
        values = _values(node, rules)
        if old is None or old["code"] != node.code:
            inserts.append({"code": node.code, **values})
            reporter.note(node.position, node.code, "made", node.derived or "a new code")
        else:
            if values["description_en"] is None:
                values["description_en"] = old["description_en"]
            _update(old, node, values, reporter, updates)
            old = next(stored, None)
        _flush(session, inserts, updates, retired, least=BATCH)
    while old is not None:
        _retire(old, bench, reporter, retired)
        old = next(stored, None)
    _flush(session, inserts, updates, retired, least=1)


def _stored(session: Session) -> Iterator[RowMapping]:
    """Every stored node in the order of codes, page by page: the rows behind the page read may be written meanwhile."""
    last = ""
    while True:
        page = session.execute(select(_TABLE).where(_TABLE.c.code > last).order_by(_TABLE.c.code).limit(BATCH))
        rows = page.mappings().all()
        if not rows:
            return
        last = rows[-1]["code"]
        yield from rows


def _values(node: Node, rules: CourierRules) -> dict[str, Any]:
    duties: tuple[Decimal | None, ...] = node.duties or (None, None, None, None)
    return {
        "level": node.level.value,
        "parent_code": node.parent_code,
        "position": node.position,
        "description_es": node.description_es,
        "description_en": node.description_en,
        "declarable": node.declarable,
        "dai": duties[0],
        "isc": duties[1],
        "ispc": duties[2],
        "isv": duties[3],
        **rules.verdict(node.code).columns(),
        "source": OFFICIAL,
    }


def _update(
    old: RowMapping, node: Node, values: dict[str, Any], reporter: Reporter, updates: list[dict[str, Any]]
) -> None:
    differing = [name for name in _COMPARED if old[name] != values[name]]
    if old["retired_at"] is not None:
        reporter.note(node.position, node.code, "revived", "the file has it again")
    elif differing:
        reason = "replaces the starter's wording" if old["source"] != OFFICIAL else "other " + ", ".join(differing)
        reporter.note(node.position, node.code, "changed", reason)
    else:
        reporter.note(node.position, node.code, "unchanged", "")
        if old["position"] == values["position"]:
            return
    updates.append({"key": node.code, "real": bool(differing or old["retired_at"] is not None), **values})


def _retire(old: RowMapping, bench: Workbench, reporter: Reporter, retired: list[dict[str, Any]]) -> None:
    if old["retired_at"] is not None or bench.is_untouched(old["code"]):
        return
    reporter.note(0, old["code"], "retired", "the file does not have it any more")
    retired.append({"key": old["code"]})


def _flush(
    session: Session,
    inserts: list[dict[str, Any]],
    updates: list[dict[str, Any]],
    retired: list[dict[str, Any]],
    *,
    least: int,
) -> None:
    if len(inserts) >= least:
        session.connection().execute(_INSERT, inserts)
        inserts.clear()
    if len(updates) >= least:
        moved = [{"key": row["key"], "position": row["position"]} for row in updates if not row["real"]]
        real = [{name: row[name] for name in ("key", *_WRITTEN)} for row in updates if row["real"]]
        if real:
            session.connection().execute(_UPDATE, real)
        if moved:
            session.connection().execute(_MOVE, moved)
        updates.clear()
    if len(retired) >= least:
        session.connection().execute(_RETIRE, retired)
        retired.clear()
