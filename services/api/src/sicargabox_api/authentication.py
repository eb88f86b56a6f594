"""Who is asking: a staff session's cookie or an API token's ``Authorization: Bearer``.

A cookie is sent by the browser whatever page made the request, so a changing request that relies on it must also show
that it comes from our own pages: its ``Origin`` (or ``Referer``) must be ours, and it must not be cross-site by
``Sec-Fetch-Site`` (OWASP CSRF cheat sheet: verifying origin, with SameSite=Lax as the second line). Tokens need none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from sicargabox_api.services import Services, ServicesDep
from sicargabox_core.accounts import tokens, users
from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.principal import Principal
from sicargabox_core.errors import Forbidden, SignInRequired
from sicargabox_core.settings import Settings

SESSION_COOKIE = "sicargabox_session"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(auto_error=False, description="An API token, made with `sicargabox tokens create`.")
_cookie = APIKeyCookie(name=SESSION_COOKIE, auto_error=False, description="A staff session, opened at /admin.")


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def check_same_origin(request: Request, settings: Settings, *, programs: bool = False) -> None:
    """Raises ``Forbidden`` when a changing request did not come from one of our own pages.

    ``programs``: one that says nothing of where it comes from may pass, since every browser says it.
    """
    if request.method in _SAFE_METHODS:
        return
    source = request.headers.get("origin") or request.headers.get("referer") or ""
    if programs and not source and "sec-fetch-site" not in request.headers:
        return
    ours = {
        _origin(settings.effective_public_url),
        _origin(settings.effective_admin_url),
        (request.url.scheme, request.headers.get("host", "")),
    }
    if request.headers.get("sec-fetch-site") == "cross-site" or not source or _origin(source) not in ours:
        raise Forbidden(
            "a request with a cookie must come from SicargaBox's own pages",
            remedy="Programs use an API token and no cookies.",
        )


async def principal(
    request: Request,
    services: ServicesDep,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    cookie: Annotated[str | None, Security(_cookie)],
) -> Principal | None:
    """The caller, or ``None`` for a visitor; a token that is not valid is an error, not a visitor.

    Only who shows something is looked up in SQL, and thus by a thread: most requests are visitors'.
    """
    if bearer is None and not cookie:
        return None
    return await run_sync(_known, request, services, bearer, cookie)


def _known(
    request: Request, services: Services, bearer: HTTPAuthorizationCredentials | None, cookie: str | None
) -> Principal | None:
    if bearer is not None:
        found = tokens.authenticate(services.database, bearer.credentials)
        if found is None:
            raise SignInRequired("the token is unknown, expired or revoked", remedy="Use a live one.")
        return found
    if cookie:
        found = users.session_user(services.database, cookie, session_seconds=services.settings.session_seconds)
        if found is not None:
            check_same_origin(request, services.settings)
        return found
    return None


CallerDep = Annotated[Principal | None, Depends(principal)]


def require(role: Role, scope: str | None = None) -> Callable[[Principal | None], Awaitable[Principal]]:
    """A dependency that lets through callers with at least ``role`` (and, for tokens, the ``scope``)."""

    async def check(caller: CallerDep) -> Principal:
        if caller is None:
            raise SignInRequired("sign in first", remedy="Open /admin, or send an API token.")
        caller.require(role, scope)
        return caller

    return check


def visitor(scope: str) -> Callable[[Principal | None], Awaitable[Principal | None]]:
    """A dependency of public routes: everyone may pass, but a token only does what its scopes say."""

    async def check(caller: CallerDep) -> Principal | None:
        if caller is not None:
            caller.require(Role.VIEWER, scope)
        return caller

    return check
