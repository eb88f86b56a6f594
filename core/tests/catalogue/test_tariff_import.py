"""Laws of importing a tariff."""

from __future__ import annotations

import csv
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pytest
from core.tests.catalogue.tables import big_table, row, write_table
from sqlalchemy import func, select

from sicargabox_core.catalogue import tariff_import
from sicargabox_core.catalogue.models import Keyword, TariffLine
from sicargabox_core.catalogue.starter_catalogue import load_starter, starter_nodes
from sicargabox_core.catalogue.tariff_import import import_tariff
from sicargabox_core.catalogue.tariff_report import ImportReport
from sicargabox_core.db import Database
from sicargabox_core.errors import InvalidInput
from sicargabox_core.tasks.models import CounterRow

PHONES = [
    row("8517", "TELÉFONOS", chain="Teléfonos"),
    row("8517.1", "- Teléfonos:"),
    row("8517.13.00.00", "- - Inteligentes"),
    row("8517.18.00.00", "- - Los demás"),
]
MILK = [
    row("0401", "LECHE"),
    row("0401.10.00.00", "- Descremada"),
    row("0401.10.00.00.01", "- En bolsa", isv="0.00"),
    row("0401.10.00.00.02", "- En caja", isv="0.00"),
]


def _import(database: Database, tmp_path: Path, rows: list[list[str]], *, dry_run: bool = False) -> ImportReport:
    return import_tariff(database, write_table(tmp_path / "t.csv", rows), by="cli", dry_run=dry_run)


def _line(database: Database, code: str) -> TariffLine:
    with database.read() as session:
        line = session.get(TariffLine, code)
        assert line is not None
        return line


def _snapshot(database: Database) -> list[tuple[object, ...]]:
    with database.read() as session:
        return [tuple(line) for line in session.execute(select(*TariffLine.__table__.c).order_by(TariffLine.code))]


def _counter(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(CounterRow.value).where(CounterRow.name == "catalogue")) or 0


def test_a_tree_is_made_from_chapter_to_line(database: Database, tmp_path: Path) -> None:
    report = _import(database, tmp_path, PHONES)
    with database.read() as session:
        tree = {
            line.code: (line.level, line.parent_code, line.declarable) for line in session.scalars(select(TariffLine))
        }
    assert tree == {
        "85": ("CHAPTER", None, False),
        "8517": ("HEADING", "85", False),
        "85171": ("SUBHEADING", "8517", False),
        "8517130000": ("LINE", "85171", True),
        "8517180000": ("LINE", "85171", True),
    }
    assert (report.read, report.made, report.declarable) == (4, 5, 2)


def test_duties_are_exact_percent_and_groups_have_none(database: Database, tmp_path: Path) -> None:
    _import(database, tmp_path, PHONES)
    assert _line(database, "8517130000").dai == Decimal(15)
    assert _line(database, "8517").dai is None


def test_of_a_line_with_twelve_digit_children_only_the_children_can_be_declared(
    database: Database, tmp_path: Path
) -> None:
    report = _import(database, tmp_path, MILK)
    assert report.declarable == 2
    assert not _line(database, "0401100000").declarable
    child = _line(database, "040110000001")
    assert child.declarable
    assert child.parent_code == "0401100000"


def test_a_missing_heading_is_made_from_its_line(database: Database, tmp_path: Path) -> None:
    _import(database, tmp_path, [row("0409.00.00.00", "MIEL NATURAL")])
    assert _line(database, "0409").description_es == "Miel natural"
    assert _line(database, "0409000000").parent_code == "0409"
    assert _line(database, "04").description_en == "Dairy, eggs and honey"


def test_a_subheading_whose_last_zero_was_lost_gets_it_back(database: Database, tmp_path: Path) -> None:
    rows = [
        row("0102", "BOVINOS"),
        row("0102.9", "- Otros:"),
        row("0102.90.10.00", "- - A"),
        row("0102.90.90.00", "- - B"),
    ]
    report = _import(database, tmp_path, rows)
    assert _line(database, "0102901000").parent_code == "010290"
    assert report.mended == 1


def test_a_line_whose_last_zero_was_lost_gets_it_back(database: Database, tmp_path: Path) -> None:
    _import(database, tmp_path, [row("2934", "ÁCIDOS"), row("2934.92.00.0", "- - X"), row("2934.99.00.00", "- - Y")])
    assert _line(database, "2934920000").declarable
    assert _line(database, "2934920000").isv == 15


def test_a_group_without_lines_is_no_node(database: Database, tmp_path: Path) -> None:
    report = _import(database, tmp_path, [*PHONES, row("8518", "PARLANTES")])
    assert report.rejected == 1
    assert report.rows[-1].code == "8518"
    with database.read() as session:
        assert session.get(TariffLine, "8518") is None


def test_a_code_that_comes_twice_is_taken_once(database: Database, tmp_path: Path) -> None:
    report = _import(database, tmp_path, [*PHONES, row("8517.13.00.00", "- - Otra cosa")])
    assert [(entry.row, entry.reason) for entry in report.rows] == [(5, "row 3 has the same code already")]
    assert _line(database, "8517130000").description_es == "Inteligentes"


def test_a_second_import_of_the_same_file_changes_nothing(database: Database, tmp_path: Path) -> None:
    _import(database, tmp_path, [*PHONES, *MILK])
    before, counter = _snapshot(database), _counter(database)
    report = _import(database, tmp_path, [*PHONES, *MILK])
    assert (report.made, report.changed, report.retired, report.unchanged) == (0, 0, 0, report.nodes)
    assert _snapshot(database) == before
    assert _counter(database) == counter


def test_only_what_differs_counts_as_changed(database: Database, tmp_path: Path) -> None:
    _import(database, tmp_path, PHONES)
    changed = [*PHONES[:2], row("8517.13.00.00", "- - Inteligentes", dai="0.10"), PHONES[3]]
    # Moved down by another heading: the order is brought along, and is no change of a line.
    report = _import(database, tmp_path, [row("0409.00.00.00", "MIEL NATURAL"), *changed])
    assert (report.changed, report.made) == (1, 3)
    assert _line(database, "8517130000").dai == 10
    assert _line(database, "8517180000").position == 5


def test_a_vanished_line_is_retired_and_comes_back_when_the_file_has_it_again(
    database: Database, tmp_path: Path
) -> None:
    _import(database, tmp_path, PHONES)
    report = _import(database, tmp_path, PHONES[:3])
    assert report.retired == 1
    assert _line(database, "8517180000").retired_at is not None
    assert _import(database, tmp_path, PHONES[:3]).retired == 0
    report = _import(database, tmp_path, PHONES)
    assert (report.revived, report.changed) == (1, 0)
    assert _line(database, "8517180000").retired_at is None


def test_a_rejected_row_never_retires_the_line_it_names(database: Database, tmp_path: Path) -> None:
    _import(database, tmp_path, PHONES)
    report = _import(database, tmp_path, [*PHONES[:3], row("8517.18.00.00", "- - Los demás", dai="n/a")])
    assert (report.rejected, report.retired) == (1, 0)
    assert _line(database, "8517180000").retired_at is None


def test_a_file_that_lacks_much_of_the_catalogue_changes_nothing_unless_it_is_allowed(
    database: Database, tmp_path: Path
) -> None:
    many = [row(f"8517.{number}.00.00", f"- - Aparato {number}") for number in range(20, 70)]
    whole, part = [PHONES[0], *many], [PHONES[0], *many[:20]]
    _import(database, tmp_path, whole)
    with pytest.raises(InvalidInput, match=r"lacks 30 of .* --allow-retiring"):
        _import(database, tmp_path, part)
    assert _line(database, "8517690000").retired_at is None
    assert import_tariff(database, write_table(tmp_path / "t.csv", part), dry_run=True, by="cli").retired == 30
    assert import_tariff(database, write_table(tmp_path / "t.csv", part), allow_retiring=True, by="cli").retired == 30
    assert _line(database, "8517690000").retired_at is not None


def test_a_suppressed_line_is_retired(database: Database, tmp_path: Path) -> None:
    _import(database, tmp_path, PHONES)
    report = _import(database, tmp_path, [*PHONES[:3], row("8517.18.00.00", "+ + SUPRIMIDA + +")])
    assert (report.rejected, report.retired) == (1, 1)


def test_every_row_that_was_read_is_accounted_for(database: Database, tmp_path: Path) -> None:
    _import(database, tmp_path, PHONES[:3])
    rows = [*PHONES, *MILK, row("• Nota", "al pie"), row("0409.00.00.00", "MIEL")]
    report = import_tariff(
        database, write_table(tmp_path / "t.csv", rows), by="cli", report_csv=tmp_path / "report.csv"
    )
    derived = 3  # chapter 04, heading 0409, and chapter 85
    assert report.read - report.rejected + derived == report.nodes
    assert report.made + report.changed + report.unchanged + report.revived == report.nodes
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as handle:
        entries = list(csv.DictReader(handle))
    assert len(entries) == report.nodes + report.rejected + report.mended + report.retired
    assert {entry["action"] for entry in entries} == {"made", "unchanged", "rejected"}
    assert all(entry["reason"] or entry["action"] == "unchanged" for entry in entries)


def test_a_dry_run_reports_the_same_and_changes_nothing(database: Database, tmp_path: Path) -> None:
    _import(database, tmp_path, PHONES)
    before, counter = _snapshot(database), _counter(database)
    dry = _import(database, tmp_path, [*PHONES[:3], *MILK], dry_run=True)
    assert _snapshot(database) == before
    assert _counter(database) == counter
    real = _import(database, tmp_path, [*PHONES[:3], *MILK])
    assert dry.counts == real.counts
    assert dry.rows == real.rows
    assert _counter(database) == counter + 1


@pytest.mark.parametrize(
    "content",
    [b"a,b\n1,2\n", b"Codigo,Descripcion,dai,isc,ispc,isv\n", b"Codigo,Descripcion,dai,isc,ispc,isv\n\xff\n"],
    ids=["another table", "no rows", "not UTF-8"],
)
def test_a_file_that_is_not_the_tariff_changes_nothing(database: Database, tmp_path: Path, content: bytes) -> None:
    _import(database, tmp_path, PHONES)
    before = _snapshot(database)
    path = tmp_path / "other.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="nothing was changed"):
        import_tariff(database, path, by="cli")
    assert _snapshot(database) == before


def test_an_import_that_breaks_off_leaves_everything_as_it_was(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _import(database, tmp_path, PHONES)
    before = _snapshot(database)

    def broken(*_: object) -> int:
        raise OSError("the disk is full")

    monkeypatch.setattr(tariff_import, "bump_counter", broken)
    with pytest.raises(OSError, match="full"):
        _import(database, tmp_path, [*PHONES[:3], *MILK])
    assert _snapshot(database) == before


def test_english_wording_comes_by_the_first_two_four_and_six_digits(database: Database, tmp_path: Path) -> None:
    english = tmp_path / "en.csv"
    english.write_text("hscode,description\n8517,Telephones\n851713,Smartphones\n8518,Loudspeakers\n", encoding="utf-8")
    report = import_tariff(database, write_table(tmp_path / "t.csv", PHONES), english=english, by="cli")
    assert _line(database, "8517").description_en == "Telephones"
    assert _line(database, "8517130000").description_en == "Smartphones"
    assert _line(database, "85171").description_en is None
    assert [entry.code for entry in report.rows if entry.action == "missing"] == ["8518"]
    # An import without it leaves the English wording alone.
    assert _import(database, tmp_path, PHONES).changed == 0
    assert _line(database, "8517").description_en == "Telephones"


def test_an_english_file_of_another_form_changes_nothing(database: Database, tmp_path: Path) -> None:
    english = tmp_path / "en.csv"
    english.write_text("code,text\n8517,Telephones\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match="hscode, description"):
        import_tariff(database, write_table(tmp_path / "t.csv", PHONES), english=english, by="cli")
    assert _snapshot(database) == []


def test_official_wording_replaces_the_starters_and_its_keywords_stay(database: Database, tmp_path: Path) -> None:
    load_starter(database)
    starter = next(node for node in starter_nodes() if node.code.startswith("8517") and node.duties)
    with database.read() as session:
        words = session.scalar(select(func.count()).select_from(Keyword))
    dotted = ".".join([starter.code[:4], starter.code[4:6], starter.code[6:8], starter.code[8:10]])
    report = _import(database, tmp_path, [row("8517", "TELÉFONOS"), row(dotted, "- - Texto oficial")])
    line = _line(database, starter.code)
    assert (line.description_es, line.source) == ("Texto oficial", "official")
    assert line.description_en == starter.description_en
    assert report.changed == 3
    assert report.retired == len(starter_nodes()) - 3
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Keyword)) == words


def test_memory_does_not_grow_with_the_file(sqlite_url: str, tmp_path: Path) -> None:
    database = Database(sqlite_url)
    peaks = []
    for lines in (500, 10_000):
        path = write_table(tmp_path / f"{lines}.csv", big_table(lines))
        tracemalloc.start()
        report = import_tariff(database, path, by="cli", report_csv=tmp_path / "report.csv")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert report.declarable == lines
    database.dispose()
    # Twenty times the rows; a list of the codes alone would add 670 kB (measured: 16 kB).
    assert peaks[1] < peaks[0] + 300_000


def test_many_rows_of_one_kind_hide_none_of_another_and_the_csv_has_all(database: Database, tmp_path: Path) -> None:
    notes = [row(f"• Nota {number}", "al pie") for number in range(600)]
    path = write_table(tmp_path / "t.csv", [*PHONES, *notes, row("8517.19.00.00.", "- - Otros")])
    report = import_tariff(database, path, by="cli", report_csv=tmp_path / "report.csv")
    assert (report.rejected, report.mended, len(report.rows), report.rows_left_out) == (600, 1, 501, 100)
    assert [entry.action for entry in report.rows[-2:]] == ["rejected", "mended"]
    assert (tmp_path / "report.csv").read_text(encoding="utf-8").count(",rejected,") == 600
