"""Loading the starter catalogue: our own words for about 1,500 lines, so that a fresh install answers searches.

Codes and rates are facts; the wording is ours. The official file, once imported, takes the place of the wording and
keeps the keywords.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from typing import Any, Final, cast

from sqlalchemy import Table, select
from sqlalchemy.orm import Session

from sicargabox_core.accounts import audit
from sicargabox_core.catalogue.courier import CATALOGUE_COUNTER, courier_rules
from sicargabox_core.catalogue.keywords import checked
from sicargabox_core.catalogue.models import Keyword, KeywordSource, KeywordState, Language, TariffLine
from sicargabox_core.catalogue.tariff import ancestors, level_of
from sicargabox_core.db import Database, insert_if_new, wait_for_locks
from sicargabox_core.errors import DataFault
from sicargabox_core.tasks.store import bump_counter

STARTER: Final = "starter"
DUTIES: Final = ("dai", "isc", "ispc", "isv")
_ACTOR: Final = "system:starter-catalogue"
_LINES = cast(Table, TariffLine.__table__)
_KEYWORDS = cast(Table, Keyword.__table__)


@dataclass(frozen=True)
class StarterNode:
    """A chapter, heading or line of the starter catalogue; ``duties`` (percent) and words for lines only."""

    code: str
    description_es: str
    description_en: str
    duties: tuple[Decimal, Decimal, Decimal, Decimal] | None = None
    keywords_es: tuple[str, ...] = ()
    keywords_en: tuple[str, ...] = ()


@lru_cache
def starter_nodes() -> tuple[StarterNode, ...]:
    """Every node in the order of codes. Raises ``DataFault`` when a code comes twice or a line has no heading."""
    nodes: dict[str, StarterNode] = {}
    for node in (*_headings(), *_lines()):
        if node.code in nodes:
            raise DataFault(f"the starter catalogue has {node.code} twice")
        nodes[node.code] = node
    for node in nodes.values():
        if len(node.code) > 4 and (node.code[:4] not in nodes or node.code[:2] not in nodes):
            raise DataFault(f"the starter catalogue has no heading or chapter above {node.code}")
    return tuple(nodes[code] for code in sorted(nodes))


def load_starter(database: Database) -> int:
    """Loads the starter catalogue when there is no tariff line at all; gives the number of lines loaded.

    Two processes at once load it once.
    """
    with database.write() as session:
        if session.scalar(select(TariffLine.code).limit(1)) is not None:
            return 0
        wait_for_locks(session)
        nodes = starter_nodes()
        codes = {node.code for node in nodes}
        rows = [_line_row(node, position, codes) for position, node in enumerate(nodes, start=1)]
        _insert(session, _LINES, rows)
        _insert(session, _KEYWORDS, list(_keyword_rows(nodes)))
        lines = sum(node.duties is not None for node in nodes)
        audit.record(
            session,
            actor=_ACTOR,
            action="tariff.starter",
            object_type="tariff",
            object_id=STARTER,
            after={"nodes": len(rows), "lines": lines},
        )
        bump_counter(session, CATALOGUE_COUNTER)
    return lines


def _insert(session: Session, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(rows), 500):
        # RETURNING, because only with it does SQLAlchemy send many rows in one statement beside ON CONFLICT:
        # on PostgreSQL 16,000 keywords took 4.2 s row by row.
        written = insert_if_new(session, table).returning(*table.primary_key)
        session.execute(written, list(rows[start : start + 500])).all()


def _line_row(node: StarterNode, position: int, codes: set[str]) -> dict[str, Any]:
    duties = node.duties or (None, None, None, None)
    return {
        "code": node.code,
        "level": level_of(node.code).value,
        "parent_code": next((code for code in reversed(ancestors(node.code)) if code in codes), None),
        "position": position,
        "description_es": node.description_es,
        "description_en": node.description_en,
        "declarable": node.duties is not None,
        **dict(zip(DUTIES, duties, strict=True)),
        **courier_rules().verdict(node.code).columns(),
        "source": STARTER,
    }


def _keyword_rows(nodes: Sequence[StarterNode]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        for language, words in ((Language.SPANISH, node.keywords_es), (Language.ENGLISH, node.keywords_en)):
            seen: set[str] = set()
            for word in words:
                shown, normal = checked(word)
                if normal in seen:
                    continue
                seen.add(normal)
                yield {
                    "line_code": node.code,
                    "language": language.value,
                    "text": shown,
                    "normalized": normal,
                    "source": KeywordSource.STARTER.value,
                    "state": KeywordState.APPROVED.value,
                    "created_by": _ACTOR,
                }


def _headings() -> Iterator[StarterNode]:
    for row in _rows("headings-"):
        yield StarterNode(row["code"], row["description_es"], row["description_en"])


def _lines() -> Iterator[StarterNode]:
    for row in _rows("lines-"):
        dai, isc, ispc, isv = (Decimal(row[name]) for name in DUTIES)
        yield StarterNode(
            row["code"],
            row["description_es"],
            row["description_en"],
            (dai, isc, ispc, isv),
            _words(row["keywords_es"]),
            _words(row["keywords_en"]),
        )


def _words(cell: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in cell.split("|") if word.strip())


def _rows(prefix: str) -> Iterator[dict[str, str]]:
    folder = resources.files(__package__).joinpath("starter")
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.startswith(prefix) and file.name.endswith(".csv"):
            with file.open(encoding="utf-8") as handle:
                yield from csv.DictReader(handle, strict=True)
