"""Turns answers into pages: language, colours, templates, marked words, and the two files a page needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from sicargabox_api.routes.search import Highlight
from sicargabox_api.translations import LANGUAGE_COOKIE, LANGUAGES, THEME_COOKIE, translations
from sicargabox_core.search.service import Lang
from sicargabox_core.settings import Settings

_YEAR_SECONDS = 365 * 24 * 3600
# Nothing inline, nothing from elsewhere; an icon is a data: address.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
MEDIA_TYPES = {"page.css": "text/css", "search.js": "text/javascript"}


def language_of(request: Request) -> Lang:
    """The language asked for in the address, else the one chosen before, else Spanish."""
    for asked in (request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if asked in LANGUAGES:
            return "en" if asked == "en" else "es"
    return "es"


def page(request: Request, name: str, status: int = HTTPStatus.OK, **context: Any) -> HTMLResponse:
    """The page ``name``, with the headers and cookies that belong to it."""
    language = language_of(request)
    theme = request.cookies.get(THEME_COOKIE)
    settings: Settings = request.app.state.services.settings
    other = "en" if language == "es" else "es"
    template = _environment(language).get_template(name)
    body = template.render(
        lang=language,
        other_lang=other,
        other_address=_address_with(request, lang=other),
        theme=theme if theme in ("light", "dark") else None,
        asset=asset_address,
        **context,
    )
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache", "Content-Language": language}
    response = HTMLResponse(body, status_code=status, headers=headers)
    if request.query_params.get("lang") == language:
        # Not HttpOnly: the staff pages' own switch writes the same cookie.
        response.set_cookie(
            LANGUAGE_COOKIE, language, max_age=_YEAR_SECONDS, samesite="lax", secure=settings.secure_cookies
        )
    return response


def say(request: Request, message: str) -> str:
    """One of our texts in the language of the page."""
    return str(translations(language_of(request), "public").gettext(message))


def marked(text: str, highlights: Iterable[Highlight], field: str) -> Markup:
    """``text`` escaped, with the highlighted words of ``field`` in ``<mark>``."""
    parts: list[Markup] = []
    at = 0
    for one in sorted((one for one in highlights if one.field == field), key=lambda one: one.start):
        if one.start < at or one.end > len(text):
            continue
        parts += [escape(text[at : one.start]), Markup("<mark>{}</mark>").format(text[one.start : one.end])]
        at = one.end
    parts.append(escape(text[at:]))
    return Markup("").join(parts)


def percent(value: str | None) -> str | None:
    """ "15.00" as people write it: 15 %."""
    if value is None:
        return None
    return f"{value.rstrip('0').rstrip('.') if '.' in value else value} %"


@cache
def asset(name: str) -> bytes:
    """One of our static files."""
    return (files(__package__) / "static" / name).read_bytes()


@cache
def asset_address(name: str) -> str:
    """Its address, which changes with the file, so that browsers may keep it for a year."""
    return f"/static/{name}?v={hashlib.sha256(asset(name)).hexdigest()[:12]}"


def _address_with(request: Request, **changed: str) -> str:
    if request.method != "GET":
        return "/?" + urlencode(changed)
    query = {**request.query_params, **changed}
    return f"{request.url.path}?{urlencode(query)}"


@cache
def _environment(language: str) -> Environment:
    environment = Environment(
        loader=PackageLoader(str(__package__)),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.install_gettext_translations(  # type: ignore[attr-defined]  # added by the i18n extension
        translations(language, "public"), newstyle=True
    )
    environment.filters["percent"] = percent
    environment.globals["marked"] = marked
    return environment
