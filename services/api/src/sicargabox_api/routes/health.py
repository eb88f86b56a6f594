"""Whether the process lives, whether it can serve, and its figures for Prometheus.

``/readyz`` depends on SQL alone: accepted work is safe and searches are answered from SQL while Redis or the index is
away, so taking the API out of service then would turn a small fault into an outage. Both are reported in the body.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import SQLAlchemyError

from sicargabox_api.services import Services, ServicesDep
from sicargabox_core.db import expected_schema_version, schema_version
from sicargabox_core.errors import Forbidden, Unavailable
from sicargabox_core.observability import render_metrics
from sicargabox_core.redis_server import Db, RedisError, connect

router = APIRouter(tags=["health"])

# A probe is not kept waiting for a Redis that does not matter to its verdict.
_REDIS_SECONDS = 0.2


class Health(BaseModel):
    """The process lives."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"]


class Readiness(BaseModel):
    """Whether requests can be served; ``redis`` and ``search`` are for information."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"status": "ready", "database": "ok", "redis": "ok", "search": "ok"},
                {"status": "not ready", "database": "the database does not answer", "redis": "away", "search": "ok"},
            ]
        }
    )

    status: Literal["ready", "not ready"]
    database: str
    redis: Literal["ok", "away"]
    search: Literal["ok", "away"]


@router.get("/healthz", summary="Does the process live?")
async def healthz() -> Health:
    """Always 200 while the process can answer at all."""
    return Health(status="ok")


@router.get("/readyz", summary="Can requests be served?", responses={503: {"model": Readiness}})
def readyz(request: Request, services: ServicesDep, response: Response) -> Readiness:
    """503 while the database does not answer or has an older schema than this release needs."""
    fault = _database_fault(services, request)
    if fault:
        response.status_code = 503
    return Readiness(
        status="not ready" if fault else "ready",
        database=fault or "ok",
        redis="ok" if _redis_answers(services) else "away",
        search="ok" if services.search.engine.status().ready else "away",
    )


def _database_fault(services: Services, request: Request) -> str | None:
    try:
        services.database.ping()
        if not getattr(request.app.state, "schema_is_new_enough", False):
            # Looked at until it is: while we run it only gets newer.
            found, needed = schema_version(services.database), expected_schema_version()
            if found < needed:
                return f"schema version {found} is older than {needed}; run `sicargabox migrate`"
            request.app.state.schema_is_new_enough = True
    except (Unavailable, SQLAlchemyError):
        return "the database does not answer"
    return None


def _redis_answers(services: Services) -> bool:
    try:
        with connect(services.settings, Db.BROKER, timeout=_REDIS_SECONDS) as client:
            return bool(client.ping())
    except RedisError:
        return False


@router.get(
    "/metrics",
    summary="Figures in Prometheus' text format",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request, services: ServicesDep) -> Response:
    """For scrapers of the same network, not for the public.

    403 for a peer with a public address and for whatever came through a proxy (which leads the public here), unless
    ``SICARGABOX_PUBLIC_METRICS`` is set.
    """
    if not services.settings.public_metrics and not from_inside(request):
        raise Forbidden(
            "figures are for scrapers of the same network", remedy="Scrape the process itself, past any proxy."
        )
    return Response(render_metrics(), media_type=CONTENT_TYPE_LATEST)


def from_inside(request: Request) -> bool:
    """Whether the peer has an address of a private network and no proxy led it here."""
    if "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return request.client is not None and not ip_address(request.client.host).is_global
    except ValueError:
        return False
