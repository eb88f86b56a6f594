"""Laws of reading the official file's rows."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest
from core.tests.catalogue.tables import COLUMNS, row, write_table

from sicargabox_core.catalogue.tariff_file import FileRow, Rejected, read_tariff
from sicargabox_core.errors import InvalidInput


def _read(tmp_path: Path, *rows: list[str]) -> list[FileRow | Rejected]:
    return list(read_tariff(write_table(tmp_path / "t.csv", rows)))


def _one(tmp_path: Path, *rows: list[str]) -> FileRow:
    first = _read(tmp_path, *rows)[0]
    assert isinstance(first, FileRow)
    return first


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    rows = [row("8517", "PHONES"), row("8517.13.00.00", "- - Phones", dai="0.15")]
    table = write_table(tmp_path / "t.csv", rows)
    reading, writing = os.pipe()
    try:
        os.write(writing, table.read_bytes())
        os.close(writing)
        assert list(read_tariff(Path(f"/dev/fd/{reading}"))) == list(read_tariff(table))
    finally:
        os.close(reading)


def test_a_fraction_becomes_exact_percent(tmp_path: Path) -> None:
    read = _one(tmp_path, row("8517.13.00.00", "- - Phones", dai="0.15", isv="0.18"))
    assert read.duties == (Decimal("15.0000"), Decimal(0), Decimal(0), Decimal("18.0000"))
    assert read.mended is None


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("8433.52.00.00\n.", "8433520000"),
        ("4804.11.00.00.", "4804110000"),
        ("4811.59.12 .00", "4811591200"),
        (" 8517.13.00.00 ", "8517130000"),
        ("0201.20.00.00.02", "020120000002"),
        ("8517.1", "85171"),
        ("8517130000", "8517130000"),
    ],
)
def test_stray_characters_around_a_code_are_not_the_code(tmp_path: Path, raw: str, code: str) -> None:
    read = _one(tmp_path, row(raw, "Goods"))
    assert read.code == code
    assert bool(read.mended) == (raw.strip() != raw.strip(" .\n").replace(" ", ""))


def test_a_code_turned_into_a_date_number_is_read_back_when_the_next_row_proves_it(tmp_path: Path) -> None:
    rows = _read(tmp_path, row("738065", "- - Flexible:"), row("3920.10.11.00", "- - - Dense"))
    assert isinstance(rows[0], FileRow)
    assert rows[0].code == "3920101"
    assert rows[0].mended is not None
    assert "738065" in rows[0].mended


@pytest.mark.parametrize("following", ["3920.20.11.00", "0101", None])
def test_a_number_that_the_next_row_does_not_prove_is_no_code(tmp_path: Path, following: str | None) -> None:
    rows = _read(tmp_path, row("738065", "- - Flexible:"), *([row(following, "x")] if following else []))
    assert rows[0] == Rejected(1, "738065", "the code column holds no code")


@pytest.mark.parametrize(
    "raw", ["∎ Producto suje", "• Honduras aplica t", "", "85.17", "abc", "8517-13", "99999999999999"]
)
def test_a_note_in_the_code_column_is_rejected_and_not_guessed(tmp_path: Path, raw: str) -> None:
    (read,) = _read(tmp_path, row(raw, "some text"))
    assert isinstance(read, Rejected)
    assert not read.known


def test_a_code_that_lost_an_unknown_digit_is_not_guessed(tmp_path: Path) -> None:
    (read,) = _read(tmp_path, row("0402.10.00.00.0", "- Milk"))
    assert isinstance(read, Rejected)
    assert "missing" in read.reason


@pytest.mark.parametrize(
    ("wording", "chain", "clean"),
    [
        ("- - - Otros aceites\npara uso industrial:", "#N/A", "Otros aceites para uso industrial"),
        ("MIEL NATURAL", "#N/A", "Miel natural"),
        ("PISTOLAS, DE LAS PARTIDAS 93.03 o 93.04", "#N/A", "Pistolas, de las partidas 93.03 o 93.04"),
        ("NOTA DEL CAPÍTULO IV", "#N/A", "Nota del capítulo IV"),
        ("CABALLOS, VIVOS", "Caballos, vivos", "Caballos, vivos"),
        ("- Crudos", "- Crudos | - Papel | Kraft", "Crudos"),
        ("- - Acid (1,2-\ndibromo) (CAS 1-2)", "#N/A", "Acid (1,2-dibromo) (CAS 1-2)"),
        (" - Machetes", "#N/A", "Machetes"),
    ],
)
def test_wording_is_one_line_without_layout(tmp_path: Path, wording: str, chain: str, clean: str) -> None:
    assert _one(tmp_path, row("8517.13.00.00", wording, chain=chain)).wording == clean


@pytest.mark.parametrize("dai", ["abc", "", "15", "-0.1", "NaN"])
def test_a_line_whose_duty_does_not_read_is_rejected_but_known(tmp_path: Path, dai: str) -> None:
    (read,) = _read(tmp_path, row("8517.13.00.00", "Phones", dai=dai))
    assert isinstance(read, Rejected)
    assert read.known
    assert read.code == "8517130000"
    assert "dai" in read.reason


def test_a_suppressed_line_is_rejected_and_not_known(tmp_path: Path) -> None:
    (read,) = _read(tmp_path, row("4414.00.00.00", "+ + SUPRIMIDA + +"))
    assert isinstance(read, Rejected)
    assert not read.known


def test_a_row_with_too_few_cells_is_rejected(tmp_path: Path) -> None:
    (read,) = _read(tmp_path, ["1", "8517.13.00.00", "Phones"])
    assert isinstance(read, Rejected)
    assert "3 cells" in read.reason


def test_a_header_without_the_columns_names_those_that_are_missing(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", [], columns=("Codigo", "dai", "isc", "ispc"))
    with pytest.raises(InvalidInput, match="descripcion, isv") as caught:
        list(read_tariff(path))
    assert caught.value.field == "file"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x01\x02\xff" * 50,
        "Código;Descripción".encode("utf-16"),
        b"Codigo,Descripcion,dai,isc,ispc,isv\n8517.13.00.00,Tel\xe9fonos,0.15,0,0,0.15\n",
        b'Codigo,Descripcion,dai,isc,ispc,isv\n8517.13.00.00,"Phones,0.15,0,0,0.15\n',
    ],
    ids=["empty", "binary", "utf-16", "latin-1", "open quote"],
)
def test_a_file_that_is_no_utf8_csv_is_refused_with_a_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        list(read_tariff(path))
    assert caught.value.field == "file"
    assert "nothing was changed" in (caught.value.remedy or "")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gone\.csv"):
        list(read_tariff(tmp_path / "gone.csv"))


def test_a_byte_order_mark_semicolons_and_accents_in_the_header_are_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Código;Descripción;DAI;ISC;ISPC;ISV\n8517.13.00.00;Teléfonos;0,15;0;0;15%\n", encoding="utf-8-sig")
    (read,) = read_tariff(path)
    assert isinstance(read, FileRow)
    assert read.duties is not None
    assert read.duties[0] == read.duties[3] == 15


def test_every_column_of_the_official_file_is_accepted_in_any_order(tmp_path: Path) -> None:
    cells = dict(zip(COLUMNS, row("8517.13.00.00", "Phones"), strict=True))
    columns = tuple(reversed(COLUMNS))
    (read,) = read_tariff(write_table(tmp_path / "t.csv", [[cells[name] for name in columns]], columns=columns))
    assert isinstance(read, FileRow)
