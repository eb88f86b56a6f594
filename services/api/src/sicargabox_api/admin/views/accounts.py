"""Users, API tokens and the audit trail: for administrators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from anyio.to_thread import run_sync
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette_admin.actions import ActionSelection, action, row_action
from starlette_admin.base import BaseAdmin
from starlette_admin.exceptions import ActionFailed, FormValidationError
from starlette_admin.fields import JSONField, PasswordField, TagsField
from starlette_admin.flash import flash
from starlette_admin.i18n import gettext
from starlette_admin.types import RowActionsDisplayType

from sicargabox_api.admin.fields import ActorField, CodeField, LinkField, MomentField, ShownField, WordField
from sicargabox_api.admin.language import _
from sicargabox_api.admin.refusals import sentence
from sicargabox_api.admin.safe_view import SafeModelView
from sicargabox_api.admin.staff import StaffServices, actor
from sicargabox_core.accounts import audit, tokens, users
from sicargabox_core.accounts.models import ApiToken, AuditEntry, Role, User
from sicargabox_core.accounts.passwords import MIN_LENGTH
from sicargabox_core.accounts.principal import SCOPES
from sicargabox_core.errors import NotFound, SicargaBoxError

_ROLES: list[tuple[str, Any]] = [
    (Role.VIEWER.value, _("Viewer: reads")),
    (Role.REVIEWER.value, _("Reviewer: also decides about keywords")),
    (Role.OPERATOR.value, _("Operator: also starts and cancels tasks")),
    (Role.ADMIN.value, _("Administrator: also users, tokens and audit")),
]
_ROLE_WORDS: list[tuple[str, Any]] = [
    (Role.VIEWER.value, _("Viewer")),
    (Role.REVIEWER.value, _("Reviewer")),
    (Role.OPERATOR.value, _("Operator")),
    (Role.ADMIN.value, _("Administrator")),
]
_ROLE_TONES = {"viewer": "secondary", "reviewer": "azure", "operator": "blue", "admin": "purple"}
_SCOPE_WORDS: dict[str, Any] = {
    "search": _("Search"),
    "tasks": _("Tasks"),
    "queues": _("Queues and Redis"),
    "keywords": _("Keywords"),
}


def _role_choices(request: Request) -> list[tuple[str, Any]]:
    return _ROLES if request.state.action.is_form() else _ROLE_WORDS


def _role_options(selected: str) -> str:
    return "".join(
        f'<option value="{value}"{" selected" if value == selected else ""}>{escape(str(word))}</option>'
        for value, word in _ROLES
    )


def _role_form(_request: Request, user: User) -> str:
    label = escape(gettext("Role"))
    return (
        f'<form><label class="form-label" for="new-role">{label}</label>'
        f'<select class="form-select" id="new-role" name="role">{_role_options(user.role)}</select></form>'
    )


def _password_form(_request: Request, _user: User) -> str:
    label = escape(gettext("New password (at least %(count)d characters)") % {"count": MIN_LENGTH})
    return (
        f'<form><label class="form-label" for="new-password">{label}</label>'
        f'<input class="form-control" id="new-password" name="password" type="password" required '
        f'minlength="{MIN_LENGTH}" maxlength="200" autocomplete="new-password"></form>'
    )


class Users(SafeModelView):
    """Members of staff."""

    key = "users"
    menu_label = _("Users")
    display_name = _("User")
    icon = "fa-solid fa-users"
    read_role = Role.ADMIN
    create_role = Role.ADMIN
    search_columns = ("username",)
    actions: Sequence[str] = []
    row_actions_display_type = RowActionsDisplayType.KEBAB
    row_actions: Sequence[str] = ["role", "password", "sign_out", "disable", "enable"]
    action_roles = dict.fromkeys(("role", "password", "sign_out", "disable", "enable"), Role.ADMIN)
    fields: Sequence[Any] = [
        LinkField("username", label=_("User name"), required=True),
        PasswordField("password", label=_("Password"), required=True, searchable=False, orderable=False),
        WordField(
            "role", label=_("Role"), choices_loader=_role_choices, tones=_ROLE_TONES, required=True, default="viewer"
        ),
        MomentField("created_at", label=_("Created"), exclude_from_create=True),
        MomentField("disabled_at", label=_("Disabled"), exclude_from_create=True),
    ]
    exclude_fields_from_list: Sequence[str] = ["password"]
    exclude_fields_from_detail: Sequence[str] = ["password"]
    fields_default_sort: Sequence[Any] = ["username"]

    def __init__(self, services: StaffServices, model: type[Any] = User) -> None:
        super().__init__(services, model)

    async def create(self, request: Request, data: dict[str, Any]) -> Any:
        """Adds a user by the accounts' own rule."""
        by = actor(request)

        def make() -> User:
            with self.services.database.write() as session:
                return users.create_user(
                    session,
                    str(data.get("username") or ""),
                    str(data.get("password") or ""),
                    users.parse_role(str(data.get("role") or "")),
                    by=by,
                )

        try:
            return await run_sync(make)
        except SicargaBoxError as error:
            raise FormValidationError({error.field or "username": sentence(error)}) from error

    @row_action(
        name="role",
        text=_("Change role"),
        confirmation=_("The new role holds at once, for open sessions too."),
        submit_btn_text=_("Change role"),
        form=_role_form,
    )
    async def change_role(self, request: Request, pk: Any) -> None:
        """Another role; the last administrator keeps theirs."""
        role = users.parse_role(str((await request.form()).get("role") or ""))
        by = actor(request)
        await self._change(request, pk, lambda session, name: users.set_role(session, name, role, by=by))

    @row_action(
        name="password",
        text=_("Change password"),
        confirmation=_("The user is signed out everywhere."),
        submit_btn_text=_("Change password"),
        form=_password_form,
    )
    async def change_password(self, request: Request, pk: Any) -> None:
        """Another password; ends all sessions."""
        password = str((await request.form()).get("password") or "")
        by = actor(request)
        await self._change(request, pk, lambda session, name: users.set_password(session, name, password, by=by))

    @row_action(
        name="sign_out",
        text=_("Sign out everywhere"),
        confirmation=_("End all sessions of this user?"),
        submit_btn_text=_("Sign out everywhere"),
    )
    async def sign_out_everywhere(self, request: Request, pk: Any) -> None:
        """Ends all sessions."""
        by = actor(request)

        def end(session: Session, name: str) -> None:
            ended = users.end_sessions(session, users.find_user(session, name).id)
            audit.record(
                session, actor=by, action="user.sign_out", object_type="user", object_id=name, after={"sessions": ended}
            )

        await self._change(request, pk, end)

    @row_action(
        name="disable",
        text=_("Disable"),
        confirmation=_("The user is signed out and cannot sign in any more."),
        submit_btn_text=_("Disable"),
        submit_btn_class="action.modal_confirm_button_delete",
    )
    async def disable(self, request: Request, pk: Any) -> None:
        """Locks the account; the last administrator cannot be locked."""
        by = actor(request)
        await self._change(request, pk, lambda session, name: users.disable_user(session, name, by=by))

    @row_action(
        name="enable",
        text=_("Enable"),
        confirmation=_("The user can sign in again, with the same password and role."),
        submit_btn_text=_("Enable"),
    )
    async def enable(self, request: Request, pk: Any) -> None:
        """Unlocks the account."""
        by = actor(request)
        await self._change(request, pk, lambda session, name: users.enable_user(session, name, by=by))

    async def is_row_action_allowed_for_obj(self, request: Request, name: str, obj: Any) -> bool:
        """What is locked is unlocked, what is not is locked."""
        locked = obj.disabled_at is not None
        if (name == "disable" and locked) or (name == "enable" and not locked):
            return False
        return await self.is_row_action_allowed(request, name)

    async def _change(self, request: Request, pk: Any, change: Callable[[Session, str], object]) -> None:
        user = await self.find_by_pk(request, pk)
        name = user.username

        def work() -> None:
            with self.services.database.write() as session:
                change(session, name)

        await run_sync(work)
        flash(request, gettext("Done: %(name)s") % {"name": name}, "success")

    async def repr(self, obj: Any, request: Request) -> str:
        """The name."""
        return str(obj.username)


def _token_form(_request: Request) -> str:
    scopes = "".join(
        f'<label class="form-check"><input class="form-check-input" type="checkbox" name="scopes" value="{scope}">'
        f'<span class="form-check-label">{escape(str(_SCOPE_WORDS[scope]))}</span></label>'
        for scope in SCOPES
    )
    name, role = escape(gettext("Name")), escape(gettext("Role"))
    uses, days = escape(gettext("May use")), escape(gettext("Days until it expires (empty: never)"))
    return (
        f'<form><label class="form-label" for="token-name">{name}</label>'
        f'<input class="form-control mb-3" id="token-name" name="name" required pattern="[\\w.\\-]{{2,60}}" '
        f'autocomplete="off">'
        f'<label class="form-label" for="token-role">{role}</label>'
        f'<select class="form-select mb-3" id="token-role" name="role">{_role_options("viewer")}</select>'
        f'<fieldset class="mb-3"><legend class="form-label">{uses}</legend>{scopes}</fieldset>'
        f'<label class="form-label" for="token-days">{days}</label>'
        f'<input class="form-control" id="token-days" name="days" type="number" min="1" max="3650"></form>'
    )


class Tokens(SafeModelView):
    """Programs' keys. A secret is shown once, on the page that made it, and stored only as a hash."""

    key = "tokens"
    menu_label = _("API tokens")
    display_name = _("API token")
    icon = "fa-solid fa-key"
    read_role = Role.ADMIN
    search_columns = ("name",)
    actions: Sequence[str] = ["make"]
    row_actions: Sequence[str] = ["revoke"]
    action_roles = {"make": Role.ADMIN, "revoke": Role.ADMIN}  # noqa: RUF012
    fields: Sequence[Any] = [
        LinkField("name", label=_("Name")),
        WordField("role", label=_("Role"), choices=_ROLE_WORDS, tones=_ROLE_TONES),
        TagsField("scopes", label=_("May use"), searchable=False, orderable=False),
        ActorField("created_by", label=_("Created by")),
        MomentField("last_used_at", label=_("Last used")),
        MomentField("expires_at", label=_("Expires")),
        MomentField("revoked_at", label=_("Revoked")),
        MomentField("created_at", label=_("Created"), exclude_from_list=True),
    ]
    fields_default_sort: Sequence[Any] = [("id", True)]

    def __init__(self, services: StaffServices, model: type[Any] = ApiToken) -> None:
        super().__init__(services, model)

    @action(
        name="make",
        text=_("New token"),
        confirmation=_("The secret is shown once, on the next page."),
        submit_btn_text=_("Create"),
        icon_class="list.new",
        form=_token_form,
        custom_response=True,
        allow_empty_selection=True,
        dedicated_button=True,
        modal_size="md",
    )
    async def make(self, request: Request, selection: ActionSelection) -> Response:
        """Makes a token and answers with the only page that ever shows its secret.

        The browser leaves the list for the answer, so a refusal leads back to the list and is said there.
        """
        try:
            name, secret = await self._make(request)
        except ActionFailed as error:
            refused = str(error.msg)
        except SicargaBoxError as error:
            refused = sentence(error)
        else:
            return self._site()._template_response(
                request, "token_made.html", {"title": gettext("New token"), "name": name, "secret": secret}
            )
        flash(request, refused, "error")
        return RedirectResponse(request.url_for(f"{self._site().route_name}:list", key=self.key), status_code=303)

    def _site(self) -> BaseAdmin:
        if self._admin is None:
            raise RuntimeError("the view is not part of an admin site")
        return self._admin

    async def _make(self, request: Request) -> tuple[str, str]:
        form = await request.form()
        days = str(form.get("days") or "").strip()
        if days and not (days.isascii() and days.isdigit() and 1 <= int(days[:5]) <= 3650):
            raise ActionFailed(gettext("The number of days is 1 to 3650."))
        scopes = [str(scope) for scope in form.getlist("scopes")]
        if not scopes:
            raise ActionFailed(gettext("Choose at least one permission."))
        by = actor(request)

        def create() -> tuple[str, str]:
            with self.services.database.write() as session:
                token, secret = tokens.create_token(
                    session,
                    str(form.get("name") or ""),
                    users.parse_role(str(form.get("role") or "")),
                    scopes,
                    by=by,
                    days=int(days) if days else None,
                )
                return token.name, secret

        return await run_sync(create)

    @row_action(
        name="revoke",
        text=_("Revoke"),
        confirmation=_("Programs that use this token will be refused at once."),
        submit_btn_text=_("Revoke"),
        submit_btn_class="action.modal_confirm_button_delete",
    )
    async def revoke(self, request: Request, pk: Any) -> None:
        """Makes the token worthless at once."""
        token = await self.find_by_pk(request, pk)
        name, by = token.name, actor(request)

        def work() -> None:
            with self.services.database.write() as session:
                tokens.revoke(session, name, by=by)

        try:
            await run_sync(work)
        except NotFound as error:
            raise ActionFailed(gettext("That token was revoked before.")) from error
        flash(request, gettext("Revoked: %(name)s") % {"name": name}, "success")

    async def is_row_action_allowed_for_obj(self, request: Request, name: str, obj: Any) -> bool:
        """A revoked token stays revoked."""
        if name == "revoke" and obj.revoked_at is not None:
            return False
        return await self.is_row_action_allowed(request, name)

    async def repr(self, obj: Any, request: Request) -> str:
        """The name."""
        return str(obj.name)


ACTION_WORDS: list[tuple[str, Any]] = [
    ("session.open", _("Signed in")),
    ("user.create", _("Made a user")),
    ("user.role", _("Changed a role")),
    ("user.password", _("Changed a password")),
    ("user.sign_out", _("Ended all sessions")),
    ("user.disable", _("Disabled a user")),
    ("user.enable", _("Enabled a user")),
    ("token.create", _("Made a token")),
    ("token.revoke", _("Revoked a token")),
    ("keyword.add", _("Added a keyword")),
    ("keyword.approve", _("Approved a keyword")),
    ("keyword.reject", _("Rejected a keyword")),
    ("keyword.undo", _("Took a decision back")),
    ("tariff.import", _("Imported the tariff")),
    ("tariff.starter", _("Loaded the starter catalogue")),
    ("index.delete", _("Deleted the search index")),
]
_KINDS: list[tuple[str, Any]] = [
    ("user", _("User")),
    ("token", _("API token")),
    ("keyword", _("Keyword")),
    ("tariff", _("Tariff")),
    ("index", _("Search index")),
]
_CHANGED: dict[str, Any] = {
    "role": _("Role"),
    "scopes": _("May use"),
    "state": _("State"),
    "text": _("Word"),
    "line_code": _("Tariff line"),
    "sessions": _("Sessions"),
    "documents": _("Documents"),
    "read": _("Rows read"),
    "nodes": _("Nodes"),
    "lines": _("Tariff lines"),
    "declarable": _("Can be declared"),
    "made": _("Made"),
    "changed": _("Changed"),
    "unchanged": _("Unchanged"),
    "retired": _("Retired"),
    "revived": _("Revived"),
    "rejected": _("Left out"),
    "mended": _("Mended"),
    "missing": _("Missing"),
}
_VALUES: dict[str, Any] = {
    **dict(_ROLE_WORDS),
    **_SCOPE_WORDS,
    "PENDING": _("To review"),
    "APPROVED": _("Approved"),
    "REJECTED": _("Rejected"),
}


class AuditTrail(SafeModelView):
    """Who did what, and when."""

    key = "audit"
    menu_label = _("Audit")
    display_name = _("Audit entry")
    icon = "fa-solid fa-clipboard-list"
    read_role = Role.ADMIN
    export_role = Role.ADMIN
    search_columns = ("actor", "action", "object_id", "request_id")
    actions: Sequence[str] = []
    row_actions: Sequence[str] = ["view"]
    default_columns = ("at", "actor", "action", "object_id", "change")
    fields: Sequence[Any] = [
        MomentField("at", label=_("When")),
        ActorField("actor", label=_("Who")),
        WordField("action", label=_("Action"), choices=ACTION_WORDS),
        WordField("object_type", label=_("Kind"), choices=_KINDS),
        CodeField("object_id", label=_("Thing")),
        ShownField(
            "change",
            label=_("Change"),
            getter=lambda _request, entry: _change_text(entry),
            list_template="fields/wrapped.html",
        ),
        JSONField("before", label=_("Before"), exclude_from_list=True, searchable=False),
        JSONField("after", label=_("After"), exclude_from_list=True, searchable=False),
        CodeField("request_id", label=_("Request id")),
    ]
    fields_default_sort: Sequence[Any] = [("id", True)]

    def __init__(self, services: StaffServices, model: type[Any] = AuditEntry) -> None:
        super().__init__(services, model)


def _change_text(entry: AuditEntry) -> str:
    before, after = entry.before or {}, entry.after or {}
    parts = []
    for name in dict.fromkeys([*before, *after]):
        new = _plain(after.get(name))
        word = _CHANGED.get(name, name)
        parts.append(f"{word}: {_plain(before[name])} → {new}" if name in before else f"{word}: {new}")
    return "; ".join(parts)[:200]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    return "—" if value is None else str(_VALUES.get(value, value) if isinstance(value, str) else value)
