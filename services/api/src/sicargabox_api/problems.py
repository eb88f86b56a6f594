"""Errors as RFC 9457 problems: the table *error → status*, and the handlers that use it.

Body: ``{"type", "title", "status", "detail", "code", "request_id"}`` plus ``field`` and ``remedy`` where the caller
can mend it, ``errors`` (a list of those) for a body with several faults, ``task_id`` for a conflict with a task.
Media type ``application/problem+json``. Nothing of SQL, of a trace or of a secret ever goes out.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError, TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from sicargabox_core.errors import (
    AlreadyRunning,
    Conflict,
    DataFault,
    Forbidden,
    IdempotencyMismatch,
    InvalidInput,
    NotFound,
    SicargaBoxError,
    SignInRequired,
    TaskFailed,
    TooManyRequests,
    Unavailable,
)

MEDIA_TYPE = "application/problem+json"

# The most special class first: the first match decides.
STATUS: tuple[tuple[type[SicargaBoxError], HTTPStatus], ...] = (
    (IdempotencyMismatch, HTTPStatus.UNPROCESSABLE_ENTITY),
    (AlreadyRunning, HTTPStatus.CONFLICT),
    (Conflict, HTTPStatus.CONFLICT),
    (SignInRequired, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY),
    (TooManyRequests, HTTPStatus.TOO_MANY_REQUESTS),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (TaskFailed, HTTPStatus.INTERNAL_SERVER_ERROR),
    (DataFault, HTTPStatus.INTERNAL_SERVER_ERROR),
    (SicargaBoxError, HTTPStatus.INTERNAL_SERVER_ERROR),
)

log = structlog.get_logger(__name__)


def status_of(error: SicargaBoxError) -> HTTPStatus:
    """The HTTP status of one of our errors."""
    return next(status for kind, status in STATUS if isinstance(error, kind))


def problem(
    request: Request,
    status: HTTPStatus,
    detail: str,
    *,
    code: str,
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> JSONResponse:
    """A problem response; ``extra`` members that are ``None`` are left out."""
    body: dict[str, Any] = {
        "type": f"urn:sicargabox:problem:{code}",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "code": code,
        "request_id": getattr(request.state, "request_id", None),
    }
    body.update({name: value for name, value in extra.items() if value is not None})
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def add_problem_handlers(app: FastAPI) -> None:
    """Makes every error of the application a problem."""

    @app.exception_handler(SicargaBoxError)
    def _ours(request: Request, error: SicargaBoxError) -> JSONResponse:
        status = status_of(error)
        headers: dict[str, str] = {}
        if isinstance(error, TooManyRequests):
            headers["Retry-After"] = str(max(1, round(error.retry_after)))
        elif isinstance(error, Unavailable):
            headers["Retry-After"] = "2"
        elif isinstance(error, SignInRequired):
            headers["WWW-Authenticate"] = "Bearer"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request_failed", error=error.code, exc_info=error)
        return problem(
            request,
            status,
            error.message,
            code=error.code,
            headers=headers,
            field=error.field,
            remedy=error.remedy,
            task_id=getattr(error, "task_id", None),
        )

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [
            {
                "field": ".".join(str(part) for part in fault["loc"][1:]) or str(fault["loc"][0]),
                "in": str(fault["loc"][0]),
                "detail": fault["msg"],
            }
            for fault in error.errors()
        ]
        first = faults[0]
        return problem(
            request,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{first['field']}: {first['detail']}",
            code=InvalidInput.code,
            field=first["field"],
            remedy="Correct the field; /api/v1/docs describes it.",
            errors=faults,
        )

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        return problem(
            request,
            status,
            str(error.detail),
            code=status.phrase.lower().replace(" ", "_"),
            headers=dict(error.headers or {}),
        )

    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeoutError)
    def _database_away(request: Request, error: Exception) -> JSONResponse:
        log.error("database_unavailable", exc_info=error)
        return problem(
            request,
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the database does not answer",
            code=Unavailable.code,
            remedy="Try again in a few seconds.",
            headers={"Retry-After": "2"},
        )

    @app.exception_handler(Exception)
    def _unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("unexpected_error", exc_info=error)
        return problem(
            request,
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "an unexpected error; the log has its cause under this request_id",
            code="internal_error",
        )
