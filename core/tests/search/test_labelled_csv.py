"""A set is read as people have it, and what is wrong with it is told line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sicargabox_core.errors import InvalidInput
from sicargabox_core.search.labelled_csv import LabelledRow, read_rows

PLAIN = "query,headings,lang,kind\naudífonos,8518,es,plain\nzapatos,6402|6404,es,generic\n"
READ = [
    LabelledRow("audífonos", frozenset({"8518"}), "es", "plain"),
    LabelledRow("zapatos", frozenset({"6402", "6404"}), "es", "generic"),
]
EXCEL = PLAIN.replace(",", ";").replace("\n", "\r\n")


def written(tmp_path: Path, content: str | bytes, name: str = "set.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        EXCEL,
        EXCEL.encode("cp1252"),
        "sep=;\r\n" + EXCEL,
        PLAIN.replace(",", "\t").encode("utf-16"),
        "\n\n" + PLAIN.replace("\nzap", "\n\n,,,\n\nzap"),
        "QUERY , Headings,lang,kind\n audífonos ,8518, es ,plain\nzapatos,6402|6404,es,generic",
        'query,headings,lang,kind\n"audífonos","8518","es","plain"\nzapatos,"6402, 6404",es,generic\n',
    ],
    ids=["plain", "mark", "semicolons", "windows", "sep", "tabs", "empty lines", "loose spaces", "quotes"],
)
def test_however_a_spreadsheet_saved_it_the_set_is_the_same(tmp_path: Path, content: str | bytes) -> None:
    assert read_rows(written(tmp_path, content)) == READ


@pytest.mark.parametrize(
    "headings",
    ["8518|9021", '"8518,9021"', "8518 9021", "8518.30 90.21", "851830|9021.40", "85.18; 90.21.40", "8518|9021|"],
)
def test_headings_are_read_however_they_are_written(tmp_path: Path, headings: str) -> None:
    (row,) = read_rows(written(tmp_path, f"query,headings\naudífonos,{headings}\n"))
    assert row.headings == {"8518", "9021"}


def test_a_query_in_quotes_keeps_its_commas_and_line_ends_are_one_space(tmp_path: Path) -> None:
    path = written(tmp_path, 'query,headings\n"funda, negra\npara ""celular""",4202\n')
    assert read_rows(path)[0].query == 'funda, negra para "celular"'


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (",8518", "no query"),
        ("audífonos,", "no headings"),
        ("audífonos", "no headings"),
        ("audífonos,85", "'85' is no heading"),
        ("audífonos,85183", "85183 lacks a digit; write 085183"),
        ("miel,409", "409 lacks a digit; write 0409"),
        ("audífonos,ocho", "'ocho' is no heading"),
        ("audífonos,9999", "9999 is of no chapter"),
        ("audífonos,8518,es,plain,more", "more cells than columns"),
        ("x" * 501 + ",8518", "a query of more than 500 letters"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_what_to_do(tmp_path: Path, row: str, fault: str) -> None:
    path = written(tmp_path, f'query,headings,lang,kind\n\n"two\nlines",8518\n{row}\n')
    with pytest.raises(InvalidInput) as told:
        read_rows(path)
    assert f"line 5: {fault}" in str(told.value)
    assert "Mend these lines" in (told.value.remedy or "")


def test_all_bad_rows_are_told_at_once_up_to_twenty(tmp_path: Path) -> None:
    path = written(tmp_path, "query,headings\n" + "miel,409\n" * 25)
    with pytest.raises(InvalidInput, match=r"line 2: .*line 21: .*; and 5 more") as told:
        read_rows(path)
    assert "line 22" not in str(told.value)


@pytest.mark.parametrize(
    "content",
    ["", "\n\n", "q,headings\nx,8518\n", "8518\n", b"\x00\x01\x02", b"\xff\xfe\x00", 'query,headings\n"x,8518\n'],
    ids=["empty", "lines only", "other column", "no columns", "binary", "cut UTF-16", "open quote"],
)
def test_what_is_no_set_is_one_fault_with_a_remedy(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(InvalidInput) as told:
        read_rows(written(tmp_path, content))
    assert told.value.remedy
