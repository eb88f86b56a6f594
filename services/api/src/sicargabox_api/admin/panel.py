"""The Panel: three buttons, what runs now with its bars, the queues, Redis. Each part is polled and fails alone."""

from __future__ import annotations

from typing import Any

import structlog
from anyio.to_thread import run_sync
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette_admin.i18n import gettext
from starlette_admin.routing import route

from sicargabox_api.admin.fields import actor_words
from sicargabox_api.admin.language import _, number, told_moment
from sicargabox_api.admin.redis_page import DATABASE_WORDS, fault_words
from sicargabox_api.admin.refusals import internal_error, sentence
from sicargabox_api.admin.report_page import ReportPage
from sicargabox_api.admin.staff import StaffServices, actor, may
from sicargabox_api.admin.task_words import QUEUE_WORDS, STATE_TONES, STATE_WORDS, percent, task_word
from sicargabox_api.admin.views.task_history import cancel_text, duration, progress_text, seconds_text, why_it_waits
from sicargabox_api.problems import status_of
from sicargabox_core.accounts.models import Role
from sicargabox_core.db import db_now
from sicargabox_core.errors import SicargaBoxError
from sicargabox_core.redis_report import memory_report
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.tasks.contracts import FINAL_STATES, GENERATE_KEYWORDS, REBUILD_INDEX, State
from sicargabox_core.tasks.models import TaskRow
from sicargabox_core.tasks.queues import queue_figures
from sicargabox_core.tasks.store import DEAD_LETTERS_COUNTED, TaskView, dead_letters_by_task

log = structlog.get_logger(__name__)

# What the Panel's buttons may start; the API starts the rest.
STARTED_HERE = {spec.name: spec for spec in (REBUILD_INDEX, GENERATE_KEYWORDS)}
_SHOWN_TASKS = 20
_WATCHED_TASKS = 20
_UNFINISHED = [state.value for state in State if state not in FINAL_STATES]
_REDIS_SECONDS = 0.3


class Panel(ReportPage):
    """The first page."""

    menu_label = _("Panel")
    icon = "fa-solid fa-gauge"
    path = "/"
    route_name = "index"

    def __init__(self, services: StaffServices) -> None:
        super().__init__(services)
        self._broker = connect(services.settings, Db.BROKER, replica_ok=True, timeout=_REDIS_SECONDS)

    @route("")
    async def index(self, request: Request) -> Response:
        """The page; its figures come with the first poll."""
        told = {"may_start": may(request, Role.OPERATOR), "words": _script_words()}
        return self._answer(request, "panel.html", told)

    @route("/panel/state")
    async def state(self, request: Request) -> Response:
        """Unfinished tasks, those the page watches, the queues; polled every 2 s."""
        watched = [task_id[:36] for task_id in request.query_params.get("watch", "").split(",") if task_id]
        may_cancel = may(request, Role.OPERATOR)
        return JSONResponse(await run_sync(self._state, watched[:_WATCHED_TASKS], may_cancel))

    @route("/panel/redis")
    async def redis(self, request: Request) -> Response:
        """Memory against the budgets; measured on request only, every 10 s."""
        return JSONResponse(await run_sync(self._redis))

    @route("/panel/start/{name}", methods=["POST"])
    async def start(self, request: Request) -> Response:
        """Starts a task; answers with it, or with the one that runs already."""
        spec = STARTED_HERE.get(request.path_params["name"])
        if spec is None:
            raise HTTPException(404)
        if not may(request, Role(spec.role)):
            return JSONResponse({"message": gettext("Your role does not allow this.")}, 403)
        by, request_id = actor(request), getattr(request.state, "request_id", None)
        try:
            submission = await run_sync(
                lambda: self._services.tasks.submit(spec, spec.payload(), initiated_by=by, request_id=request_id)
            )
        except SicargaBoxError as error:
            return JSONResponse({"message": sentence(error)}, status_of(error))
        return JSONResponse({"task_id": submission.task.id, "already_running": submission.already_running})

    @route("/panel/cancel/{task_id}", methods=["POST"])
    async def cancel(self, request: Request) -> Response:
        """Cancels a task and says what became of that."""
        if not may(request, Role.OPERATOR):
            return JSONResponse({"message": gettext("Your role does not allow this.")}, 403)
        by, task_id = actor(request), request.path_params["task_id"][:36]
        try:
            outcome = await run_sync(lambda: self._services.tasks.cancel(task_id, by=by))
        except SicargaBoxError as error:
            return JSONResponse({"message": sentence(error)}, status_of(error))
        except SQLAlchemyError:
            log.exception("a task could not be cancelled", task_id=task_id)
            return JSONResponse({"message": internal_error(request)}, 500)
        return JSONResponse({"message": cancel_text(outcome)})

    # --- figures --------------------------------------------------------------------------------------------------
    def _state(self, watched: list[str], may_cancel: bool) -> dict[str, Any]:
        service = self._services.tasks
        top = [task for task in service.list(states=_UNFINISHED, limit=100).items if task.parent_id is None]
        shown = {task.id: service.get(task.id) for task in top[:_SHOWN_TASKS]}
        for task_id in watched:
            if task_id not in shown:
                try:
                    shown[task_id] = service.get(task_id)
                except SicargaBoxError:
                    continue
        return {
            "tasks": [_task(task, may_cancel) for task in shown.values()],
            "more": max(0, len(top) - _SHOWN_TASKS),
            "summary": self._summary(),
            "queues": [
                {
                    "name": str(QUEUE_WORDS.get(queue.queue, queue.queue)),
                    "queue": queue.queue,
                    "waiting": queue.waiting + queue.delayed,
                    "running": queue.running,
                    "oldest": seconds_text(queue.oldest_age_seconds) if queue.waiting else "—",
                    "workers": queue.workers,
                    "without": queue.without_message,
                }
                for queue in queue_figures(self._services.database, self._broker)
            ],
        }

    def _summary(self) -> dict[str, Any]:
        with self._services.database.read() as session:
            failures = session.scalar(
                select(func.count())
                .select_from(TaskRow)
                .where(
                    TaskRow.finished_at > select(db_now(-86400.0)).scalar_subquery(),
                    TaskRow.state == State.FAILURE,
                    TaskRow.parent_id.is_(None),
                )
            )
            last = session.execute(
                select(TaskRow.result, TaskRow.finished_at)
                .where(TaskRow.name == REBUILD_INDEX.name, TaskRow.state == State.SUCCESS)
                .order_by(TaskRow.created_at.desc())
                .limit(1)
            ).first()
            ended = session.scalar(
                select(TaskRow.finished_at)
                .where(TaskRow.finished_at.is_not(None), TaskRow.parent_id.is_(None))
                .order_by(TaskRow.created_at.desc())
                .limit(1)
            )
            dead = sum(dead_letters_by_task(session).values())
        return {
            "failures": failures or 0,
            "dead": number(dead) if dead < DEAD_LETTERS_COUNTED else f"{number(dead)}+",
            "any_dead": dead > 0,
            "documents": number((last.result or {}).get("documents", 0)) if last else None,
            "built": told_moment(last.finished_at) if last and last.finished_at else None,
            "last_ended": told_moment(ended) if ended else None,
        }

    def _redis(self) -> dict[str, Any]:
        try:
            report = memory_report(self._services.settings)
        except SicargaBoxError as error:
            return {"error": sentence(error)}
        return {
            "used": report.used,
            "maximum": report.maximum,
            "policy": report.policy,
            "role": _role_word(report.role),
            "replicas": len(report.replicas),
            "clients": report.clients,
            "evicted": report.evicted,
            "faults": [fault_words(one) for one in report.faults],
            "version": report.version,
            "databases": [
                {"db": one.db, "name": one.name, "keys": one.keys, "bytes": one.bytes, "budget": one.budget}
                for one in report.databases
            ],
        }


def _task(task: TaskView, may_cancel: bool) -> dict[str, Any]:
    ended = task.is_final
    return {
        "id": task.id,
        "title": str(task_word(task.name)),
        "state": task.state.value,
        "word": str(STATE_WORDS.get(task.shown_state, task.shown_state)),
        "tone": STATE_TONES.get(task.shown_state, "secondary"),
        "percent": percent(task),
        "current": task.progress_current,
        "total": task.progress_total,
        "by": actor_words(task.initiated_by),
        "counted": progress_text(task)["text"],
        "took": seconds_text(duration(task)),
        "why": why_it_waits(task) if not task.cancel_requested_at else gettext("Cancelling…"),
        "error": task.error_message if task.state == "FAILURE" else None,
        "ended": ended,
        "can_cancel": may_cancel and not ended and task.cancel_requested_at is None,
    }


def _role_word(role: str) -> str:
    return {"master": gettext("primary"), "slave": gettext("replica")}.get(role, role)


def _script_words() -> dict[str, str]:
    """What the Panel's script says, in the language of the page."""
    return {
        "session_ended": gettext("Your session ended. Sign in again."),
        "offline": gettext("No connection; trying again…"),
        "started": gettext("Started"),
        "already_running": gettext("This task is already running."),
        "failed": gettext("It could not be started."),
        "no_tasks": gettext("No task is running."),
        "cancel": gettext("Cancel"),
        "by": gettext("by"),
        "no_worker": gettext("no worker listens"),
        "unknown": gettext("unknown: Redis does not answer"),
        "redis_away": gettext("Redis does not answer. Tasks are accepted and wait."),
        "memory": gettext("Memory"),
        "keys": gettext("keys"),
        "role": gettext("Role"),
        "replicas": gettext("Replicas"),
        "policy": gettext("Policy"),
        "evicted": gettext("Evicted keys"),
        **{name: str(word) for name, word in DATABASE_WORDS.items()},
        "dead": gettext("{count} failed and were not repeated"),
        "without": gettext("{count} without a message"),
        "index_none": gettext("No index has been built yet."),
        "index": gettext("Index: {count} lines, built"),
        "ended": gettext("The last one ended"),
        "failures": gettext("{count} tasks failed in 24 hours"),
        "no_failures": gettext("No task failed in 24 hours"),
        "more": gettext("and {count} more"),
    }
