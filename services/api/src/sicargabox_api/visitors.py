"""Who chose a line: a visitor known by a random cookie, or a member of staff. Stored is only a keyed hash.

The cookie needs no account and no consent dialogue of its own kind: it holds 256 random bits, is read by nobody but
us, and lets people take a choice back and learning count people instead of clicks.
"""

from __future__ import annotations

import re
import secrets

from fastapi import Request, Response

from sicargabox_core.accounts.principal import Principal
from sicargabox_core.accounts.signing import keyed_hash
from sicargabox_core.settings import Settings

VISITOR_COOKIE = "sicargabox_visitor"
_YEAR_SECONDS = 365 * 24 * 3600


def person_of(request: Request, key: bytes, caller: Principal | None) -> str | None:
    """The hash under which this caller's choices are kept; ``None`` for one who has shown no cookie yet."""
    if caller is not None:
        return keyed_hash(key, "principal", caller.name)
    token = request.cookies.get(VISITOR_COOKIE, "")
    return keyed_hash(key, "visitor", token) if re.fullmatch(r"[\w-]{43}", token, re.ASCII) else None


def welcome(response: Response, settings: Settings, key: bytes) -> str:
    """Gives a new visitor a cookie and returns the hash of it."""
    token = secrets.token_urlsafe(32)
    response.set_cookie(
        VISITOR_COOKIE,
        token,
        max_age=_YEAR_SECONDS,
        path="/",
        httponly=True,
        samesite="lax",
        secure=settings.secure_cookies,
    )
    return keyed_hash(key, "visitor", token)
