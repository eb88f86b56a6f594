"""The page «Índice»: how the search index is, what its last tasks found; rebuild it, audit it, delete it."""

from __future__ import annotations

import re
from datetime import datetime
from http import HTTPStatus
from typing import Any

from anyio.to_thread import run_sync
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette_admin.flash import flash
from starlette_admin.i18n import gettext
from starlette_admin.routing import route

from sicargabox_api.admin.fields import actor_words
from sicargabox_api.admin.language import _, number, told_moment
from sicargabox_api.admin.redis_page import megabytes
from sicargabox_api.admin.refusals import sentence, sentence_of_code
from sicargabox_api.admin.report_page import ReportPage
from sicargabox_api.admin.staff import StaffServices, actor, may
from sicargabox_api.admin.task_words import STATE_TONES, STATE_WORDS, percent, task_word
from sicargabox_api.admin.views.task_history import cancel_text, duration, progress_text, seconds_text, why_it_waits
from sicargabox_core.accounts.models import Role
from sicargabox_core.errors import Conflict, SicargaBoxError
from sicargabox_core.search.engine import EngineStatus, Fault, Proof
from sicargabox_core.search.report import IndexReport, index_report, request_delete
from sicargabox_core.search.service import make_engine
from sicargabox_core.tasks.contracts import (
    AUDIT_INDEX,
    DELETE_INDEX,
    REBUILD_INDEX,
    AuditIndexResult,
    State,
)
from sicargabox_core.tasks.store import Submission, TaskView

_STARTED_HERE = {spec.name: spec for spec in (REBUILD_INDEX, AUDIT_INDEX)}
_LISTED_CODES = 10
# While a task runs its bar is asked for as often as the Panel's.
_BUSY_MS, _IDLE_MS = 2_000, 10_000

_ENGINE_WORDS: dict[str, Any] = {"tantivy": _("tantivy (built in)"), "elasticsearch": "Elasticsearch"}
_ROLE_WORDS: dict[str, Any] = {
    "serving": _("in service"),
    "previous": _("the one before"),
    "building": _("being built"),
}
# By health: tone, the word for it, the sentence, what it means for customers, what to do.
_HEALTH_WORDS: dict[str, tuple[str, Any, Any, Any, Any]] = {
    "green": ("success", _("Good"), _("It works"), _("Searches are answered by the index."), None),
    "yellow": (
        "warning",
        _("No spare copy"),
        _("It works, without a spare copy"),
        _("Searches are answered by the index. If its server is lost, it must be rebuilt."),
        _("Add a second search server, or set SICARGABOX_SEARCH_REPLICAS to 0 if one is meant to be enough."),
    ),
    "red": (
        "danger",
        _("Damaged"),
        _("The index is damaged"),
        _("A part of the index cannot be read: searches are answered from the database, slower and less precise."),
        _("See the search server's log; if the part does not come back, rebuild the index. No data is lost."),
    ),
    "away": (
        "danger",
        _("Away"),
        _("The search server does not answer"),
        _("Searches are answered from the database: they work, but slower, less precise and without suggestions."),
        _(
            "See that the search server runs and that SICARGABOX_SEARCH_URL leads to it. Tasks of the index wait and "
            "are tried again by themselves; when it is back, audit the index."
        ),
    ),
}
_FROM_THE_DATABASE: Any = _(
    "Searches are answered from the database: they work, but slower, less precise and without suggestions."
)
# Where the kind of fault says more than the health.
_FAULT_WORDS: dict[Fault, tuple[str, Any, Any, Any, Any]] = {
    "no_index": (
        "warning",
        _("No index"),
        _("There is no index that can answer"),
        _FROM_THE_DATABASE,
        _("Rebuild the index: it takes seconds to a few minutes, and searches go on meanwhile."),
    ),
    "unreadable": (
        "danger",
        _("Damaged"),
        _("The index, or what is known of it, cannot be read"),
        _FROM_THE_DATABASE,
        _("Rebuild the index. No data is lost."),
    ),
    "other_mapping": (
        "warning",
        _("Of another release"),
        _("It works, with the index of another release"),
        _("Searches are answered by the index, but changed lines and keywords do not reach it."),
        _("Rebuild the index: it takes seconds to a few minutes, and searches go on meanwhile."),
    ),
    "several_indexes": (
        "danger",
        _("Several"),
        _("The search server has more than one index in service"),
        _FROM_THE_DATABASE,
        _("In Elasticsearch, take the alias away from all of them but the newest; then audit the index."),
    ),
    "name_taken": (
        "danger",
        _("Name taken"),
        _("On the search server another index has the name that ours needs"),
        _FROM_THE_DATABASE,
        _(
            "Delete that index in Elasticsearch, or set another name in SICARGABOX_SEARCH_INDEX; then rebuild the "
            "index."
        ),
    ),
    "setting": (
        "danger",
        _("Setting"),
        _("The search server cannot be used as it is set"),
        _FROM_THE_DATABASE,
        _("Correct the setting that the exact words name: an address, a key, a password or a certificate."),
    ),
}
_FINDING_WORDS: tuple[tuple[str, Any, Any], ...] = (
    ("missing", _("Missing in the index"), _("customers do not find them")),
    ("extra", _("Too many in the index"), _("the tariff does not have them any more")),
    ("stale", _("Out of date"), _("found by old words")),
)


class IndexPage(ReportPage):
    """For everybody who is signed in; operators rebuild and audit, administrators delete."""

    menu_label = _("Index")
    icon = "fa-solid fa-layer-group"
    path = "/index"
    route_name = "index_page"

    def __init__(self, services: StaffServices) -> None:
        super().__init__(services)
        self._engine = make_engine(services.settings)

    @route("")
    async def index(self, request: Request) -> Response:
        """The page as the index is now; its script asks again for the part that changes."""
        report = await run_sync(index_report, self._engine, self._services.tasks)
        told = _told(report) | {
            "may_start": may(request, Role(REBUILD_INDEX.role)),
            "may_delete": may(request, Role(DELETE_INDEX.role)),
        }
        template = "_index_report.html" if request.query_params.get("part") else "index_page.html"
        return self._answer(request, template, told)

    @route("/start/{name}", methods=["POST"], name="start_index")
    async def start(self, request: Request) -> Response:
        """Starts a rebuild or an audit."""
        spec = _STARTED_HERE.get(request.path_params["name"])
        if spec is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        self._allow(request, Role(spec.role))
        by, request_id = actor(request), _request_id(request)

        def begin() -> str:
            if spec is AUDIT_INDEX and self._has_none():
                raise Conflict("there is no index to audit", field="generation", remedy="Rebuild the index.")
            return _started_text(
                self._services.tasks.submit(spec, spec.payload(), initiated_by=by, request_id=request_id)
            )

        return await self._do(request, begin)

    @route("/cancel/{task_id}", methods=["POST"], name="cancel_index")
    async def cancel(self, request: Request) -> Response:
        """Cancels a task and says what became of that."""
        self._allow(request, Role.OPERATOR)
        by, task_id = actor(request), request.path_params["task_id"][:36]
        return await self._do(request, lambda: cancel_text(self._services.tasks.cancel(task_id, by=by)))

    @route("/delete", methods=["POST"], name="delete_index")
    async def delete(self, request: Request) -> Response:
        """Deletes the index if its name was typed and is the one that serves."""
        self._allow(request, Role(DELETE_INDEX.role))
        form = await request.form()
        seen, typed = str(form.get("generation", "")), str(form.get("typed", "")).strip()
        if not typed or typed != seen:
            flash(request, gettext("The name was not typed as it is written. Nothing was deleted."), "error")
            return self._back(request)
        by, request_id = actor(request), _request_id(request)
        return await self._do(
            request,
            lambda: _started_text(
                request_delete(self._engine, self._services.tasks, typed, by=by, request_id=request_id)
            ),
        )

    def _has_none(self) -> bool:
        status = self._engine.status()
        return status.generation is None and status.health != "away"

    # --- answers -----------------------------------------------------------------------------------------------------
    @staticmethod
    def _allow(request: Request, role: Role) -> None:
        if not may(request, role):
            raise HTTPException(HTTPStatus.FORBIDDEN, gettext("Your role does not allow this."))

    async def _do(self, request: Request, work: Any) -> Response:
        try:
            flash(request, await run_sync(work), "success")
        except SicargaBoxError as error:
            flash(request, _refusal(error), "error")
        return self._back(request)

    @staticmethod
    def _back(request: Request) -> Response:
        return RedirectResponse(str(request.url_for("admin:index_page")), status_code=HTTPStatus.SEE_OTHER)


def _request_id(request: Request) -> str | None:
    found: str | None = getattr(request.state, "request_id", None)
    return found


def _refusal(error: SicargaBoxError) -> str:
    if isinstance(error, Conflict) and error.field == "generation":
        return gettext("The index is another one than you saw, or there is none. Nothing was done.")
    return sentence(error)


def _started_text(submission: Submission) -> str:
    word = str(task_word(submission.task.name))
    if submission.follow_up:
        return gettext("%(task)s: it begins when the running one ends.") % {"task": word}
    if submission.already_running:
        return gettext("This task is already running.")
    return gettext("%(task)s: started.") % {"task": word}


# --- what is told ----------------------------------------------------------------------------------------------------
def _told(report: IndexReport) -> dict[str, Any]:
    status = report.status
    running = [_running(task) for task in report.running]
    return {
        "status": status,
        "engine": str(_ENGINE_WORDS.get(status.engine, status.engine)),
        "state": _state(status),
        "documents": number(status.documents),
        "size": megabytes(status.size),
        "generations": [
            {
                "name": one.name,
                "role": str(_ROLE_WORDS.get(one.role, one.role)),
                "documents": "—" if one.documents is None else number(one.documents),
                "size": "—" if one.size is None else megabytes(one.size),
                "built": _moment(one.built_at),
            }
            for one in status.generations
        ],
        "built": _built(report),
        "failed_rebuild": _failure(report.last_rebuild),
        "audit": _audit(report),
        "running": running,
        "again": _BUSY_MS if running else _IDLE_MS,
        "spoken": "; ".join(task["spoken"] for task in running),
        # Kept while it is being built anew or deleted: a rebuild and a delete never stand beside each other.
        "busy": any(task.name in (REBUILD_INDEX.name, DELETE_INDEX.name) for task in report.running),
        "pattern": None if status.generation is None else re.escape(status.generation).replace(r"\-", "-"),
    }


def _state(status: EngineStatus) -> dict[str, Any]:
    """The first thing to read."""
    known = _FAULT_WORDS.get(status.fault) if status.fault else None
    tone, word, told, meaning, remedy = known or _HEALTH_WORDS[status.health]
    return {
        "tone": tone,
        "word": str(word),
        "sentence": str(told),
        "meaning": str(meaning),
        "remedy": None if remedy is None else str(remedy),
    }


def _moment(text: str | None) -> dict[str, str] | None:
    return None if text is None else told_moment(datetime.fromisoformat(text))


def _built(report: IndexReport) -> dict[str, Any] | None:
    """The rebuild that made what serves: when, how long, what was counted; who asked, where its task is the last."""
    status, task = report.status, report.last_rebuild
    if status.built_at is None:
        return None
    ours = task is not None and task.state is State.SUCCESS and (status.generation or "").find(task.id) >= 0
    return {
        "at": _moment(status.built_at),
        "took": seconds_text(status.seconds),
        "proof": _proof(status.proof),
        "task": task.id if task and ours else None,
        "by": actor_words(task.initiated_by) if task and ours else None,
    }


def _proof(proof: Proof | None) -> str | None:
    if proof is None:
        return None
    counts = {"given": number(proof.given), "held": number(proof.held)}
    return gettext("%(given)s documents given, %(held)s counted in the index before it was put into service") % counts


def _failure(task: TaskView | None) -> dict[str, Any] | None:
    if task is None or task.state is State.SUCCESS or task.finished_at is None:
        return None
    return {
        "id": task.id,
        "word": str(STATE_WORDS[task.state]),
        "at": told_moment(task.finished_at),
        "why": sentence_of_code(task.error_code),
        "exact": task.error_message,
    }


def _audit(report: IndexReport) -> dict[str, Any] | None:
    task = report.last_audit
    if task is None or task.finished_at is None:
        return None
    told: dict[str, Any] = {
        "id": task.id,
        "at": told_moment(task.finished_at),
        "by": actor_words(task.initiated_by),
        "outdated": report.audit_outdated,
        "failure": _failure(task),
        "ok": False,
        "findings": [],
    }
    if task.state is State.SUCCESS:
        result = AuditIndexResult.model_validate(task.result)
        told |= {"ok": result.ok, "index": number(result.index), "database": number(result.database)}
        told["findings"] = [
            {
                "name": str(word),
                "meaning": str(meaning),
                "count": number(getattr(result, kind)),
                "codes": getattr(result, f"{kind}_codes")[:_LISTED_CODES],
                "more": getattr(result, kind) > _LISTED_CODES,
                "has_line": kind != "extra",
            }
            for kind, word, meaning in _FINDING_WORDS
            if getattr(result, kind)
        ]
    return told


def _running(task: TaskView) -> dict[str, Any]:
    done = percent(task)
    title, word = str(task_word(task.name)), str(STATE_WORDS.get(task.shown_state, task.shown_state))
    counted = progress_text(task)["text"]
    return {
        "id": task.id,
        "title": title,
        "word": word,
        "tone": STATE_TONES.get(task.shown_state, "secondary"),
        "percent": done,
        "counted": counted,
        "took": seconds_text(duration(task)),
        "by": actor_words(task.initiated_by),
        "why": gettext("Cancelling…") if task.cancel_requested_at else why_it_waits(task),
        "can_cancel": task.cancel_requested_at is None,
        # Quarters: who listens to the page is told four times, not at every look.
        "spoken": f"{title}: {word}" + ("" if done is None else f" {done // 25 * 25} %"),
    }
