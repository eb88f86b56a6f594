"""The page «Calidad»: how well the search finds, how that developed, and what it misses; measure it again."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from anyio.to_thread import run_sync
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette_admin.flash import flash
from starlette_admin.helpers import detail_url
from starlette_admin.i18n import gettext
from starlette_admin.routing import route

from sicargabox_api.admin.language import _, number, told_moment, told_share
from sicargabox_api.admin.refusals import sentence, sentence_of_code
from sicargabox_api.admin.report_page import ReportPage
from sicargabox_api.admin.staff import actor, may
from sicargabox_api.admin.task_words import STATE_WORDS, percent
from sicargabox_api.admin.trend_plot import Plot, trend
from sicargabox_core.accounts.models import Role
from sicargabox_core.errors import SicargaBoxError
from sicargabox_core.search import evaluation
from sicargabox_core.search.baseline import Change
from sicargabox_core.search.evaluate import Score
from sicargabox_core.search.quality_report import Report, goals_of
from sicargabox_core.tasks.contracts import EVALUATE, FINAL_STATES, State
from sicargabox_core.tasks.store import TaskView

# A year of weekly reports; more points than that lie on each other on a phone.
_PLOTTED = 52
_LISTED = 10
_WORST = 20
_UNFINISHED = sorted(set(State) - FINAL_STATES)
_ENDED = sorted(FINAL_STATES)

_KIND_WORDS: dict[str, Any] = {
    "plain": _("Everyday Spanish"),
    "english": _("Everyday English"),
    "typo": _("Misspelt"),
    "brand": _("Brands and models"),
    "generic": _("Vague words"),
    "mixed": _("Spanish and English mixed"),
    "title": _("Long titles of shops"),
}
_LANGUAGE_WORDS: dict[str, Any] = {"es": _("Spanish"), "en": _("English"), "mixed": _("Both in one")}
_MEASURE_WORDS: dict[str, Any] = {
    "hit1": _("right first"),
    "hit5": _("right among five"),
    "mrr": _("mean of 1/place"),
    "none": _("nothing found"),
}
_ALL: Any = _("All")


class QualityPage(ReportPage):
    """For everybody who is signed in; operators measure."""

    menu_label = _("Quality")
    icon = "fa-solid fa-bullseye"
    path = "/quality"
    route_name = "quality_page"

    @route("")
    async def index(self, request: Request) -> Response:
        """The newest report beside the ones before."""
        told = await run_sync(self._told)
        may_start = may(request, Role(EVALUATE.role))
        return self._answer(request, "quality.html", {"may_start": may_start, **told})

    @route("/start", methods=["POST"], name="start_quality")
    async def start(self, request: Request) -> Response:
        """Starts a measurement and leads to its task, or to the one that is under way."""
        if not may(request, Role(EVALUATE.role)):
            raise HTTPException(HTTPStatus.FORBIDDEN, gettext("Your role does not allow this."))
        by, request_id = actor(request), getattr(request.state, "request_id", None)
        try:
            submission = await run_sync(
                lambda: self._services.tasks.submit(
                    EVALUATE, EVALUATE.payload(), initiated_by=by, request_id=request_id
                )
            )
        except SicargaBoxError as error:
            flash(request, sentence(error), "error")
            return RedirectResponse(str(request.url_for("admin:quality_page")), status_code=HTTPStatus.SEE_OTHER)
        if submission.already_running:
            flash(request, gettext("This task is already running."), "success")
        return RedirectResponse(detail_url(request, "tasks", submission.task.id), status_code=HTTPStatus.SEE_OTHER)

    def _told(self) -> dict[str, Any]:
        tasks = self._services.tasks
        with self._services.database.read() as session:
            kept = evaluation.kept(session, _PLOTTED)
        running = next(iter(tasks.list(states=_UNFINISHED, names=[EVALUATE.name], limit=1).items), None)
        ended = next(iter(tasks.list(states=_ENDED, names=[EVALUATE.name], limit=1).items), None)
        told: dict[str, Any] = {
            "running": _running(tasks.get(running.id)) if running else None,
            "failure": _failure(ended),
            "schedule": self._services.settings.evaluation_schedule,
            "report": None,
        }
        if kept:
            told |= _newest(kept[0]) | {"history": [_point(one) for one in kept[:_LISTED]], "plot": _plot(kept)}
        return told


def _running(task: TaskView) -> dict[str, Any]:
    done = percent(task)
    return {"id": task.id, "word": str(STATE_WORDS.get(task.shown_state, task.shown_state)), "percent": done}


def _failure(task: TaskView | None) -> dict[str, Any] | None:
    if task is None or task.state is not State.FAILURE or task.finished_at is None:
        return None
    return {
        "id": task.id,
        "at": told_moment(task.finished_at),
        "why": sentence_of_code(task.error_code),
        "exact": task.error_message,
    }


def _newest(kept: evaluation.Kept) -> dict[str, Any]:
    report = kept.evaluation.report
    changes = kept.evaluation.changes
    return {
        "report": {
            "task": kept.task_id,
            "at": told_moment(kept.created_at),
            "engine": report.engine,
            "queries": number(report.tally().queries),
            "left_out": number(report.left_out) if report.left_out else None,
        },
        "groups": _groups(report),
        "goals": [
            {
                "group": _word(_KIND_WORDS, one.goal.kind) if one.goal.kind else str(_ALL),
                "measure": str(_MEASURE_WORDS[one.goal.measure]),
                "bound": _told_value(one.goal.measure, one.bound),
                "most": one.goal.measure == "none",
                "value": _told_value(one.goal.measure, one.value),
                "met": one.met,
            }
            for one in goals_of(report)
        ],
        "compared": bool(changes),
        "changes": _changes(changes),
        "misses": [
            {**miss.model_dump(), "kind": _word(_KIND_WORDS, miss.kind), "lang": _word(_LANGUAGE_WORDS, miss.lang)}
            for miss in kept.evaluation.misses[:_WORST]
        ],
    }


def _groups(report: Report) -> list[dict[str, Any]]:
    """The counted half, all together, by kind and by language."""
    rows = [_row(str(_ALL), report.score(half="counted"), "all")]
    rows += [_row(_word(_KIND_WORDS, kind), report.score(half="counted", kind=kind), "kind") for kind in report.kinds()]
    rows += [
        _row(_word(_LANGUAGE_WORDS, lang), report.score(half="counted", lang=lang), "lang")
        for lang in report.languages()
    ]
    return [row for row in rows if row["queries"] != "0"]


def _row(name: str, score: Score, part: str) -> dict[str, Any]:
    shares = (score.hit1, score.hit5, score.hit10, score.none)
    return {
        "name": name,
        "part": part,
        "queries": number(score.queries),
        "shares": [(told_share(one.value), f"{told_share(one.low, 0)}-{told_share(one.high, 0)}") for one in shares],
        "mrr": (_decimal(score.mrr), f"{_decimal(score.mrr_low, 2)}-{_decimal(score.mrr_high, 2)}"),
    }


def _changes(changes: list[Change]) -> list[dict[str, Any]]:
    """A row for each group in which anything changed, a cell for each depth."""
    rows = []
    for group in dict.fromkeys(one.group for one in changes if one.lost or one.gained):
        cells = sorted((one for one in changes if one.group == group), key=lambda one: one.depth)
        rows.append(
            {
                "group": str(_ALL) if group == "all" else _word(_KIND_WORDS, group),
                "cells": [{"lost": number(one.lost), "gained": number(one.gained), "loss": one.loss} for one in cells],
            }
        )
    return rows


def _point(kept: evaluation.Kept) -> dict[str, Any]:
    score = kept.evaluation.report.score(half="counted")
    return {
        "task": kept.task_id,
        "at": told_moment(kept.created_at),
        "engine": kept.evaluation.report.engine,
        "hit1": told_share(score.hit1.value),
        "hit5": told_share(score.hit5.value),
        "none": told_share(score.none.value),
        "loss": any(change.loss for change in kept.evaluation.changes),
    }


def _plot(kept: list[evaluation.Kept]) -> Plot | None:
    """Of one report there is nothing to draw."""
    scores = [one.evaluation.report.score(half="counted") for one in reversed(kept)]
    if len(scores) < 2:
        return None
    return trend(
        [
            (str(_MEASURE_WORDS["hit5"]), [one.hit5.value for one in scores]),
            (str(_MEASURE_WORDS["hit1"]), [one.hit1.value for one in scores]),
        ],
        [(one.hit5.low, one.hit5.high) for one in scores],
    )


def _word(words: dict[str, Any], name: str) -> str:
    return str(words.get(name, name or "—"))


def _told_value(measure: str, value: float) -> str:
    return _decimal(value) if measure == "mrr" else told_share(value)


def _decimal(value: float, places: int = 3) -> str:
    return f"{value:.{places}f}"
