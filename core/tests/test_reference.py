"""The reference page says what the code says."""

from __future__ import annotations

from sicargabox_core import observability, reference
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.contracts import TASKS
from tests.settings import REPOSITORY


def test_the_reference_is_up_to_date() -> None:
    written = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
    assert written == reference.render(), "run `make reference`"


def test_everything_declared_is_in_the_reference() -> None:
    page = reference.render()
    for name in Settings.model_fields:
        assert f"`SICARGABOX_{name.upper()}`" in page
    for name in TASKS:
        assert f"### `{name}`" in page
    for metric in observability.METRICS:
        for family in metric.describe():
            assert f"`{family.name}" in page


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
