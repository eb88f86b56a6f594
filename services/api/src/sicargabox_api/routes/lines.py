"""The tariff's nodes: one with its chain of parents, what is below it, and its keywords."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from sicargabox_api.authentication import visitor
from sicargabox_api.problems import responses
from sicargabox_api.rate_limits import PublicLimit
from sicargabox_api.routes.parameters import Code, Lang, Limit, Word
from sicargabox_api.routes.search import Duties, PathStep
from sicargabox_api.services import ServicesDep
from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.principal import Principal
from sicargabox_core.catalogue import keywords, tariff
from sicargabox_core.catalogue.models import (
    CourierCategory,
    KeywordSource,
    KeywordState,
    Language,
    Level,
    TariffLine,
)
from sicargabox_core.errors import SignInRequired
from sicargabox_core.search.documents import plain_wording

router = APIRouter(prefix="/lines", tags=["lines"])

SCOPE = "keywords"
Reader = Annotated[Principal | None, Depends(visitor("search"))]

_NODE: dict[str, Any] = {
    "code": "8518300000",
    "display_code": "8518.30.00.00",
    "level": "LINE",
    "declarable": True,
    "description": "Auriculares, también con micrófono",
    "description_es": "Auriculares, también con micrófono",
    "description_en": "Headphones and earphones, also with a microphone",
    "duties": {"dai": "15.00", "isc": None, "ispc": None, "isv": "15.00"},
    "courier_category": "ALLOWED",
    "courier_reason": None,
    "source": "starter",
    "retired_at": None,
}
_KEYWORD: dict[str, Any] = {"id": 7, "language": "es", "text": "audífonos", "source": "starter", "state": "APPROVED"}


class Node(BaseModel):
    """A chapter, heading, subheading or line. Only a ``declarable`` one can be declared."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NODE]})

    code: str
    display_code: str
    level: Level
    declarable: bool
    description: str = Field(description="In the language asked for, Spanish where there is no English.")
    description_es: str
    description_en: str | None
    duties: Duties
    courier_category: CourierCategory
    courier_reason: str | None
    source: str
    retired_at: datetime | None = Field(description="It vanished from the official tariff then.")


class Line(Node):
    """A node with the chain of its parents, from the chapter down."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [_NODE | {"path": [{"code": "85", "display_code": "85", "description": "Aparatos eléctricos"}]}]
        }
    )

    path: list[PathStep]


class Nodes(BaseModel):
    """What is directly below a node, in the official order."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [_NODE]}]})

    items: list[Node]


class LineKeyword(BaseModel):
    """An everyday word that leads to a line, and where it came from."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEYWORD]}, from_attributes=True)

    id: int
    language: Language
    text: str
    source: KeywordSource
    state: KeywordState


class LineKeywords(BaseModel):
    """Newest first; ``next_cursor`` is the next request's ``before``, null on the last page."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [_KEYWORD], "next_cursor": None}]})

    items: list[LineKeyword]
    next_cursor: str | None


@router.get("/{code}", summary="Look at a node of the tariff", responses=responses(401, 403, 404, 422, 429, 503))
def show_line(code: Code, services: ServicesDep, _limit: PublicLimit, _caller: Reader, lang: Lang = "es") -> Line:
    """Any level, chapter to line, by its code in any dotted form. A retired line is still told, with its date."""
    with services.database.read() as session:
        *above, node = tariff.chain(session, _asked(session, code))
        path = [
            PathStep(code=step.code, display_code=tariff.display_code(step.code), description=_text(step, lang))
            for step in above
        ]
        return Line(**_members(node, lang), path=path)


@router.get("/{code}/children", summary="What is below a node", responses=responses(401, 403, 404, 422, 429, 503))
def list_children(code: Code, services: ServicesDep, _limit: PublicLimit, _caller: Reader, lang: Lang = "es") -> Nodes:
    """Directly below only, without retired ones; empty for a line."""
    with services.database.read() as session:
        below = tariff.children(session, _asked(session, code))
        return Nodes(items=[Node(**_members(node, lang)) for node in below])


@router.get("/{code}/keywords", summary="Keywords of a node", responses=responses(401, 403, 404, 422, 429, 503))
def list_keywords(
    code: Code,
    services: ServicesDep,
    _limit: PublicLimit,
    caller: Reader,
    state: Annotated[
        KeywordState, Query(description="Others than APPROVED are for staff, with the scope `keywords`.")
    ] = KeywordState.APPROVED,
    before: Annotated[Word | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Limit = 50,
) -> LineKeywords:
    """The words that lead to it."""
    if state is not KeywordState.APPROVED:
        if caller is None:
            raise SignInRequired("suggestions are for staff", remedy="Open /admin, or send an API token.")
        caller.require(Role.VIEWER, SCOPE)
    with services.database.read() as session:
        node = tariff.get(session, _asked(session, code))
        page = keywords.list_keywords(session, line_code=node.code, states=[state], before=before, limit=limit)
        return LineKeywords(
            items=[LineKeyword.model_validate(keyword) for keyword in page.items], next_cursor=page.next_cursor
        )


def _asked(session: Session, code: str) -> str:
    return tariff.whole_code(session, tariff.normalise_code(code))


def _members(node: TariffLine, lang: str) -> dict[str, Any]:
    english = node.courier_reason_en or node.courier_reason_es
    return {
        "code": node.code,
        "display_code": tariff.display_code(node.code),
        "level": node.level,
        "declarable": node.declarable,
        "description": _text(node, lang),
        "description_es": node.description_es,
        "description_en": node.description_en,
        "duties": Duties(
            dai=_percent(node.dai), isc=_percent(node.isc), ispc=_percent(node.ispc), isv=_percent(node.isv)
        ),
        "courier_category": node.courier_category,
        "courier_reason": english if lang == "en" else node.courier_reason_es,
        "source": node.source,
        "retired_at": node.retired_at,
    }


def _text(node: TariffLine, lang: str) -> str:
    return plain_wording((node.description_en or node.description_es) if lang == "en" else node.description_es)


def _percent(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:.2f}"
