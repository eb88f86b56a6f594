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
from sicargabox_core.redis_report import memory_report
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
    "version": "9.1.2",
    "role": "master",
    "uptime": 86400,
    "used": 2_400_000,
    "maximum": 268_435_456,
    "policy": "volatile-lru",
    "evicted": 0,
    "clients": 12,
    "persistence_ok": True,
    "databases": [{"db": 0, "name": "broker", "keys": 4, "expiring": 0, "bytes": 9_200, "budget": 52_428_800}],
    "replicas": [{"address": "10.0.0.5:6379", "state": "online", "lag": 0}],
    "slow": [{"at": 1_772_438_400, "microseconds": 12_000, "command": "KEYS *"}],
}


def _example(*examples: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)}, from_attributes=True)


class PartFault(BaseModel):
    """Why a part of the answer is missing."""

    model_config = _example(_AWAY)

    code: str
    detail: str


class QueueNow(BaseModel):
    """One queue. ``workers`` and ``published`` (messages in Redis) are null while Redis does not answer."""

    model_config = _example(_QUEUE)

    queue: Queue
    waiting: int = Field(description="Due.")
    delayed: int = Field(description="Not yet due.")
    running: int = Field(description="Held by a worker now.")
    oldest_age_seconds: float = Field(description="How long the oldest due task has waited.")
    workers: int | None
    published: int | None


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


class DatabaseNow(BaseModel):
    """One numbered database; ``bytes`` is an estimate from its keys, ``budget`` what it is meant to stay under."""

    model_config = _example(_REPORT["databases"][0])

    db: int
    name: str
    keys: int
    expiring: int
    bytes: int
    budget: int | None


class ReplicaNow(BaseModel):
    """One replica as its primary sees it; ``lag`` in seconds."""

    model_config = _example(_REPORT["replicas"][0])

    address: str
    state: str
    lag: int


class SlowCommandNow(BaseModel):
    """A slow command by its name and key, and when (Unix time) it took how long."""

    model_config = _example(_REPORT["slow"][0])

    at: int
    microseconds: int
    command: str


class RedisNow(BaseModel):
    """What Redis says of itself; sizes in bytes, times in seconds."""

    model_config = _example(_REPORT)

    version: str
    role: str
    uptime: int
    used: int
    maximum: int
    policy: str
    evicted: int
    clients: int
    persistence_ok: bool
    databases: list[DatabaseNow]
    replicas: list[ReplicaNow]
    slow: list[SlowCommandNow]


class RedisAnswer(BaseModel):
    """The report, or why there is none."""

    model_config = _example({"report": _REPORT, "redis_error": None}, {"report": None, "redis_error": _AWAY})

    report: RedisNow | None
    redis_error: PartFault | None


def _fault(error: Unavailable) -> PartFault:
    return PartFault(code=error.code, detail=error.message)


@router.get("/queues", summary="All queues", responses=responses(401, 403, 422, 429, 503))
def list_queues(services: ServicesDep, _limit: StaffLimit, _caller: ViewerDep) -> Queues:
    """What waits and runs by SQL; workers and messages by Redis."""
    with connect(services.settings, Db.BROKER, timeout=_REDIS_SECONDS) as broker:
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
    """Memory of each database against its budget, keyspace, replication and slow log."""
    try:
        report = memory_report(services.settings)
    except Unavailable as error:
        return RedisAnswer(report=None, redis_error=_fault(error))
    return RedisAnswer(report=RedisNow.model_validate(report), redis_error=None)
