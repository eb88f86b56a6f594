"""Laws of the courier rules."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from sicargabox_core.catalogue.courier import apply_rules, courier_rules, parse_rules
from sicargabox_core.catalogue.models import CourierCategory, TariffLine
from sicargabox_core.catalogue.starter_catalogue import load_starter
from sicargabox_core.db import Database
from sicargabox_core.errors import DataFault
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import REBUILD_INDEX, State


def _rule(**changes: object) -> dict[str, object]:
    rule = {"id": "r", "category": "RESTRICTED", "prefixes": ["93"], "reason_es": "Motivo.", "reason_en": "Reason."}
    return {**rule, **changes}


def test_the_longest_prefix_decides() -> None:
    rules = parse_rules({"rule": [_rule(), _rule(id="s", category="PROHIBITED", prefixes=["9306"])]})
    assert rules.verdict("9306210000").category is CourierCategory.PROHIBITED
    assert rules.verdict("9307000000").category is CourierCategory.RESTRICTED
    assert rules.verdict("8517130000").category is CourierCategory.ALLOWED
    assert rules.verdict("93").rule == "r"


def test_an_allowed_rule_lifts_an_exception_out_of_a_wider_one() -> None:
    rules = parse_rules({"rule": [_rule(), _rule(id="s", category="ALLOWED", prefixes=["930630"])]})
    assert rules.verdict("9306301000").category is CourierCategory.ALLOWED


@pytest.mark.parametrize(
    "rules",
    [
        [_rule(reason_es=" ")],
        [_rule(category="FORBIDDEN")],
        [_rule(prefixes=["93.06"])],
        [_rule(), _rule(prefixes=["94"])],
        [_rule(), _rule(id="s")],
        [{"id": "r", "category": "RESTRICTED"}],
        [_rule(id="")],
    ],
    ids=["no reason", "category", "prefix", "same id", "same prefix", "incomplete", "no id"],
)
def test_a_faulty_rule_is_refused(rules: list[dict[str, object]]) -> None:
    with pytest.raises(DataFault):
        parse_rules({"rule": rules})


@pytest.mark.parametrize(
    ("code", "category"),
    [
        ("9302000000", "PROHIBITED"),  # pistols
        ("9306210000", "PROHIBITED"),  # cartridges
        ("3004900000", "RESTRICTED"),  # medicines
        ("0106190000", "PROHIBITED"),  # live animals
        ("1209910000", "RESTRICTED"),  # seeds
        ("8507600000", "RESTRICTED"),  # power banks
        ("2208401000", "RESTRICTED"),  # rum
        ("2402200000", "RESTRICTED"),  # cigarettes
        ("8543400000", "RESTRICTED"),  # e-cigarettes
        ("4907002000", "PROHIBITED"),  # banknotes
        ("7108120000", "PROHIBITED"),  # gold
        ("0507100000", "PROHIBITED"),  # ivory
        ("3303000000", "RESTRICTED"),  # perfume
        ("8806211000", "RESTRICTED"),  # drones
        ("8517130000", "ALLOWED"),  # phones
        ("6109100000", "ALLOWED"),  # T-shirts
        ("9503000000", "ALLOWED"),  # toys
    ],
)
def test_what_couriers_meet_has_the_category_they_know(code: str, category: str) -> None:
    assert courier_rules().verdict(code).category == category


def test_every_category_in_the_database_has_its_rule_and_reason(database: Database) -> None:
    load_starter(database)
    with database.read() as session:
        lines = list(session.scalars(select(TariffLine)))
    restricted = [line for line in lines if line.courier_category != CourierCategory.ALLOWED]
    assert restricted
    assert all(line.courier_rule and line.courier_reason_es and line.courier_reason_en for line in restricted)
    assert {line.courier_rule for line in lines if line.courier_category == CourierCategory.ALLOWED} == {None}


def test_new_rules_of_a_release_reach_the_lines_that_are_there_and_the_index(database: Database) -> None:
    load_starter(database)
    with database.write() as session:
        session.execute(
            update(TariffLine).where(TariffLine.code.startswith("8517")).values(courier_category="PROHIBITED")
        )
    assert apply_rules(database) > 0
    assert apply_rules(database) == 0
    with database.read() as session:
        [rebuild] = store.list_tasks(session).items
        assert (rebuild.name, rebuild.state, rebuild.initiated_by) == (
            *(REBUILD_INDEX.name, State.PENDING),
            "system:courier-rules",
        )
        assert rebuild.published_at is None, "nobody has sent it, so the reconciler must"
        statement = select(TariffLine.courier_category).where(TariffLine.code.startswith("8517")).distinct()
        assert list(session.scalars(statement)) == ["ALLOWED"]
