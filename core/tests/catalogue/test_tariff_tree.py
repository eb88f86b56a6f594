"""Laws of codes and of reading the tree."""

from __future__ import annotations

import pytest
from core.tests.catalogue.lines import PHONE, RETIRED, SPEAKER, put_lines

from sicargabox_core.catalogue import tariff
from sicargabox_core.catalogue.models import Level
from sicargabox_core.db import Database
from sicargabox_core.errors import InvalidInput, NotFound


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("85", "85"),
        ("8517", "8517"),
        ("85171", "8517.1"),
        ("851713", "8517.13"),
        ("8517130000", "8517.13.00.00"),
        ("020120000002", "0201.20.00.00.02"),
    ],
)
def test_a_code_is_shown_with_dots_and_read_back(code: str, shown: str) -> None:
    assert tariff.display_code(code) == shown
    assert tariff.normalise_code(shown) == code


@pytest.mark.parametrize("text", ["", "abc", "8", "851", "85171300001", "8517.13.00.00.00.00", "٨٥١٧", "8517;drop"])
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        tariff.normalise_code(text)


def test_the_level_follows_from_the_digits() -> None:
    levels = [tariff.level_of(code) for code in ("85", "8517", "85171", "851713", "8517130", "8517130000")]
    assert levels == [
        Level.CHAPTER,
        Level.HEADING,
        Level.SUBHEADING,
        Level.SUBHEADING,
        Level.LINE,
        Level.LINE,
    ]


def test_a_chain_runs_from_the_chapter_to_the_line(database: Database) -> None:
    put_lines(database, PHONE, SPEAKER)
    with database.read() as session:
        assert [node.code for node in tariff.chain(session, PHONE)] == ["85", "8517", PHONE]
        with pytest.raises(NotFound):
            tariff.chain(session, "9999999999")


def test_a_code_is_unknown_when_nothing_is_or_was_at_or_below_it(database: Database) -> None:
    put_lines(database, PHONE, SPEAKER, RETIRED)
    with database.read() as session:
        assert tariff.unknown_codes(session, [PHONE, RETIRED, "85", "8517", PHONE[:7], RETIRED[:5]]) == []
        strange = ["", "85171", "8517130001", "86", "8517.13.00.00", "ñ", PHONE + "0"]
        assert tariff.unknown_codes(session, [*strange, "86"]) == sorted(set(strange) - {"", "85171"})
        many = [f"99{number:08}" for number in range(1200)]
        assert tariff.unknown_codes(session, [*many, PHONE]) == many


def test_children_come_in_the_official_order_without_retired_ones(database: Database) -> None:
    put_lines(database, PHONE, SPEAKER, RETIRED)
    with database.read() as session:
        assert [node.code for node in tariff.children(session, None)] == ["85"]
        assert [node.code for node in tariff.children(session, "85")] == ["8517", "8518", "8519"]
        assert tariff.children(session, "8519") == []
        with pytest.raises(NotFound):
            tariff.children(session, "8520")


def test_every_line_that_can_be_declared_is_streamed_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tariff, "BATCH", 3)
    codes = [f"85171300{number:02d}" for number in range(10)]
    put_lines(database, *codes, RETIRED)
    with database.read() as session:
        assert [line.code for line in tariff.iter_declarable(session)] == codes
        some = ["8517130007", "8517130001", "8517", RETIRED, "8517130001", "0000000000", "8517130003", "8517130004"]
        assert [line.code for line in tariff.iter_declarable(session, codes=some)] == [
            "8517130001",
            "8517130003",
            "8517130004",
            "8517130007",
        ]
        assert len(session.identity_map) <= 4
