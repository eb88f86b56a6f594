"""Whether a courier may bring a line: our reviewed rules, applied by code.

The rules are data (``courier_rules.toml``), so that a lawyer can read them and a change is one reviewed line. Nothing
here decides by words.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, cast

from sqlalchemy import Table, bindparam, select, update

from sicargabox_core.catalogue.models import CourierCategory, TariffLine
from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import DataFault
from sicargabox_core.tasks.contracts import REBUILD_INDEX, RebuildIndex
from sicargabox_core.tasks.store import bump_counter, submit

CATALOGUE_COUNTER = "catalogue"
_ACTOR = "system:courier-rules"
_LINES = cast(Table, TariffLine.__table__)
_DECIDED = ("courier_category", "courier_rule", "courier_reason_es", "courier_reason_en")


@dataclass(frozen=True)
class Verdict:
    """A category with the rule that decided it; a line no rule names is ALLOWED and has no reason."""

    category: CourierCategory = CourierCategory.ALLOWED
    rule: str | None = None
    reason_es: str | None = None
    reason_en: str | None = None

    def columns(self) -> dict[str, Any]:
        """As columns of a tariff line."""
        return {
            "courier_category": self.category.value,
            "courier_rule": self.rule,
            "courier_reason_es": self.reason_es,
            "courier_reason_en": self.reason_en,
        }


ALLOWED = Verdict()


class CourierRules:
    """Rules by code prefix; the longest prefix of a code decides."""

    def __init__(self, by_prefix: dict[str, Verdict]) -> None:
        self._by_prefix = by_prefix
        self._lengths = sorted({len(prefix) for prefix in by_prefix}, reverse=True)

    def verdict(self, code: str) -> Verdict:
        """What the rules say of ``code`` (digits of any node)."""
        for length in self._lengths:
            verdict = self._by_prefix.get(code[:length]) if length <= len(code) else None
            if verdict is not None:
                return verdict
        return ALLOWED

    @property
    def prefixes(self) -> dict[str, Verdict]:
        """Every prefix with its verdict."""
        return dict(self._by_prefix)


def parse_rules(document: dict[str, Any]) -> CourierRules:
    """Rules from a parsed TOML document.

    Raises ``DataFault`` for a rule without reason, an unknown category, a prefix that is no code or is ruled twice.
    """
    by_prefix: dict[str, Verdict] = {}
    ids: set[str] = set()
    for rule in document.get("rule", []):
        identity = str(rule.get("id", ""))
        try:
            category = CourierCategory(rule["category"])
            reason_es, reason_en, prefixes = str(rule["reason_es"]), str(rule["reason_en"]), list(rule["prefixes"])
        except (KeyError, ValueError) as error:
            raise DataFault(f"courier rule {identity!r} is not complete: {error}") from error
        if not identity or identity in ids:
            raise DataFault(f"courier rule id {identity!r} is missing or used twice")
        ids.add(identity)
        if category is not CourierCategory.ALLOWED and not (reason_es.strip() and reason_en.strip()):
            raise DataFault(f"courier rule {identity} gives no reason")
        for prefix in prefixes:
            if not isinstance(prefix, str) or not prefix.isdecimal() or not 2 <= len(prefix) <= 12:
                raise DataFault(f"courier rule {identity}: {prefix!r} is not a code prefix")
            if prefix in by_prefix:
                raise DataFault(f"courier rules {by_prefix[prefix].rule} and {identity} both name {prefix}")
            by_prefix[prefix] = Verdict(category, identity, reason_es, reason_en)
    return CourierRules(by_prefix)


@lru_cache
def courier_rules() -> CourierRules:
    """The rules of this release."""
    return parse_rules(tomllib.loads(resources.files(__package__).joinpath("courier_rules.toml").read_text("utf-8")))


def apply_rules(database: Database, rules: CourierRules | None = None) -> int:
    """Brings every node's category to the rules and gives the number of nodes that changed.

    For the start of a release that carries other rules than the one before; imports apply them by themselves. What
    changed is also asked to be indexed, since filters by category ask the index. Takes the writer's place only when
    something differs.
    """
    rules = rules or courier_rules()
    changes: list[dict[str, Any]] = []
    with database.read() as session:
        for code, *stored in session.execute(
            select(_LINES.c.code, *(_LINES.c[name] for name in _DECIDED)).execution_options(yield_per=1000)
        ):
            decided = rules.verdict(code).columns()
            if stored != list(decided.values()):
                changes.append({"key": code, **decided})
    if not changes:
        return 0
    now = database.now()
    with database.write() as session:
        values: dict[str, Any] = {name: bindparam(name) for name in _DECIDED}
        statement = update(_LINES).where(_LINES.c.code == bindparam("key"))
        session.connection().execute(statement.values(**values, updated_at=db_now()), changes)
        bump_counter(session, CATALOGUE_COUNTER)
        # Due now and not stamped as published: whoever starts a release has no publisher yet, the scheduler sends it.
        submit(session, REBUILD_INDEX, RebuildIndex(), initiated_by=_ACTOR, run_at=now)
    return len(changes)
