"""What surrounds every request: an id that follows it into logs and tasks, metrics, security headers, a size limit.

Plain ASGI rather than Starlette's ``BaseHTTPMiddleware``, which wraps every body in a task of its own and would
buffer server-sent events.
"""

from __future__ import annotations

import re
import time
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request

from sicargabox_api import problems
from sicargabox_core.observability import HTTP_REQUESTS, HTTP_SECONDS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = "X-Request-ID"
# The largest sensible body is 10,000 codes for keywords: 130 kB.
BODY_BYTES = 1024 * 1024
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Probes and scrapes would be most of the log.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # For JSON; a page sets its own.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

log = structlog.get_logger("sicargabox_api.request")


class RequestContext:
    """Binds ``request_id`` (the caller's, if it is a sane one), counts and times the request, adds headers.

    An error that nobody foresaw becomes a problem here, inside of all this, so that its answer has the headers too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if re.fullmatch(r"[\w.:-]{1,64}", given, re.ASCII) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = time.perf_counter()
        status: int | None = None
        endless = False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, endless
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                endless = headers.get("content-type", "").startswith("text/event-stream")
                headers[REQUEST_ID_HEADER] = request_id
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except Exception as error:
            if status is not None:
                raise
            await problems.unexpected(Request(scope), error)(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            HTTP_REQUESTS.labels(method, route, f"{(status or 500) // 100}xx").inc()
            if not endless:
                # How long somebody watched a task says nothing of how fast we answer.
                HTTP_SECONDS.labels(method, route).observe(seconds)
            if scope["path"] not in _QUIET:
                # The path, never the query string: it holds what people typed.
                log.info("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))


class BodyLimit:
    """Refuses bodies larger than ``BODY_BYTES`` with 413, by their announced length or while they are read.

    Starlette has such a limit too (``max_body_size``), but answers in plain text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and int(announced) > BODY_BYTES:
            await _too_large(Request(scope))(scope, receive, send)
            return
        read = 0

        async def counting() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > BODY_BYTES:
                # FastAPI passes an HTTPException from here on to the handlers of problems.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE)
            return message

        await self.app(scope, counting, send)


_TOO_LARGE = f"the body is larger than {BODY_BYTES // 1024} KiB"


def _too_large(request: Request) -> ASGIApp:
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return problems.problem(request, status, _TOO_LARGE, code=problems.HTTP_CODES[status.value], remedy="Send less.")
