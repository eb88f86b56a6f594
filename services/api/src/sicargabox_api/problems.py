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
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
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

# What the framework itself refuses. Not made from the phrases, which Python 3.13 changed.
HTTP_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}

log = structlog.get_logger(__name__)


class FieldFault(BaseModel):
    """One fault of a request: where, and what."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"field": "limit", "in": "query", "detail": "Input should be at least 1"}]}
    )

    field: str
    place: str = Field(alias="in")
    detail: str


class Problem(BaseModel):
    """An error by RFC 9457. ``code`` is for programs and stable; ``detail`` and ``remedy`` are for people."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:sicargabox:problem:invalid_input",
                    "title": "Unprocessable Entity",
                    "status": 422,
                    "detail": "'85x' is not a tariff code",
                    "code": "invalid_input",
                    "request_id": "f3b0c44298fc1c149afbf4c8996fb924",
                    "field": "code",
                    "remedy": "Write 2 to 12 digits, with or without dots, such as 8517.13.00.00.",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None
    field: str | None = None
    remedy: str | None = None
    errors: list[FieldFault] | None = None
    task_id: str | None = None


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI documentation of these problems, for a route's ``responses``."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _MEANING[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }


def add_schema(document: dict[str, Any]) -> None:
    """Puts the schema that ``responses`` refers to into an OpenAPI document."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"] |= schema.pop("$defs") | {"Problem": schema}


_MEANING = {
    401: "Nobody is signed in, or the token is not valid.",
    403: "The caller may not do this.",
    404: "There is no such thing.",
    409: "The present state forbids it.",
    413: "The body is too large.",
    422: "The request is wrong; `field` and `remedy` say where and how to mend it.",
    429: "Too many requests; `Retry-After` says when to come back.",
    503: "The database does not answer; `Retry-After` says when to come back.",
}


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


def add_handlers(app: FastAPI) -> None:
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
        if error.errors()[0]["type"] == "json_invalid":
            # Its place is where the reading stopped, not a field.
            return problem(
                request,
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "the body is not JSON",
                code=InvalidInput.code,
                field="body",
                remedy="Send a JSON object, with Content-Type: application/json.",
            )
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
            code=HTTP_CODES.get(error.status_code, f"http_{error.status_code}"),
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


def unexpected(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error that nobody raised on purpose; its cause goes to the log only."""
    log.error("unexpected_error", exc_info=error)
    return problem(
        request,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "an unexpected error; the log has its cause under this request_id",
        code="internal_error",
    )
