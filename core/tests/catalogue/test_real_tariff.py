"""What the official file of 2022 gives, to the row."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from sqlalchemy import select

from sicargabox_core.catalogue.courier import courier_rules
from sicargabox_core.catalogue.models import Level, TariffLine
from sicargabox_core.catalogue.starter_catalogue import starter_nodes
from sicargabox_core.catalogue.tariff import chain, display_code, iter_declarable
from sicargabox_core.catalogue.tariff_import import import_tariff
from sicargabox_core.db import Database


def test_the_official_file_imports_with_exactly_these_counts(
    database: Database, official_csv: Path, english_csv: Path
) -> None:
    report = import_tariff(database, official_csv, english=english_csv, by="cli")
    assert report.counts == {
        "read": 10754,
        "nodes": 11060,
        "declarable": 7505,
        "made": 11060,
        "changed": 0,
        "unchanged": 0,
        "retired": 0,
        "revived": 0,
        "rejected": 6,
        "mended": 399,
        "missing": 2,
    }
    by_action: dict[str, list[tuple[int, str]]] = {}
    for entry in report.rows:
        by_action.setdefault(entry.action, []).append((entry.row, entry.code))
    assert by_action["rejected"] == [
        (650, "0402.10.00.00.0"),
        (1212, "∎ Producto suje"),
        (3420, "• Honduras aplica t"),
        (4725, "4414000000"),
        (7159, "• Honduras aplica tem"),
        (692, "04061"),
    ]
    assert by_action["missing"] == [(0, "2607"), (0, "4413")]
    assert sum("date number" in entry.reason for entry in report.rows) == 17
    assert sum("stray characters" in entry.reason for entry in report.rows) == 3
    assert sum("last zero" in entry.reason for entry in report.rows) == 378
    with database.read() as session:
        lengths = Counter(len(code) for code in session.scalars(select(TariffLine.code).where(TariffLine.declarable)))
        assert lengths == {10: 7468, 12: 37}
        without_english = session.scalars(
            select(TariffLine.code).where(TariffLine.declarable, TariffLine.description_en.is_(None))
        ).all()
        assert without_english == ["040420000002"]
        assert [display_code(node.code) for node in chain(session, "3920101100")] == [
            "39",
            "3920",
            "3920.10",
            "3920.10.1",
            "3920.10.11.00",
        ]
        lines = list(iter_declarable(session))
        assert len(lines) == 7505
        assert not any("\n" in line.description_es or line.description_es.startswith("-") for line in lines)
        assert not any("#N/A" in line.description_es for line in lines)
        in_capitals = [line.code for line in lines if line.description_es.isupper() and len(line.description_es) > 4]
        assert in_capitals == []
    again = import_tariff(database, official_csv, english=english_csv, by="cli")
    assert (again.unchanged, again.changed, again.made) == (11060, 0, 0)


def test_every_courier_rule_names_real_codes(official_csv: Path) -> None:
    with official_csv.open(encoding="utf-8-sig", newline="") as handle:
        codes = ["".join(filter(str.isdigit, line["Codigo"])) for line in csv.DictReader(handle)]
    lines = [code for code in codes if len(code) >= 9]
    unknown = [prefix for prefix in courier_rules().prefixes if not any(code.startswith(prefix) for code in lines)]
    assert unknown == []


def test_starter_codes_and_rates_are_the_official_ones(sqlite_url: str, official_csv: Path) -> None:
    database = Database(sqlite_url)
    import_tariff(database, official_csv, by="cli")
    with database.read() as session:
        official = {line.code: line for line in iter_declarable(session)}
    database.dispose()
    wrong = []
    for node in starter_nodes():
        if node.duties is None:
            continue
        line = official.get(node.code)
        duties = (line.dai, line.isc, line.ispc, line.isv) if line is not None else None
        if duties != node.duties:
            wrong.append((node.code, node.duties, duties))
    assert wrong == []


def test_our_own_wording_is_not_the_official_one(sqlite_url: str, official_csv: Path, english_csv: Path) -> None:
    database = Database(sqlite_url)
    import_tariff(database, official_csv, by="cli")
    with database.read() as session:
        official = {
            line.description_es.casefold()
            for line in session.scalars(select(TariffLine).where(TariffLine.level != Level.CHAPTER))
        }
    database.dispose()
    with english_csv.open(encoding="utf-8-sig", newline="") as handle:
        english = {line["description"].casefold() for line in csv.DictReader(handle)}
    ours = [(node.code, node.description_es, node.description_en) for node in starter_nodes()]
    # A name of a few words can only be written one way; a sentence that is equal was copied.
    copied = [
        (code, text)
        for code, es, en in ours
        for text, theirs in ((es, official), (en, english))
        if len(text.split()) >= 4 and text.casefold() in theirs
    ]
    assert copied == []
