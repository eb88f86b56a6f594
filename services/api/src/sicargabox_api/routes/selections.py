"""Choosing a line, and taking the choice back. No account is needed; learning counts people, not clicks."""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sicargabox_api.authentication import check_same_origin, visitor
from sicargabox_api.problems import responses
from sicargabox_api.rate_limits import ChoicesLimit
from sicargabox_api.services import Services, ServicesDep
from sicargabox_api.visitors import VISITOR_COOKIE, person_of, welcome
from sicargabox_core.accounts.principal import Principal
from sicargabox_core.accounts.signing import keyed_hash
from sicargabox_core.catalogue import selections, tariff
from sicargabox_core.catalogue.models import Selection
from sicargabox_core.errors import NotFound

router = APIRouter(prefix="/selections", tags=["selections"])

_ID = "0192f0c1-5e7a-7cc3-9f5e-1c2d3e4f5a6b"
_CHOICE: dict[str, Any] = {"code": "8518.30.00.00", "query": "audífonos bluetooth", "rank": 1}


class Choice(BaseModel):
    """The line that somebody chose, the words that led there, and its place among the results, from 1."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CHOICE]}, extra="forbid")

    code: Annotated[str, StringConstraints(max_length=40, pattern=r"^[^\x00]*$")]
    query: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
    rank: int | None = Field(None, ge=1, le=10_000)


class RecordedChoice(BaseModel):
    """A choice that was kept. ``undo_token`` takes it back where there are no cookies; it is shown only here."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _ID,
                    "code": "8518300000",
                    "query": "audífonos bluetooth",
                    "rank": 1,
                    "created_at": "2026-03-02T08:00:00.012000Z",
                    "undo_token": "6a1f0f3be0c3dd5a2c2d2f0d9f9a8e1b4a0c8b7d6e5f4a3b2c1d0e9f8a7b6c5d",
                }
            ]
        }
    )

    id: str
    code: str
    query: str
    rank: int | None
    created_at: datetime
    undo_token: str


def _own_page(request: Request, services: ServicesDep) -> None:
    """Refuses what another site's page made a browser send."""
    if "authorization" not in request.headers:
        programs = VISITOR_COOKIE not in request.cookies
        check_same_origin(request, services.settings, programs=programs)


Chooser = Annotated[Principal | None, Depends(visitor("search"))]


@router.post(
    "",
    status_code=201,
    summary="Choose a line",
    dependencies=[Depends(_own_page)],
    responses=responses(401, 403, 404, 413, 422, 429, 503),
)
def choose(
    choice: Choice, request: Request, response: Response, services: ServicesDep, caller: Chooser, _limit: ChoicesLimit
) -> RecordedChoice:
    """Keeps that the caller chose this line; a new visitor gets the random cookie `sicargabox_visitor`."""
    code = tariff.normalise_code(choice.code)
    person = person_of(request, services.key, caller) or welcome(response, services.settings, services.key)
    with services.database.write() as session:
        try:
            kept = selections.record(
                session, line_code=code, query=choice.query, person=person, staff=caller is not None, rank=choice.rank
            )
        except NotFound as error:
            # The body calls it `code`.
            raise NotFound(error.message, field="code", remedy=error.remedy) from error
    response.headers["Location"] = f"{request.url.path}/{kept.id}"
    return RecordedChoice(
        id=kept.id,
        code=kept.line_code,
        query=kept.query,
        rank=kept.rank,
        created_at=kept.created_at,
        undo_token=_undo_token(services, kept.id),
    )


@router.delete(
    "/{selection_id}",
    status_code=204,
    summary="Take a choice back",
    dependencies=[Depends(_own_page)],
    responses=responses(401, 403, 404, 422, 429, 503),
)
def undo(
    selection_id: Annotated[UUID, Path(examples=[_ID])],
    request: Request,
    services: ServicesDep,
    caller: Chooser,
    _limit: ChoicesLimit,
    x_undo_token: Annotated[str | None, Header(max_length=64)] = None,
) -> None:
    """By the one who chose: the same cookie, the same sign-in, or the `undo_token`. Twice is as good as once."""
    found = str(selection_id)
    person = person_of(request, services.key, caller)
    with services.database.write() as session:
        if x_undo_token and hmac.compare_digest(x_undo_token.encode(), _undo_token(services, found).encode()):
            kept = session.get(Selection, found)
            person = kept.person if kept else None
        # Without anything to show, nobody's choice is theirs.
        selections.undo(session, found, person=person or "")


def _undo_token(services: Services, selection_id: str) -> str:
    return keyed_hash(services.key, "undo-selection", selection_id)
