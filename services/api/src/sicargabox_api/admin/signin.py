"""Signing in and out: a password form, a server-side session, a limit; the cookie is the API's too."""

from __future__ import annotations

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.status import HTTP_303_SEE_OTHER, HTTP_429_TOO_MANY_REQUESTS
from starlette.templating import Jinja2Templates
from starlette_admin.auth import AuthProvider
from starlette_admin.exceptions import LoginFailed
from starlette_admin.helpers import index_url, safe_redirect_url
from starlette_admin.i18n import gettext

from sicargabox_api.admin.staff import StaffServices, StaffUser
from sicargabox_api.authentication import SESSION_COOKIE
from sicargabox_api.rate_limits import client_address
from sicargabox_core.accounts import users
from sicargabox_core.errors import SignInRequired, TooManyRequests


class StaffSignIn(AuthProvider):
    """starlette-admin's form in front of ``accounts.users``."""

    def __init__(self, services: StaffServices) -> None:
        super().__init__()
        self._services = services
        self._templates: Jinja2Templates | None = None

    def get_routes(self, templates: Jinja2Templates) -> list[Route]:
        """The sign-in and sign-out routes."""
        self._templates = templates
        return super().get_routes(templates)

    async def authenticate(self, request: Request) -> StaffUser | None:
        """The person behind the session cookie; static files are served without asking (about 12 a page)."""
        token = request.cookies.get(SESSION_COOKIE)
        if not token or "/static/" in request.url.path:
            return None
        services = self._services
        principal = await run_sync(
            lambda: users.session_user(services.database, token, session_seconds=services.settings.session_seconds)
        )
        if principal is None:
            return None
        return StaffUser(username=principal.name.removeprefix("user:"), principal=principal)

    async def login(self, username: str, password: str, remember_me: bool, request: Request) -> Response:
        """Opens a session. Says the same for an unknown name and a wrong password."""
        services = self._services
        try:
            token, _ = await run_sync(
                lambda: users.sign_in(
                    services.database,
                    username,
                    password,
                    address=client_address(request),
                    key=services.key,
                    session_seconds=services.settings.session_seconds,
                )
            )
        except SignInRequired as error:
            raise LoginFailed(gettext("The user name or the password is wrong.")) from error
        except TooManyRequests as error:
            return self._too_many(request, error)
        fallback = index_url(request)
        target = safe_redirect_url(request.query_params.get("next") or fallback, request, fallback)
        response = RedirectResponse(target, status_code=HTTP_303_SEE_OTHER)
        # No age: the row decides how long a session lives, and it is prolonged by use.
        response.set_cookie(
            SESSION_COOKIE,
            token,
            httponly=True,
            samesite="lax",
            secure=services.settings.secure_cookies or request.url.scheme == "https",
        )
        return response

    async def logout(self, request: Request) -> Response:
        """Ends the session's row, so that a copied cookie is worth nothing."""
        token = request.cookies.get(SESSION_COOKIE)
        if token:
            await run_sync(users.sign_out, self._services.database, token)
        response = RedirectResponse(index_url(request), status_code=HTTP_303_SEE_OTHER)
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")
        return response

    def _too_many(self, request: Request, error: TooManyRequests) -> Response:
        if self._templates is None:
            raise RuntimeError("get_routes() was not called")
        minutes = max(1, round(error.retry_after / 60))
        message = gettext("Too many attempts. Try again in %(minutes)d minutes.") % {"minutes": minutes}
        return self._templates.TemplateResponse(
            request=request,
            name="login.html",
            context={"error": message},
            status_code=HTTP_429_TOO_MANY_REQUESTS,
            headers={"Retry-After": str(round(error.retry_after))},
        )
