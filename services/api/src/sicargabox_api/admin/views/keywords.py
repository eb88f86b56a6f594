"""Keywords: reading them, deciding about proposals, adding one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette_admin.actions import ActionSelection, action
from starlette_admin.exceptions import ActionFailed, FormValidationError
from starlette_admin.fields import JSONField
from starlette_admin.flash import flash
from starlette_admin.i18n import gettext

from sicargabox_api.admin.fields import ActorField, LinkField, MomentField, TariffCodeField, WordField
from sicargabox_api.admin.language import _
from sicargabox_api.admin.line_wordings import LineCodes
from sicargabox_api.admin.refusals import sentence
from sicargabox_api.admin.safe_view import SafeModelView
from sicargabox_api.admin.staff import StaffServices, actor
from sicargabox_core.accounts.models import Role
from sicargabox_core.catalogue import keywords
from sicargabox_core.catalogue.models import Keyword, KeywordState, Language
from sicargabox_core.catalogue.tariff import normalise_code
from sicargabox_core.errors import Conflict, NotFound, SicargaBoxError
from sicargabox_core.tasks.contracts import UPDATE_LINES, UpdateLines

_STATES = [("PENDING", _("To review")), ("APPROVED", _("Approved")), ("REJECTED", _("Rejected"))]
_STATE_TONES = {"PENDING": "orange", "APPROVED": "green", "REJECTED": "red"}
_LANGUAGES = [("es", _("Spanish")), ("en", _("English"))]
_SOURCES = [
    ("starter", _("Starter catalogue")),
    ("generated", _("Generated")),
    ("learned", _("Learned")),
    ("staff", _("Staff")),
]


class Keywords(LineCodes, SafeModelView):
    """Everyday words by line; reviewers decide."""

    key = "keywords"
    menu_label = _("Keywords")
    display_name = _("Keyword")
    icon = "fa-solid fa-tags"
    create_role = Role.REVIEWER
    code_column = "line_code"
    export_role = Role.VIEWER
    search_columns = ("normalized", "line_code")
    actions: Sequence[str] = ["approve", "reject", "undo"]
    row_actions: Sequence[str] = []
    default_columns = ("text", "line_code", "language", "source", "state", "decided_by", "created_at")
    action_roles = {"approve": Role.REVIEWER, "reject": Role.REVIEWER, "undo": Role.REVIEWER}  # noqa: RUF012
    fields: Sequence[Any] = [
        LinkField("text", label=_("Word")),
        TariffCodeField("line_code", label=_("Tariff line")),
        WordField("language", label=_("Language"), choices=_LANGUAGES),
        WordField("source", label=_("Source"), choices=_SOURCES, exclude_from_create=True),
        WordField("state", label=_("State"), choices=_STATES, tones=_STATE_TONES, exclude_from_create=True),
        ActorField("decided_by", label=_("Decided by"), exclude_from_create=True),
        MomentField("created_at", label=_("Proposed"), exclude_from_create=True),
        ActorField("created_by", label=_("Proposed by"), exclude_from_create=True),
        MomentField("decided_at", label=_("Decided"), exclude_from_create=True),
        JSONField("evidence", label=_("Why"), exclude_from_create=True, exclude_from_list=True, searchable=False),
    ]
    fields_default_sort: Sequence[Any] = [("id", True)]

    def __init__(self, services: StaffServices, model: type[Any] = Keyword) -> None:
        super().__init__(services, model)

    def searched(self, term: str) -> str:
        """Words are kept without accents and case."""
        return keywords.normalise(term) or term.strip()

    @action(
        name="approve",
        text=_("Approve"),
        confirmation=_("Approve the selected keywords? They will be searched at once."),
        submit_btn_text=_("Approve"),
    )
    async def approve_selected(self, request: Request, selection: ActionSelection) -> None:
        """PENDING → APPROVED for each that still is."""
        await self._decide(request, selection, keywords.approve, gettext("Keywords approved: %(count)d"))

    @action(
        name="reject",
        text=_("Reject"),
        confirmation=_("Reject the selected keywords? They will not be proposed again."),
        submit_btn_text=_("Reject"),
    )
    async def reject_selected(self, request: Request, selection: ActionSelection) -> None:
        """PENDING → REJECTED for each that still is."""
        await self._decide(request, selection, keywords.reject, gettext("Keywords rejected: %(count)d"))

    @action(
        name="undo",
        text=_("Undo the decision"),
        confirmation=_("Take the decisions about the selected keywords back?"),
        submit_btn_text=_("Undo the decision"),
    )
    async def undo_selected(self, request: Request, selection: ActionSelection) -> None:
        """Back to how they were before somebody decided."""
        await self._decide(request, selection, keywords.undo, gettext("Decisions taken back: %(count)d"))

    async def _decide(self, request: Request, selection: ActionSelection, decide: Any, said: str) -> None:
        ids = [int(pk) for pk in await selection.pks() if str(pk).isascii() and str(pk).isdigit()]
        by = actor(request)
        done, refused = await run_sync(self._decide_each, ids, decide, by)
        if done:
            await run_sync(self._update_index, {keyword.line_code for keyword in done}, by)
            flash(request, said % {"count": len(done)}, "success")
        if refused:
            shown = "; ".join(_conflict(keyword) for keyword in refused[:5])
            more = len(refused) - 5
            text = shown + (gettext(" … and %(count)d more") % {"count": more} if more > 0 else "")
            if not done:
                raise ActionFailed(text)
            flash(request, text, "warning")
        if not done and not refused:
            raise ActionFailed(gettext("That does not exist (any more)."))

    def _decide_each(self, ids: list[int], decide: Any, by: str) -> tuple[list[Keyword], list[Keyword]]:
        """Each in a savepoint of one transaction: what somebody decided meanwhile keeps that decision."""
        done: list[Keyword] = []
        refused: list[Keyword] = []
        with self.services.database.write() as session:
            for keyword_id in ids:
                try:
                    with session.begin_nested():
                        done.append(decide(session, keyword_id, by=by))
                except Conflict:
                    refused.append(keywords.get(session, keyword_id))
                except NotFound:
                    continue
        return done, refused

    def _update_index(self, codes: set[str], by: str) -> None:
        self.services.tasks.submit(UPDATE_LINES, UpdateLines(codes=sorted(codes)), initiated_by=by)

    async def create(self, request: Request, data: dict[str, Any]) -> Any:
        """Adds the word by the catalogue's rule (audit row included) and has the index told."""
        by = actor(request)

        def add() -> Keyword:
            code = normalise_code(str(data.get("line_code") or ""))
            with self.services.database.write() as session:
                keyword = keywords.add(
                    session,
                    line_code=code,
                    language=Language(data.get("language") or "es"),
                    text=str(data.get("text") or ""),
                    by=by,
                )
            self._update_index({code}, by)
            return keyword

        try:
            return await run_sync(add)
        except SicargaBoxError as error:
            field = {"code": "line_code", "state": "text"}.get(error.field or "", error.field or "text")
            text = gettext("This line has that keyword already.") if isinstance(error, Conflict) else sentence(error)
            if isinstance(error, NotFound):
                text = gettext("There is no such tariff line.")
            raise FormValidationError({field: text}) from error

    async def repr(self, obj: Any, request: Request) -> str:
        """The word."""
        return str(obj.text)


def _conflict(keyword: Keyword) -> str:
    who = (keyword.decided_by or "?").removeprefix("user:")
    values = {"text": keyword.text, "who": who}
    if keyword.state == KeywordState.APPROVED:
        return gettext("«%(text)s»: %(who)s approved it already") % values
    if keyword.state == KeywordState.REJECTED:
        return gettext("«%(text)s»: %(who)s rejected it already") % values
    return gettext("«%(text)s» is still to be reviewed") % values
