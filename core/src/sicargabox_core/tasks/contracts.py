"""What both ends of a queue know: queues, states, every task's payload, result and limits.

Imports pydantic only, so that a producer never loads a worker's dependencies. Names are wire format: ``noun.verb``,
never renamed; an incompatible payload is a new name. New fields have defaults; unknown fields are ignored, and
``version`` rises with each change so that a worker of an older release leaves newer rows to newer workers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field


class Queue(StrEnum):
    """The queues; one worker type each, `celery` (housekeeping) is served by the indexer-worker too."""

    ELASTICSEARCH = "elasticsearch"
    AI_GENERATION = "ai_generation"
    LEARNING = "learning"
    CELERY = "celery"


class State(StrEnum):
    """Celery's words. PROGRESS is not stored: it is how a STARTED row with progress is shown."""

    PENDING = "PENDING"
    RETRY = "RETRY"
    STARTED = "STARTED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"


FINAL_STATES = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})
WAITING_STATES = frozenset({State.PENDING, State.RETRY})


class Payload(BaseModel):
    """Base of payloads and results: frozen, tolerant of fields a newer release added."""

    model_config = ConfigDict(frozen=True, extra="ignore")


P = TypeVar("P", bound=Payload)
R = TypeVar("R", bound=Payload)


@dataclass(frozen=True)
class TaskSpec(Generic[P, R]):
    """One kind of task.

    ``time_limit`` seconds: the heartbeat stops there and the process is killed. ``max_attempts`` counts failures
    (errors and expired leases), not drains. ``exclusive`` names the key under which only one unfinished task may
    exist. ``follow_up``: asked for again while one runs and the data has changed since, one more run is queued;
    asked for while another kind of task holds the key, it begins when that one ends.
    ``startable``: staff may start it by name through the API with ``role``.
    """

    name: str
    queue: Queue
    payload: type[P]
    result: type[R]
    title: str
    time_limit: float = 300.0
    max_attempts: int = 3
    version: int = 1
    exclusive: Callable[[P], str] | None = None
    follow_up: bool = False
    startable: bool = True
    role: Literal["reviewer", "operator", "admin"] = "operator"


class Nothing(Payload):
    """A task without arguments, or without a result worth keeping."""


# --- search (queue elasticsearch) ------------------------------------------------------------------------------------
class RebuildIndex(Payload):
    """Build a new generation of the search index from SQL and put it into service."""


class RebuildIndexResult(Payload):
    """``time`` is ``seconds`` for people, e.g. "2s"."""

    documents: int
    time: str
    seconds: float


class UpdateLines(Payload):
    """Write these tariff lines' documents anew (or delete those of retired lines) in the serving generation."""

    codes: list[str] = Field(min_length=1, max_length=5000)


class UpdateLinesResult(Payload):
    """How many documents were written and how many deleted; codes that the catalogue never had, at most 100 by name."""

    updated: int
    deleted: int
    unknown: int = 0
    unknown_codes: list[str] = []


class AuditIndex(Payload):
    """Compare database and index; changes nothing."""


class AuditIndexResult(Payload):
    """Counts, and at most 100 codes of each kind. ``ok``: nothing missing, extra or stale."""

    ok: bool
    database: int
    index: int
    missing: int
    extra: int
    stale: int
    missing_codes: list[str] = []
    extra_codes: list[str] = []
    stale_codes: list[str] = []


class DeleteIndex(Payload):
    """Remove the search index with all its generations, if ``generation`` is the one that serves.

    Whoever asks names what they saw, so that an index built since is not removed by mistake.
    """

    generation: str = Field(min_length=1, max_length=200)


class DeleteIndexResult(Payload):
    """How many documents the index held; 0 when it was gone already, by an attempt before for one."""

    documents: int


# A rebuild and a delete are never unfinished at the same time.
_WHOLE_INDEX = "search.rebuild_index"
# Five to ten minutes of pauses: three attempts were over in 12 s, before an Elasticsearch that was killed had started.
_OUTLASTING_A_RESTART = 8

REBUILD_INDEX = TaskSpec(
    name="search.rebuild_index",
    queue=Queue.ELASTICSEARCH,
    payload=RebuildIndex,
    result=RebuildIndexResult,
    title="Reconstruir índice",
    time_limit=900,
    max_attempts=_OUTLASTING_A_RESTART,
    exclusive=lambda _: _WHOLE_INDEX,
    follow_up=True,
)
DELETE_INDEX = TaskSpec(
    name="search.delete_index",
    queue=Queue.ELASTICSEARCH,
    payload=DeleteIndex,
    result=DeleteIndexResult,
    title="Borrar índice",
    time_limit=120,
    max_attempts=_OUTLASTING_A_RESTART,
    exclusive=lambda _: _WHOLE_INDEX,
    # Asked for by `DELETE /index` and its like alone, which refuse a name that does not serve.
    startable=False,
    role="admin",
)
UPDATE_LINES = TaskSpec(
    name="search.update_lines",
    queue=Queue.ELASTICSEARCH,
    payload=UpdateLines,
    result=UpdateLinesResult,
    title="Actualizar partidas en el índice",
    time_limit=300,
    max_attempts=_OUTLASTING_A_RESTART,
    version=2,
)
AUDIT_INDEX = TaskSpec(
    name="search.audit",
    queue=Queue.ELASTICSEARCH,
    payload=AuditIndex,
    result=AuditIndexResult,
    title="Auditar índice",
    time_limit=600,
    max_attempts=_OUTLASTING_A_RESTART,
    exclusive=lambda _: "search.audit",
)


# --- keywords (queue ai_generation) ----------------------------------------------------------------------------------
class GenerateKeywords(Payload):
    """Generate keywords for a chapter, for given lines, or (neither given) for all lines that have none."""

    chapter: str | None = Field(None, pattern=r"^\d{2}$")
    codes: list[str] | None = Field(None, max_length=10_000)
    languages: list[Literal["es", "en"]] = ["es", "en"]


class GenerateKeywordsResult(Payload):
    """Sums over all chunks."""

    lines: int
    generated: int
    already_known: int


class GenerateKeywordsChunk(Payload):
    """A part of ``GenerateKeywords`` that one ai-worker does."""

    codes: list[str] = Field(min_length=1, max_length=500)
    languages: list[Literal["es", "en"]] = ["es", "en"]


GENERATE_KEYWORDS = TaskSpec(
    name="ai.generate_keywords",
    queue=Queue.AI_GENERATION,
    payload=GenerateKeywords,
    result=GenerateKeywordsResult,
    title="Generar palabras clave",
    time_limit=300,
    exclusive=lambda _: "ai.generate_keywords",
)
GENERATE_KEYWORDS_CHUNK = TaskSpec(
    name="ai.generate_keywords_chunk",
    queue=Queue.AI_GENERATION,
    payload=GenerateKeywordsChunk,
    result=GenerateKeywordsResult,
    title="Generar palabras clave (parte)",
    time_limit=600,
    startable=False,
)


# --- learning (queue learning) ---------------------------------------------------------------------------------------
class AnalyseSelections(Payload):
    """Turn words that at least ``people`` different people used before choosing the same line into suggestions."""

    people: int = Field(3, ge=2, le=100)


class AnalyseSelectionsResult(Payload):
    """Selections read, suggestions made, suggestions whose evidence grew."""

    selections: int
    suggested: int
    strengthened: int


ANALYSE_SELECTIONS = TaskSpec(
    name="learning.analyse_selections",
    queue=Queue.LEARNING,
    payload=AnalyseSelections,
    result=AnalyseSelectionsResult,
    title="Analizar selecciones",
    time_limit=1800,
    exclusive=lambda _: "learning.analyse_selections",
)


class Evaluate(Payload):
    """Measure this installation's search with the labelled queries of our own set, and keep the report."""


class EvaluateResult(Payload):
    """Shares of the counted half, at heading level: right first, among five, nothing found; ``mrr`` is mean 1/place.

    ``left_out`` counts queries whose headings the catalogue lacks, ``losses`` groups in which more was lost since the
    report before than chance explains, ``goals_missed`` what the half did not reach.
    """

    engine: str
    queries: int
    left_out: int
    hit1: float
    hit5: float
    none: float
    mrr: float
    losses: list[str] = []
    goals_missed: list[str] = []


EVALUATE = TaskSpec(
    name="learning.evaluate",
    queue=Queue.LEARNING,
    payload=Evaluate,
    result=EvaluateResult,
    title="Medir la búsqueda",
    time_limit=1800,
    max_attempts=_OUTLASTING_A_RESTART,
    exclusive=lambda _: "learning.evaluate",
)


# --- housekeeping (queue celery) -------------------------------------------------------------------------------------
class DeleteExpiredResult(Payload):
    """Rows deleted of each kind."""

    tasks: int
    searches: int
    sessions: int


DELETE_EXPIRED = TaskSpec(
    name="housekeeping.delete_expired",
    queue=Queue.CELERY,
    payload=Nothing,
    result=DeleteExpiredResult,
    title="Borrar lo caducado",
    time_limit=600,
    exclusive=lambda _: "housekeeping.delete_expired",
    role="admin",
)


# --- trials, one on each queue ---------------------------------------------------------------------------------------
class NoOp(Payload):
    """Does nothing for ``seconds``, to try a queue, its scaling and its drain with; carries any small text."""

    note: str = ""
    seconds: float = Field(0, ge=0, le=600)


def _no_op(name: str, queue: Queue, title: str, *, version: int = 1) -> TaskSpec[NoOp, Nothing]:
    return TaskSpec(
        name=name,
        queue=queue,
        payload=NoOp,
        result=Nothing,
        title=title,
        # Half as long again as the longest, for a machine that is too busy to wake it in time.
        time_limit=900,
        version=version,
        role="admin",
    )


NO_OP = _no_op("housekeeping.no_op", Queue.CELERY, "Prueba de mantenimiento", version=2)
SEARCH_NO_OP = _no_op("search.no_op", Queue.ELASTICSEARCH, "Prueba de la cola del índice")
AI_NO_OP = _no_op("ai.no_op", Queue.AI_GENERATION, "Prueba de generación de palabras clave")
LEARNING_NO_OP = _no_op("learning.no_op", Queue.LEARNING, "Prueba de aprendizaje")

TASKS: dict[str, TaskSpec[Any, Any]] = {
    spec.name: spec
    for spec in (
        REBUILD_INDEX,
        DELETE_INDEX,
        UPDATE_LINES,
        AUDIT_INDEX,
        GENERATE_KEYWORDS,
        GENERATE_KEYWORDS_CHUNK,
        ANALYSE_SELECTIONS,
        EVALUATE,
        DELETE_EXPIRED,
        NO_OP,
        SEARCH_NO_OP,
        AI_NO_OP,
        LEARNING_NO_OP,
    )
}
