"""A content security policy without ``unsafe-inline`` for scripts, though starlette-admin's templates hold inline ones.

Each response has a nonce; a Jinja extension writes it into every ``<script>`` and ``<style>`` of the library's
templates while they are compiled, and renames its two inline handlers, which ``static/js/staff.js`` then serves.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from jinja2.ext import Extension
from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TAG = re.compile(r"<(script|style)(?=[\s>])")
_HANDLER = re.compile(r"\son(click|change)=")
# 19 style attributes of the library's templates are left; an attribute cannot run code.
_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'nonce-{nonce}'; "
    "style-src-attr 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class NonceExtension(Extension):
    """Makes the library's templates fit the policy."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """The template's text with nonces, and with handlers as data."""
        source = _TAG.sub(r'<\1 nonce="{{ request.state.csp_nonce }}"', source)
        return _HANDLER.sub(r" data-sb-on\1=", source)


class PageSecurity:
    """Gives each request a nonce and each page its policy; staff data is never kept by a cache, files are for long."""

    def __init__(self, app: ASGIApp, *, static_prefix: str) -> None:
        self.app = app
        self._static_prefix = static_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(16)
        scope.setdefault("state", {})["csp_nonce"] = nonce

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers["Content-Security-Policy"] = _POLICY.format(nonce=nonce)
                if not scope["path"].startswith(self._static_prefix):
                    headers.setdefault("Cache-Control", "no-store")
                elif b"v=" in scope["query_string"] and message["status"] == 200:
                    headers["Cache-Control"] = "public, max-age=31536000, immutable"
            await send(message)

        await self.app(scope, receive, send_with_policy)
