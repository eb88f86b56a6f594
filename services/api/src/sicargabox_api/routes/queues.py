"""The queues and Redis as they are now. Redis being away is a finding here, not an error: SQL's part is still told."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from sicargabox_api.authentication import require
from sicargabox_api.problems import responses
from sicargabox_api.rate_limits import StaffLimit
from sicargabox_api.services import ServicesDep
from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.principal import Principal
from sicargabox_core.errors import Unavailable
from sicargabox_core.redis_report import RedisReport, memory_report
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.tasks.contracts import Queue
from sicargabox_core.tasks.queues import queue_figures, queue_messages

router = APIRouter(tags=["queues"])

SCOPE = "queues"
# A page refreshes these every few seconds; a Redis slower than that is shown as away.
_REDIS_SECONDS = 0.5

ViewerDep = Annotated[Principal, Depends(require(Role.VIEWER, SCOPE))]

_AWAY = {"code": "unavailable", "detail": "Redis does not answer"}
_QUEUE: dict[str, Any] = {
    "queue": "elasticsearch",
    "waiting": 2,
    "delayed": 0,
    "running": 1,
    "oldest_age_seconds": 3.4,
    "workers": 1,
    "published": 2,
    "without_message": 0,
}
_MESSAGE: dict[str, Any] = {
    "readable": True,
    "size": 812,
    "id": "0192f0c1-5e7a-7cc3-9f5e-1c2d3e4f5a6b",
    "name": "search.rebuild_index",
    "published_at": "2026-03-02T08:00:00.012000Z",
    "request_id": "f3b0c44298fc1c149afbf4c8996fb924",
}
_REPORT: dict[str, Any] = {
    "version": "7.0.15",
    "role": "master",
    "uptime": 86400,
    "used": 266_400_000,
    "maximum": 268_435_456,
    "peak": 268_400_000,
    "policy": "volatile-lru",
    "evicted": 41_205,
    "clients": 12,
    "refusing": "memory",
    "persistence_ok": True,
    "last_save_at": 1_772_438_100,
    "last_save_ok": True,
    "append_only": True,
    "append_only_ok": True,
    "databases": [{"db": 0, "name": "broker", "keys": 4, "expiring": 1, "bytes": 260_100_000, "budget": 52_428_800}],
    "replicas": [{"address": "10.0.0.5:6379", "state": "online", "lag": 0}],
    "sentinels": [
        {"address": "sentinel-0:26379", "answers": True, "primary": "10.0.0.4:6379", "others": 2, "quorum": 2}
    ],
    "slow": [{"at": 1_772_438_400, "microseconds": 12_000, "command": "LRANGE celery"}],
    "faults": [
        {
            "code": "memory_full",
            "about": "writes",
            "grave": True,
            "detail": "memory is full (254.1 MB of 256.0 MB) and nothing in it may be evicted: no message is taken; "
            "tasks are accepted and wait in SQL",
            "remedy": "Nothing is lost, and all starts by itself once there is room: add workers if the broker is over "
            "its budget, remove keys that are not ours, or raise maxmemory.",
            "values": {"used": "254.1 MB", "maximum": "256.0 MB"},
        }
    ],
}


def _example(*examples: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)}, from_attributes=True)


class PartFault(BaseModel):
    """Why a part of the answer is missing."""

    model_config = _example(_AWAY)

    code: str
    detail: str


class QueueNow(BaseModel):
    """One queue. What Redis knows (workers, messages) is null while it does not answer."""

    model_config = _example(_QUEUE)

    queue: Queue
    waiting: int = Field(description="Due.")
    delayed: int = Field(description="Not yet due.")
    running: int = Field(description="Held by a worker now.")
    oldest_age_seconds: float = Field(description="How long the oldest due task has waited.")
    workers: int | None
    published: int | None = Field(description="Messages in Redis.")
    without_message: int | None = Field(description="Due tasks beyond those messages; the scheduler publishes them.")


class Queues(BaseModel):
    """All queues; ``redis_error`` when what Redis knows is missing."""

    model_config = _example({"items": [_QUEUE], "redis_error": None})

    items: list[QueueNow]
    redis_error: PartFault | None


class Message(BaseModel):
    """A message waiting in Redis; of one that is not ours only its ``size`` in bytes is told."""

    model_config = _example(_MESSAGE)

    readable: bool
    size: int
    id: str
    name: str
    published_at: datetime | None
    request_id: str


class Messages(BaseModel):
    """What will be taken next, oldest first. Looking removes nothing."""

    model_config = _example({"queue": "elasticsearch", "items": [_MESSAGE], "redis_error": None})

    queue: Queue
    items: list[Message]
    redis_error: PartFault | None


class RedisAnswer(BaseModel):
    """The report, or why there is none."""

    model_config = _example({"report": _REPORT, "redis_error": None}, {"report": None, "redis_error": _AWAY})

    # As core tells it: one description for the doctor, the staff page and this answer.
    report: RedisReport | None
    redis_error: PartFault | None


def _fault(error: Unavailable) -> PartFault:
    return PartFault(code=error.code, detail=error.message)


@router.get("/queues", summary="All queues", responses=responses(401, 403, 422, 429, 503))
def list_queues(services: ServicesDep, _limit: StaffLimit, _caller: ViewerDep) -> Queues:
    """What waits and runs by SQL; workers and messages by Redis."""
    with connect(services.settings, Db.BROKER, replica_ok=True, timeout=_REDIS_SECONDS) as broker:
        figures = queue_figures(services.database, broker)
    away = any(one.published is None for one in figures)
    return Queues(items=[QueueNow(**asdict(one)) for one in figures], redis_error=PartFault(**_AWAY) if away else None)


@router.get("/queues/{queue}/messages", summary="What waits in Redis", responses=responses(401, 403, 422, 429, 503))
def list_messages(
    queue: Queue,
    services: ServicesDep,
    _limit: StaffLimit,
    _caller: ViewerDep,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Messages:
    """The next messages of a queue, without taking any."""
    try:
        with connect(services.settings, Db.BROKER, replica_ok=True, timeout=_REDIS_SECONDS) as broker:
            found = queue_messages(broker, queue.value, limit)
    except Unavailable as error:
        return Messages(queue=queue, items=[], redis_error=_fault(error))
    return Messages(queue=queue, items=[Message.model_validate(one) for one in found], redis_error=None)


@router.get("/redis", summary="Redis against its budgets", responses=responses(401, 403, 422, 429, 503))
def show_redis(services: ServicesDep, _limit: StaffLimit, _caller: ViewerDep) -> RedisAnswer:
    """Memory of each database against its budget, whether it takes writes, replication, slow log, and what is wrong."""
    try:
        report = memory_report(services.settings)
    except Unavailable as error:
        return RedisAnswer(report=None, redis_error=_fault(error))
    return RedisAnswer(report=report, redis_error=None)
