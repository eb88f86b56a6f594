"""Errors of the public pages as pages: what happened, what to do, and the id under which the log has it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from sicargabox_api.problems import status_of
from sicargabox_api.public.pages import page
from sicargabox_core.errors import SicargaBoxError, TooManyRequests

log = structlog.get_logger(__name__)


class PageRoute(APIRoute):
    """A route whose errors are pages, not problems in JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The library's handler with the errors caught around it."""
        handler = super().get_route_handler()

        async def with_pages(request: Request) -> Response:
            try:
                return await handler(request)
            except SicargaBoxError as error:
                return _of_ours(request, error)
            except RequestValidationError:
                return error_page(request, HTTPStatus.UNPROCESSABLE_ENTITY)
            except (OperationalError, PoolTimeoutError) as error:
                log.error("database_unavailable", exc_info=error)
                return error_page(request, HTTPStatus.SERVICE_UNAVAILABLE, retry_after=2)
            except HTTPException as error:
                return error_page(request, error.status_code)
            except Exception as error:  # whatever it is, a visitor gets a page, and the log its cause
                log.error("unexpected_error", exc_info=error)
                return error_page(request, HTTPStatus.INTERNAL_SERVER_ERROR)

        return with_pages


def _of_ours(request: Request, error: SicargaBoxError) -> Response:
    status = status_of(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request_failed", error=error.code, exc_info=error)
    if isinstance(error, TooManyRequests):
        return error_page(request, status, retry_after=max(1, round(error.retry_after)))
    return error_page(request, status, retry_after=2 if status == HTTPStatus.SERVICE_UNAVAILABLE else None)


def answer_strays(app: FastAPI) -> None:
    """Gives a person who follows a dead link a page; programs go on getting a problem."""
    as_problem: Any = app.exception_handlers[HTTPException]

    def answer(request: Request, error: HTTPException) -> Response:
        person = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if person and error.status_code == HTTPStatus.NOT_FOUND and not request.url.path.startswith("/api/"):
            return error_page(request, HTTPStatus.NOT_FOUND)
        told: Response = as_problem(request, error)
        return told

    app.add_exception_handler(HTTPException, answer)  # type: ignore[arg-type]  # Starlette's type knows no subclasses


def error_page(request: Request, status: int, *, retry_after: int | None = None) -> Response:
    """The page for ``status``; what was typed stays in the box."""
    response = page(
        request,
        "error.html",
        status,
        q=request.query_params.get("q", "")[:200],
        code=int(status),
        retry_after=retry_after,
        request_id=getattr(request.state, "request_id", ""),
    )
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response
