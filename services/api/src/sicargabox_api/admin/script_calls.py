"""The two calls that users' scripts know from before; their addresses and answers do not change.

    POST /admin/elasticsearch/rebuild/                 → {"status": "started" | "already_running", "task_id": …}
    GET  /admin/elasticsearch/task-status/{task_id}/   → {"status", "progress", "current", "total", "message", "result"}

``status`` is Celery's word (PROGRESS while a started task tells its progress), ``progress`` percent. Callers show an
API token, or a session cookie, with which a changing call must also show the CSRF token of the staff pages or come
from one of our pages.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from itsdangerous import BadSignature, URLSafeSerializer
from starlette_admin.security.csrf import CSRFMiddleware

from sicargabox_api.admin.staff import StaffServices
from sicargabox_api.admin.task_words import percent
from sicargabox_api.authentication import SESSION_COOKIE, check_same_origin
from sicargabox_core.accounts import tokens, users
from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.principal import Principal
from sicargabox_core.errors import Forbidden, SignInRequired
from sicargabox_core.tasks.contracts import REBUILD_INDEX, RebuildIndex
from sicargabox_core.tasks.store import TaskView

SCOPE = "tasks"
# The salt under which starlette-admin signs its CSRF cookie.
_CSRF_SALT = "starlette-admin-csrf"


def script_calls(services: StaffServices, csrf_key: str) -> APIRouter:
    """The routes, for the application in front of starlette-admin, whose CSRF check knows no API tokens."""
    router = APIRouter(prefix="/admin/elasticsearch", include_in_schema=False)
    signer = URLSafeSerializer(csrf_key, salt=_CSRF_SALT)

    @router.post("/rebuild/")
    @router.post("/rebuild")
    def rebuild(request: Request) -> dict[str, str]:
        caller = _caller(request, services, signer)
        caller.require(Role(REBUILD_INDEX.role), SCOPE)
        submission = services.tasks.submit(
            REBUILD_INDEX,
            RebuildIndex(),
            initiated_by=caller.name,
            request_id=getattr(request.state, "request_id", None),
        )
        status = "already_running" if submission.already_running else "started"
        return {"status": status, "task_id": submission.task.id}

    @router.get("/task-status/{task_id}/")
    @router.get("/task-status/{task_id}")
    def task_status(task_id: str, request: Request) -> dict[str, Any]:
        caller = _caller(request, services, signer)
        caller.require(Role.VIEWER, SCOPE)
        return status_of(services.tasks.get(task_id[:36]))

    return router


def status_of(task: TaskView) -> dict[str, Any]:
    """A task as the scripts know it. ``progress`` is 100 only after SUCCESS; the error is the message of a failure."""
    message = task.error_message if task.state == "FAILURE" else task.progress_message
    return {
        "status": task.shown_state,
        "progress": percent(task) or 0,
        "current": task.progress_current or 0,
        "total": task.progress_total or 0,
        "message": message or "",
        "result": task.result,
    }


def _caller(request: Request, services: StaffServices, signer: URLSafeSerializer) -> Principal:
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        program = tokens.authenticate(services.database, secret.strip())
        if program is None:
            raise SignInRequired("the token is unknown, expired or revoked", remedy="Use a live one.")
        return program
    cookie = request.cookies.get(SESSION_COOKIE)
    person = (
        users.session_user(services.database, cookie, session_seconds=services.settings.session_seconds)
        if cookie
        else None
    )
    if person is None:
        raise SignInRequired("sign in first", remedy="Open /admin, or send an API token.")
    if not _shows_csrf_token(request, signer):
        check_same_origin(request, services.settings)
    return person


def _shows_csrf_token(request: Request, signer: URLSafeSerializer) -> bool:
    """Whether header and cookie carry the same token signed by us; a forged one is refused outright."""
    shown = request.headers.get(CSRFMiddleware.header_name)
    if shown is None:
        return False
    try:
        same = signer.loads(shown) == signer.loads(request.cookies.get(CSRFMiddleware.cookie_name, ""))
    except BadSignature as error:
        raise Forbidden("the CSRF token is not one of ours", remedy="Load the page again.") from error
    if not same:
        raise Forbidden("the CSRF token is another page's", remedy="Load the page again.")
    return True
