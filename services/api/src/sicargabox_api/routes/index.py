"""The search index as it is now, and its end. Rebuilding and auditing it are tasks as all others: `POST /tasks/…`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from sicargabox_api.authentication import require
from sicargabox_api.problems import responses
from sicargabox_api.rate_limits import StaffLimit
from sicargabox_api.routes.task_models import StartedTask, Task, task_of
from sicargabox_api.routes.tasks import SCOPE, started
from sicargabox_api.services import ServicesDep
from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.principal import Principal
from sicargabox_core.search.engine import Fault, Health
from sicargabox_core.search.report import index_report, request_delete
from sicargabox_core.tasks.contracts import DELETE_INDEX

router = APIRouter(tags=["index"])

ViewerDep = Annotated[Principal, Depends(require(Role.VIEWER, SCOPE))]
DeleterDep = Annotated[Principal, Depends(require(Role(DELETE_INDEX.role), SCOPE))]

_NAME = "0192f0c1-5e7a-7cc3-9f5e-1c2d3e4f5a6b-1"
_GENERATION: dict[str, Any] = {
    "name": _NAME,
    "role": "serving",
    "documents": 7495,
    "size": 4_194_304,
    "built_at": "2026-03-02T08:00:02Z",
}
_TASK: dict[str, Any] = {
    "id": "0192f0c1-5e7a-7cc3-9f5e-1c2d3e4f5a6b",
    "name": "search.audit",
    "title": "Auditar índice",
    "queue": "elasticsearch",
    "state": "SUCCESS",
    "final": True,
    "initiated_by": "user:ana",
    "created_at": "2026-03-02T09:00:00.012000Z",
    "run_at": "2026-03-02T09:00:00.012000Z",
    "started_at": "2026-03-02T09:00:00.090000Z",
    "finished_at": "2026-03-02T09:00:03.400000Z",
    "cancel_requested_at": None,
    "attempt": 1,
    "failures": 0,
    "max_attempts": 8,
    "worker": "elasticsearch@node-1",
    "no_worker_knows_it": False,
    "progress": {"current": 7495, "total": 7495, "percent": 100, "message": "7495/7495 documents compared"},
    "children": None,
    "result": {
        "ok": False,
        "database": 7495,
        "index": 7495,
        "missing": 0,
        "extra": 0,
        "stale": 1,
        "missing_codes": [],
        "extra_codes": [],
        "stale_codes": ["8517130000"],
    },
    "error": None,
    "parent": None,
    "retried_from": None,
    "waits_for": None,
    "schedule": None,
    "scheduled_for": None,
    "request_id": "f3b0c44298fc1c149afbf4c8996fb924",
}
_INDEX: dict[str, Any] = {
    "engine": "tantivy",
    "version": "0.27.0",
    "health": "green",
    "ready": True,
    "documents": 7495,
    "size": 4_194_304,
    "generation": _NAME,
    "previous": None,
    "number": 3,
    "built_at": "2026-03-02T08:00:02Z",
    "seconds": 1.9,
    "proof": {"given": 7495, "held": 7495},
    "problem": None,
    "fault": None,
    "generations": [_GENERATION],
    "running": [],
    "last_rebuild": None,
    "last_audit": _TASK,
    "audit_outdated": False,
}
_AWAY: dict[str, Any] = _INDEX | {
    "version": None,
    "health": "away",
    "ready": False,
    "documents": 0,
    "size": 0,
    "generation": None,
    "number": 0,
    "built_at": None,
    "seconds": None,
    "proof": None,
    "problem": "the search engine does not answer. Searches are answered from the database meanwhile.",
    "fault": "away",
    "generations": [],
}


class GenerationNow(BaseModel):
    """One generation of the index; null where the engine cannot tell. ``size`` in bytes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_GENERATION]}, from_attributes=True)

    name: str
    role: Literal["serving", "previous", "building"]
    documents: int | None
    size: int | None
    built_at: datetime | None


class ProofNow(BaseModel):
    """Documents given to the engine, and those it held when the generation was put into service."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"given": 7495, "held": 7495}]}, from_attributes=True)

    given: int
    held: int


class IndexNow(BaseModel):
    """The index. An engine that is away is told here (``health``, ``problem``) and is no error of this request."""

    model_config = ConfigDict(json_schema_extra={"examples": [_INDEX, _AWAY]}, from_attributes=True)

    engine: str
    version: str | None = Field(description="Of the engine's server or library.")
    health: Health = Field(
        description="green: all is well; yellow: it answers without a copy to spare; red: the engine answers, but "
        "there is no index that can; away: the engine does not answer. Then SQL answers searches (`degraded`)."
    )
    ready: bool = Field(description="There is a generation to answer from.")
    documents: int
    size: int = Field(description="Bytes.")
    generation: str | None = Field(description="The one that serves; `DELETE /index` wants its name.")
    previous: str | None
    number: int = Field(description="Rises with every change of what is searched.")
    built_at: datetime | None
    seconds: float | None = Field(description="How long building the serving generation took.")
    proof: ProofNow | None = Field(description="What was counted before it was put into service.")
    problem: str | None = Field(description="What is wrong and what to do, for people.")
    fault: Fault | None = Field(description="Its kind, for programs.")
    generations: list[GenerationNow]
    running: list[Task] = Field(description="Rebuilds, audits and deletes that have not ended.")
    last_rebuild: Task | None = Field(description="The last one that ended, however it did.")
    last_audit: Task | None = Field(description="The last one that ended; what it found is its `result`.")
    audit_outdated: bool = Field(description="What the audit looked at does not serve any more.")


@router.get("/index", summary="The search index", responses=responses(401, 403, 422, 429, 503))
def show_index(services: ServicesDep, _limit: StaffLimit, _caller: ViewerDep) -> IndexNow:
    """Engine, health and generations; what runs on it now; how the last rebuild and the last audit ended."""
    report = index_report(services.search.engine, services.tasks)
    return IndexNow(
        **{name: getattr(report.status, name) for name in IndexNow.model_fields if hasattr(report.status, name)},
        running=[task_of(task) for task in report.running],
        last_rebuild=task_of(report.last_rebuild) if report.last_rebuild else None,
        last_audit=task_of(report.last_audit) if report.last_audit else None,
        audit_outdated=report.audit_outdated,
    )


@router.delete(
    "/index",
    status_code=202,
    summary="Delete the search index",
    responses={
        200: {"model": StartedTask, "description": "It is being deleted already (`already_running`)."},
        **responses(401, 403, 409, 422, 429, 503),
    },
)
def delete_index(
    request: Request,
    response: Response,
    services: ServicesDep,
    _limit: StaffLimit,
    caller: DeleterDep,
    generation: Annotated[
        str,
        Query(
            min_length=1,
            max_length=200,
            description="The generation that serves, as `GET /index` names it; a 409 when another one does.",
            examples=[_NAME],
        ),
    ],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> StartedTask:
    """Starts the task that removes the index with all its generations. Searches are answered from SQL until a rebuild.

    It never runs beside a rebuild (409 `already_running`); a rebuild that is asked for meanwhile begins after it.
    """
    submission = request_delete(
        services.search.engine,
        services.tasks,
        generation,
        by=caller.name,
        request_id=request.state.request_id,
        idempotency_key=idempotency_key,
    )
    return started(request, response, submission, idempotency_key)
