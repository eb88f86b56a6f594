"""The learning-worker's measurement: how well this installation's search finds what our own labelled queries want."""

from __future__ import annotations

from sicargabox_core.errors import TaskFailed
from sicargabox_core.search import evaluation
from sicargabox_core.search.evaluate import OWN_SET, read_set
from sicargabox_core.search.quality_report import answerable, goals_of
from sicargabox_core.search.service import SearchService
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import EVALUATE, Evaluate, EvaluateResult
from sicargabox_core.tasks.worker import handles
from sicargabox_learning.app import app


@handles(app, EVALUATE)
def evaluate(_payload: Evaluate, ctx: TaskContext) -> EvaluateResult:
    """Asks every query whose headings the catalogue has; run again, it keeps the one report of its task."""
    search = SearchService(ctx.database, ctx.settings)
    if search.engine.status().fault == "no_index":
        raise TaskFailed("there is no search index to measure", remedy="Rebuild it first.")
    own = read_set(OWN_SET)
    with ctx.session() as session:
        headings = evaluation.headings_in_force(session)
        before = evaluation.report_before(session, ctx.task_id)
    queries = answerable(own, headings)
    if not queries:
        raise TaskFailed("the catalogue has no heading of our labelled queries", remedy="Import the tariff first.")
    outcomes = evaluation.ask(
        search, queries, on_step=lambda done, total: ctx.progress(done, total, f"{done}/{total} queries")
    )
    made = evaluation.evaluated(search.engine.name, outcomes, left_out=len(own) - len(queries), before=before)
    ctx.effects(lambda session: evaluation.keep(session, ctx.task_id, made, most=ctx.settings.evaluation_reports_kept))
    counted = made.report.score(half="counted")
    return EvaluateResult(
        engine=made.report.engine,
        queries=len(queries),
        left_out=made.report.left_out,
        hit1=counted.hit1.value,
        hit5=counted.hit5.value,
        none=counted.none.value,
        mrr=counted.mrr,
        losses=[f"{change.group}, among {change.depth}" for change in made.changes if change.loss],
        goals_missed=[one.goal.name for one in goals_of(made.report) if not one.met],
    )
