"""Every accepted task: who started it, how it goes, how it ended; repeat and cancel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, ClassVar

from anyio.to_thread import run_sync
from sqlalchemy import or_, select
from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette_admin.actions import ActionSelection, action, row_action
from starlette_admin.exceptions import ActionFailed
from starlette_admin.fields import IntegerField, JSONField, StringField
from starlette_admin.filters import FilterGroup
from starlette_admin.flash import flash
from starlette_admin.i18n import gettext

from sicargabox_api.admin.fields import ActorField, CodeField, MomentField, ShownField, WordField, stored_actor
from sicargabox_api.admin.language import _, number
from sicargabox_api.admin.refusals import sentence
from sicargabox_api.admin.safe_view import SafeModelView
from sicargabox_api.admin.staff import StaffServices, actor, may
from sicargabox_api.admin.task_words import QUEUE_WORDS, STATE_TONES, STATE_WORDS, percent, task_choices, task_word
from sicargabox_core.accounts.models import Role
from sicargabox_core.errors import InvalidInput, SicargaBoxError
from sicargabox_core.tasks import views
from sicargabox_core.tasks.contracts import FINAL_STATES
from sicargabox_core.tasks.models import TaskRow
from sicargabox_core.tasks.store import REPEATED_AT_ONCE, CancelOutcome, TaskView, dead_letters

# Parts shown at once on the page of a task.
PARTS = 50
_FILTERED_STATES = [(state, word) for state, word in STATE_WORDS.items() if state != "PROGRESS"]


def seconds_text(seconds: float | None) -> str | None:
    """A duration for people: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    if seconds is None:
        return None
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def duration(task: TaskView) -> float | None:
    """Seconds of the newest attempt so far."""
    if task.started_at is None:
        return None
    end = task.finished_at or datetime.now(UTC)
    return max(0.0, (end - task.started_at).total_seconds())


def progress_text(task: TaskView) -> dict[str, Any]:
    """A bar for a task that runs or has run, words for one that cannot say how far it is."""
    done = percent(task)
    if done is None:
        return {"percent": None, "text": "" if task.progress_current is None else f"{task.progress_current}"}
    counted = (
        f"{number(task.progress_current or 0)}/{number(task.progress_total)}" if task.progress_total else f"{done} %"
    )
    return {"percent": done, "text": counted}


class TaskHistory(SafeModelView):
    """The tasks, newest first."""

    key = "tasks"
    menu_label = _("Tasks")
    display_name = _("Task")
    icon = "fa-solid fa-list-check"
    export_role = Role.VIEWER
    search_columns = ("id", "name", "initiated_by", "request_id")
    default_columns: ClassVar[Sequence[str]] = (
        "name",
        "state",
        "progress",
        "created_at",
        "took",
        "initiated_by",
        "attempt",
    )
    detail_template = "task_detail.html"
    actions: Sequence[str] = ["repeat", "cancel"]
    row_actions: Sequence[str] = ["repeat_one", "cancel_one"]
    action_roles = dict.fromkeys(("repeat", "cancel", "repeat_one", "cancel_one"), Role.OPERATOR)
    fields: Sequence[Any] = [
        WordField("name", label=_("Task"), choices=task_choices(), list_template="fields/list/task_name.html"),
        WordField(
            "state",
            label=_("State"),
            choices=_FILTERED_STATES,
            more_words={"PROGRESS": STATE_WORDS["PROGRESS"]},
            tones=STATE_TONES,
            getter=lambda _request, row: row.view.shown_state,
        ),
        ShownField(
            "progress",
            label=_("Progress"),
            getter=lambda _request, row: progress_text(row.view),
            list_template="fields/bar.html",
            detail_template="fields/bar.html",
        ),
        MomentField("created_at", label=_("Accepted")),
        ShownField("took", label=_("Took"), getter=lambda _request, row: seconds_text(duration(row.view))),
        ActorField("initiated_by", label=_("Started by")),
        IntegerField("attempt", label=_("Attempts")),
        CodeField("id", label=_("Id"), copy_to_clipboard=True),
        WordField("queue", label=_("Queue"), choices=list(QUEUE_WORDS.items())),
        CodeField("parent_id", label=_("Part of")),
        CodeField("retried_from", label=_("Repeats")),
        CodeField("request_id", label=_("Request id")),
        CodeField("error_code", label=_("Error")),
        JSONField("payload", label=_("Arguments"), exclude_from_list=True, searchable=False),
        JSONField("result", label=_("Result"), exclude_from_list=True, searchable=False),
    ]
    fields_default_sort: Sequence[Any] = [("created_at", True), ("id", True)]

    def __init__(self, services: StaffServices, model: type[Any] = TaskRow) -> None:
        super().__init__(services, model)

    def searched(self, term: str) -> str:
        """Ids are lower case."""
        return term.strip().lower()

    def get_search_query(self, request: Request, term: str) -> Any:
        """People are looked for by their name alone too, as they are shown."""
        named = self.model.initiated_by.startswith(stored_actor(term), autoescape=True)
        return or_(super().get_search_query(request, term), named)

    # --- reading: rows with their view ----------------------------------------------------------------------------
    def get_list_query(self, request: Request) -> Any:
        """The parts of a task are on its own page; a search or a filter finds them here too."""
        return _without_parts(request, super().get_list_query(request))

    def get_count_query(self, request: Request) -> Any:
        """As many as the list has."""
        return _without_parts(request, super().get_count_query(request))

    def get_detail_query(self, request: Request) -> Any:
        """Any task, a part too."""
        return select(TaskRow)

    async def find_all(
        self,
        request: Request,
        skip: int = 0,
        limit: int = 100,
        q: str | None = None,
        sorts: Sequence[tuple[str, str]] | None = None,
        filters: FilterGroup | None = None,
    ) -> Sequence[Any]:
        """A page of rows, each with what ``TaskView`` says of it (a parent's progress is its children's sum)."""
        return await _with_views(request, await super().find_all(request, skip, limit, q, sorts, filters))

    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        """One row with its view."""
        row = await super().find_by_pk(request, pk)
        return None if row is None else (await _with_views(request, [row]))[0]

    async def find_by_pks(self, request: Request, pks: list[Any]) -> Sequence[Any]:
        """Rows with their views."""
        return await _with_views(request, await super().find_by_pks(request, pks))

    async def serialize(self, obj: Any, request: Request, *rest: Any, **more: Any) -> dict[str, Any]:
        """On the task's own page also its story, its relatives and, for operators, the trace of its error."""
        row = await super().serialize(obj, request, *rest, **more)
        if request.state.action == "DETAIL":
            asked = request.query_params
            row["_story"] = await run_sync(
                self._story,
                request.state.session,
                obj.view,
                may(request, Role.OPERATOR),
                asked.get("parts"),
                _number_of(asked.get("from")),
            )
        return row

    @staticmethod
    def _story(session: Session, task: TaskView, with_trace: bool, cursor: str | None, first: int) -> dict[str, Any]:
        page = views.Page((), None)
        if task.children_total:
            try:
                page = views.list_tasks(session, parent_id=task.id, before=cursor, limit=PARTS)
            except InvalidInput as error:
                raise HTTPException(HTTPStatus.NOT_FOUND) from error
        return {
            "first": first,
            "next": None if page.next_cursor is None else {"parts": page.next_cursor, "from": first + PARTS},
            "task": task,
            "title": str(task_word(task.name)),
            "why": why_it_waits(task),
            "took": seconds_text(duration(task)),
            "trace": views.traceback_of(session, task.id) if with_trace else None,
            "children": [
                {
                    "id": child.id,
                    "word": str(STATE_WORDS.get(child.shown_state, child.shown_state)),
                    "tone": STATE_TONES.get(child.shown_state, "secondary"),
                    "progress": progress_text(child)["text"],
                }
                for child in page.items
            ],
        }

    # --- actions --------------------------------------------------------------------------------------------------
    @action(
        name="repeat",
        text=_("Repeat"),
        confirmation=_("Repeat the selected tasks that have ended, each as a new task?"),
        submit_btn_text=_("Repeat"),
    )
    async def repeat_selected(self, request: Request, selection: ActionSelection) -> None:
        """A new task for each that has ended; the others are counted and left."""
        await self._each(request, await selection.pks(), self._repeat)

    @action(
        name="cancel",
        text=_("Cancel"),
        confirmation=_("Cancel the selected tasks that have not ended?"),
        submit_btn_text=_("Cancel the tasks"),
        submit_btn_class="action.modal_confirm_button_delete",
    )
    async def cancel_selected(self, request: Request, selection: ActionSelection) -> None:
        """Cancels each that has not ended; the others are counted and left."""
        await self._each(request, await selection.pks(), self._cancel)

    @row_action(
        name="repeat_one",
        text=_("Repeat"),
        confirmation=_("Start a new task with the same arguments?"),
        submit_btn_text=_("Repeat"),
        icon_class="fa-solid fa-rotate-right",
    )
    async def repeat_one(self, request: Request, pk: Any) -> None:
        """A new task with the same arguments."""
        flash(request, await run_sync(self._repeat, str(pk), actor(request), _request_id(request)), "success")

    @row_action(
        name="cancel_one",
        text=_("Cancel"),
        confirmation=_("Cancel this task?"),
        submit_btn_text=_("Cancel the task"),
        submit_btn_class="action.modal_confirm_button_delete",
        icon_class="fa-solid fa-ban",
    )
    async def cancel_one(self, request: Request, pk: Any) -> None:
        """Cancels the task and says what became of that."""
        flash(request, await run_sync(self._cancel, str(pk), actor(request), _request_id(request)), "info")

    async def is_row_action_allowed_for_obj(self, request: Request, name: str, obj: Any) -> bool:
        """What has ended is repeated, what has not is cancelled."""
        ended = obj.state in FINAL_STATES
        if (name == "repeat_one" and not ended) or (name == "cancel_one" and ended):
            return False
        return await self.is_row_action_allowed(request, name)

    async def _each(self, request: Request, ids: list[Any], work: Any) -> None:
        by, request_id = actor(request), _request_id(request)

        def run() -> tuple[list[str], list[str]]:
            told: list[str] = []
            refused: list[str] = []
            for task_id in ids:
                try:
                    told.append(work(str(task_id), by, request_id))
                except SicargaBoxError as error:
                    refused.append(sentence(error))
            return told, refused

        told, refused = await run_sync(run)
        if not told:
            raise ActionFailed("; ".join(dict.fromkeys(refused)) or gettext("That does not exist (any more)."))
        counts = {text: told.count(text) for text in dict.fromkeys(told)}
        flash(request, "; ".join(f"{count} × {text}" for text, count in counts.items()), "success")
        if refused:
            words = "; ".join(dict.fromkeys(refused))
            flash(request, gettext("%(count)d left out: %(why)s") % {"count": len(refused), "why": words}, "warning")

    def _repeat(self, task_id: str, by: str, request_id: str | None) -> str:
        submission = self.services.tasks.retry(task_id, by=by, request_id=request_id)
        return gettext("This task is already running.") if submission.already_running else gettext("Started again")

    def _cancel(self, task_id: str, by: str, _request_id: str | None) -> str:
        return cancel_text(self.services.tasks.cancel(task_id, by=by))

    async def repr(self, obj: Any, request: Request) -> str:
        """The task's name and the beginning of its id."""
        return f"{task_word(obj.name)} {obj.id[:8]}"


class DeadLetters(TaskHistory):
    """What failed for good and nobody repeated; repeated in bulk, each once."""

    key = "dead-letters"
    menu_label = _("Failed tasks")
    display_name = _("Failed task")
    icon = "fa-solid fa-triangle-exclamation"
    default_columns = ("name", "error_code", "error_message", "created_at", "finished_at", "initiated_by")
    actions: Sequence[str] = ["repeat"]
    row_actions: Sequence[str] = ["repeat_one"]
    action_roles = dict.fromkeys(("repeat", "repeat_one"), Role.OPERATOR)
    fields: Sequence[Any] = [
        *TaskHistory.fields,
        MomentField("finished_at", label=_("Failed")),
        StringField("error_message", label=_("Why"), list_template="fields/wrapped.html", searchable=False),
    ]

    def get_list_query(self, request: Request) -> Any:
        """Only dead letters, however they are looked for."""
        return super().get_list_query(request).where(dead_letters())

    def get_count_query(self, request: Request) -> Any:
        """As many as the list has."""
        return super().get_count_query(request).where(dead_letters())

    @action(
        name="repeat",
        text=_("Repeat"),
        confirmation=_("Repeat the selected failed tasks, each as a new task and only once?"),
        submit_btn_text=_("Repeat"),
    )
    async def repeat_selected(self, request: Request, selection: ActionSelection) -> None:
        """Repeats each that nobody has repeated meanwhile; the others are counted, and told why."""
        ids = [str(pk) for pk in await selection.pks()]
        by, request_id = actor(request), _request_id(request)
        taken = ids[:REPEATED_AT_ONCE]
        done = await run_sync(lambda: self.services.tasks.retry_dead(taken, by=by, request_id=request_id))
        if done.repeated:
            flash(request, gettext("%(count)d started again") % {"count": len(done.repeated)}, "success")
        reasons = Counter(str(SKIP_WORDS.get(one.code, one.detail)) for one in done.skipped)
        words = "; ".join(f"{count} × {reason}" for reason, count in reasons.items())
        if not done.repeated:
            raise ActionFailed(words or gettext("That does not exist (any more)."))
        if words:
            left = {"count": len(done.skipped), "why": words}
            flash(request, gettext("%(count)d left out: %(why)s") % left, "warning")
        if len(ids) > len(taken):
            more = {"count": len(ids) - len(taken), "most": REPEATED_AT_ONCE}
            flash(request, gettext("%(most)d are repeated at a time; %(count)d remain.") % more, "warning")


# Why a failed task was not repeated.
SKIP_WORDS: dict[str, Any] = {
    "already_repeated": _("repeated before"),
    "already_running": _("a task of this kind is running"),
    "not_failed": _("it has not failed"),
    "part": _("part of another task"),
    "not_found": _("it does not exist (any more)"),
    "forbidden": _("your role does not allow it"),
    "conflict": _("this release does not know it"),
    "data_fault": _("its arguments fit no longer"),
}


def cancel_text(outcome: CancelOutcome) -> str:
    """What became of a cancel, honestly."""
    if outcome.revoked:
        return gettext("Cancelled")
    if outcome.requested:
        return gettext("Cancelling: the task was asked to stop")
    return gettext("It had already ended: %(state)s") % {"state": str(STATE_WORDS[outcome.state])}


def why_it_waits(task: TaskView) -> str | None:
    """One sentence for a task that has not been taken."""
    if task.is_final or task.state == "STARTED":
        return None
    if task.no_worker_knows_it:
        return gettext("It was offered several times and no worker took it.")
    if task.waits_for:
        return gettext("It begins when the running one ends.")
    if task.state == "RETRY":
        return gettext("It failed and is tried again later.")
    return gettext("It waits for a free worker.")


def _number_of(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 8 else 0


def _request_id(request: Request) -> str | None:
    found: str | None = getattr(request.state, "request_id", None)
    return found


def _without_parts(request: Request, statement: Any) -> Any:
    # An action sends the list's own query along.
    asked = QueryParams(request.query_params.get("_list_query", "").lstrip("?")) or request.query_params
    return statement if asked.get("q") or asked.get("filter") else statement.where(TaskRow.parent_id.is_(None))


async def _with_views(request: Request, rows: Sequence[Any]) -> Sequence[Any]:
    ids = [row.id for row in rows]
    found = await run_sync(_views, request.state.session, ids) if ids else {}
    for row in rows:
        row.view = found[row.id]
    return rows


def _views(session: Session, ids: list[str]) -> dict[str, TaskView]:
    rows = session.execute(select(*views.PUBLIC).where(TaskRow.id.in_(ids))).all()
    return {task.id: task for task in views.views_of(session, rows)}
