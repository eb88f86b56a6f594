"""Tables for the catalogue's tests: made-up ones, and the official ones where the machine has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.settings import absent, machine


@pytest.fixture
def official_csv() -> Path:
    """The real tariff, or a skip."""
    path = machine().tariff_csv
    if not path.is_file():
        absent("the official tariff", "set SICARGABOX_TEST_TARIFF_CSV to its CSV")
    return path


@pytest.fixture
def english_csv() -> Path:
    """The English wording of the Harmonized System, or a skip."""
    path = machine().hs_english_csv
    if not path.is_file():
        absent("the English HS wording", "set SICARGABOX_TEST_HS_ENGLISH_CSV to its CSV")
    return path
