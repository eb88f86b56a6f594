"""Measures this installation's own search with labelled queries, and keeps what it came to.

What is kept of the half that is only counted is counts, and places by a hash of the query.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from pydantic import BaseModel
from sqlalchemy import Row, Table, delete, func, select
from sqlalchemy.orm import Session

from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.db import insert_if_new
from sicargabox_core.errors import Unavailable
from sicargabox_core.search.baseline import Change, compare
from sicargabox_core.search.evaluate import Labelled, Outcome, measure
from sicargabox_core.search.models import SearchEvaluation
from sicargabox_core.search.quality_report import Report
from sicargabox_core.search.service import SearchService

# As many headings as are counted: no heading repeats before all have had their place.
PAGE = 10
_MOST_MISSES = 40
_FEW = 5

_evaluations = cast(Table, SearchEvaluation.__table__)


class Miss(BaseModel):
    """A query of the open half whose heading is not among the first five. ``place`` 0: not among the first ten."""

    query: str
    kind: str
    lang: str
    right: list[str]
    shown: list[str]
    place: int


class Evaluation(BaseModel):
    """What one measurement came to, as it is kept."""

    report: Report
    changes: list[Change]
    misses: list[Miss]


@dataclass(frozen=True, slots=True)
class Kept:
    """An evaluation that was kept, without the places of its queries. ``task_id``: of the task that made it."""

    task_id: str
    created_at: datetime
    evaluation: Evaluation


def headings_in_force(session: Session) -> frozenset[str]:
    """The headings under which the catalogue has a line to declare; some have no row of their own."""
    return frozenset(
        session.scalars(
            select(func.substr(TariffLine.code, 1, 4))
            .where(TariffLine.declarable, TariffLine.retired_at.is_(None))
            .distinct()
        )
    )


def ask(
    search: SearchService,
    queries: Sequence[Labelled],
    *,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Outcome]:
    """Asks each query as the page does. Raises ``Unavailable`` when the index does not answer: SQL's are no figures."""
    done = 0

    def codes(query: str) -> list[str]:
        nonlocal done
        answer = search.search(query, limit=PAGE)
        if answer["degraded"]:
            raise Unavailable("the search index does not answer", remedy="See that it runs, or rebuild it.")
        done += 1
        on_step(done, len(queries))
        return [result["code"] for result in answer["results"]]

    return measure(queries, codes)


def evaluated(engine: str, outcomes: Sequence[Outcome], *, left_out: int, before: Report | None) -> Evaluation:
    """What these outcomes come to, against the report before."""
    return Evaluation(
        report=Report.of(engine, outcomes, left_out=left_out),
        changes=compare(before, outcomes) if before else [],
        misses=[
            Miss(
                query=one.labelled.query,
                kind=one.labelled.kind,
                lang=one.labelled.lang,
                right=sorted(one.labelled.headings),
                shown=list(one.shown),
                place=one.place or 0,
            )
            for one in worst(outcomes)[:_MOST_MISSES]
        ],
    )


def worst(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Queries of the open half whose heading is not among five: nothing found first, then nowhere, then far down."""
    missed = [one for one in outcomes if not one.labelled.counted and (one.place is None or one.place > _FEW)]
    return sorted(missed, key=lambda one: (one.found > 0, one.place is not None, -(one.place or 0)))


def keep(session: Session, task_id: str, evaluation: Evaluation, *, most: int) -> None:
    """Keeps it under the task's id, once however often it is told, and the newest ``most`` alone."""
    report = evaluation.report
    session.execute(
        insert_if_new(session, _evaluations).values(
            task_id=task_id,
            engine=report.engine,
            queries_sha256=report.queries_sha256,
            left_out=report.left_out,
            cells=[cell.model_dump() for cell in report.cells],
            places=report.places or {},
            changes=[change.model_dump() for change in evaluation.changes],
            misses=[miss.model_dump() for miss in evaluation.misses],
        )
    )
    newest = select(_evaluations.c.task_id).order_by(*_NEWEST_FIRST).limit(most)
    session.execute(delete(_evaluations).where(_evaluations.c.task_id.not_in(newest)))


def kept(session: Session, most: int) -> list[Kept]:
    """The newest evaluations, newest first."""
    rows = session.execute(select(*_SHOWN).order_by(*_NEWEST_FIRST).limit(most))
    return [_kept(row) for row in rows]


def report_before(session: Session, task_id: str) -> Report | None:
    """The newest report of another task, with the places of its queries."""
    row = session.execute(
        select(_evaluations).where(_evaluations.c.task_id != task_id).order_by(*_NEWEST_FIRST).limit(1)
    ).first()
    return None if row is None else _report(row, places=row.places)


_NEWEST_FIRST = (_evaluations.c.created_at.desc(), _evaluations.c.task_id.desc())
_SHOWN = [column for column in _evaluations.c if column.name != "places"]


def _kept(row: Row[*tuple[Any, ...]]) -> Kept:
    return Kept(
        row.task_id,
        row.created_at,
        Evaluation(
            report=_report(row, places=None),
            changes=[Change.model_validate(one) for one in row.changes],
            misses=[Miss.model_validate(one) for one in row.misses],
        ),
    )


def _report(row: Row[*tuple[Any, ...]], *, places: dict[str, int] | None) -> Report:
    return Report(
        engine=row.engine,
        queries_sha256=row.queries_sha256,
        left_out=row.left_out,
        cells=row.cells,
        places=places,
    )
