"""Searching, and suggestions for a text that is still being typed."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, StringConstraints

from sicargabox_api.authentication import visitor
from sicargabox_api.problems import responses
from sicargabox_api.rate_limits import PublicLimit
from sicargabox_api.routes.parameters import Lang, Limit
from sicargabox_api.search_log import LoggedSearch
from sicargabox_api.services import Services, ServicesDep
from sicargabox_core.accounts.principal import Principal
from sicargabox_core.catalogue.models import CourierCategory

router = APIRouter(tags=["search"])

Caller = Annotated[Principal | None, Depends(visitor("search"))]
Words = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00]*$"),
    Query(description="Everyday words, or a code or its beginning.", examples=["audífonos bluetooth", "8517.13"]),
]

_RESULT: dict[str, Any] = {
    "code": "8518300000",
    "display_code": "8518.30.00.00",
    "description": "Auriculares, también con micrófono",
    "path": [
        {"code": "85", "display_code": "85", "description": "Aparatos eléctricos"},
        {"code": "8518", "display_code": "8518", "description": "Micrófonos, altavoces y auriculares"},
    ],
    "duties": {"dai": "15.00", "isc": None, "ispc": None, "isv": "15.00"},
    "courier_category": "ALLOWED",
    "courier_reason": None,
    "score": 0.93,
    "highlights": [{"field": "description", "start": 0, "end": 11}],
    "reason": "«audífonos» coincide con «audífonos» (catálogo inicial).",
}
_SUGGESTIONS: list[dict[str, Any]] = [
    {"kind": "word", "text": "audífonos", "language": "es", "code": None, "display_code": None},
    {
        "kind": "line",
        "text": "Auriculares, también con micrófono",
        "language": "es",
        "code": "8518300000",
        "display_code": "8518.30.00.00",
    },
]


_GUIDANCE: dict[str, Any] = {
    "about": "crema",
    "question": "¿Para qué es la crema?",
    "choices": [
        {"label": "Cara o cuerpo", "query": "crema facial"},
        {"label": "Afeitar", "query": "crema de afeitar"},
    ],
}


def _example(example: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class Duties(BaseModel):
    """Percent, exact, as text; null where the tariff says nothing."""

    model_config = _example(_RESULT["duties"])

    dai: str | None
    isc: str | None
    ispc: str | None
    isv: str | None


class PathStep(BaseModel):
    """One node above a line, from the chapter down."""

    model_config = _example(_RESULT["path"][0])

    code: str
    display_code: str
    description: str


class Highlight(BaseModel):
    """A word to mark: characters ``start`` to ``end`` of ``field`` (``description`` or ``path.N``)."""

    model_config = _example(_RESULT["highlights"][0])

    field: str
    start: int
    end: int


class SearchResult(BaseModel):
    """A line that answers, with its chain of parents and the reason why it was found."""

    model_config = _example(_RESULT)

    code: str
    display_code: str
    description: str
    path: list[PathStep]
    duties: Duties
    courier_category: CourierCategory
    courier_reason: str | None
    score: float
    highlights: list[Highlight]
    reason: str


class GuidanceAnswer(BaseModel):
    """An answer to choose: its label, and the query to send for it."""

    model_config = _example(_GUIDANCE["choices"][0])

    label: str
    query: str


class Guidance(BaseModel):
    """What to ask about words that are too vague to classify (``about``, as typed), beside the results."""

    model_config = _example(_GUIDANCE)

    about: str
    question: str
    choices: list[GuidanceAnswer]


class SearchAnswer(BaseModel):
    """``total`` counts all lines that answer; ``degraded`` says that SQL answered because the index is away.

    ``guidance`` is null unless the words leave the heading open.
    """

    model_config = _example(
        {
            "query": "audífonos bluetooth",
            "total": 1,
            "took_ms": 4.2,
            "engine": "tantivy",
            "degraded": False,
            "results": [_RESULT],
            "guidance": None,
        }
    )

    query: str
    total: int
    took_ms: float
    engine: str
    degraded: bool
    results: list[SearchResult]
    guidance: Guidance | None


class Suggestion(BaseModel):
    """A phrase to search for (``kind`` word), or a line to open (``kind`` line, with its code)."""

    model_config = _example(_SUGGESTIONS[0])

    kind: Literal["word", "line"]
    text: str
    language: str
    code: str | None
    display_code: str | None


class SuggestAnswer(BaseModel):
    """What the text that is being typed may become; empty while the index is away (``degraded``)."""

    model_config = _example(
        {
            "query": "audíf",
            "took_ms": 1.3,
            "engine": "tantivy",
            "degraded": False,
            "suggestions": _SUGGESTIONS,
        }
    )

    query: str
    took_ms: float
    engine: str
    degraded: bool
    suggestions: list[Suggestion]


@router.get("/search", summary="Find tariff lines", responses=responses(401, 403, 422, 429, 503))
async def search(
    services: ServicesDep,
    _limit: PublicLimit,
    _caller: Caller,
    q: Words,
    limit: Limit = 20,
    offset: Annotated[int, Query(ge=0, le=1000, description="How many to skip.")] = 0,
    category: Annotated[CourierCategory | None, Query(description="Only what a courier may bring so.")] = None,
    chapter: Annotated[str | None, Query(pattern=r"^[0-9]{2}$", examples=["85"])] = None,
    lang: Lang = "es",
) -> SearchAnswer:
    """Lines that answer everyday words in Spanish, English or both, or a code or its beginning; best first."""
    return await run_sync(
        partial(answer, services, q, limit=limit, offset=offset, category=category, chapter=chapter, lang=lang),
        limiter=services.search_threads,
    )


def answer(
    services: Services,
    q: str,
    *,
    limit: int,
    offset: int = 0,
    category: CourierCategory | None = None,
    chapter: str | None = None,
    lang: Lang = "es",
) -> SearchAnswer:
    """Searches, and keeps what was searched."""
    found = services.search.search(
        q, limit=limit, offset=offset, category=category and category.value, chapter=chapter, lang=lang
    )
    if offset == 0:
        # A further page is the same search.
        results = found["results"]
        services.searches.add(
            LoggedSearch(
                query=q,
                total=found["total"],
                first_code=results[0]["code"] if results else None,
                took_ms=round(found["took_ms"]),
                engine=found["engine"],
                degraded=found["degraded"],
            )
        )
    return SearchAnswer.model_validate(found)


@router.get("/suggest", summary="Complete a text that is being typed", responses=responses(401, 403, 422, 429, 503))
async def suggest(
    services: ServicesDep,
    _limit: PublicLimit,
    _caller: Caller,
    q: Words,
    limit: Annotated[int, Query(ge=1, le=20)] = 8,
    lang: Lang = "es",
) -> SuggestAnswer:
    """Phrases to search for, and the lines they lead to first."""
    completed = partial(services.search.suggest, q, limit=limit, lang=lang)
    return SuggestAnswer.model_validate(await run_sync(completed, limiter=services.search_threads))
