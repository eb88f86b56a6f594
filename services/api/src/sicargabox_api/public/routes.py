"""The public pages' addresses. Spanish, since people read and share them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from sicargabox_api.authentication import check_same_origin
from sicargabox_api.public.page_route import PageRoute
from sicargabox_api.public.pages import MEDIA_TYPES, asset, language_of, page
from sicargabox_api.rate_limits import ChoicesLimit, PublicLimit
from sicargabox_api.routes import lines, search, selections
from sicargabox_api.services import ServicesDep
from sicargabox_api.visitors import person_of
from sicargabox_core.catalogue import tariff
from sicargabox_core.catalogue.models import Selection
from sicargabox_core.errors import NotFound

router = APIRouter(include_in_schema=False, route_class=PageRoute)

RESULTS = 10
LONGEST_QUERY = 200
_LAST_OFFSET = 1000


@router.get("/")
def home(
    request: Request,
    services: ServicesDep,
    _caller: search.Caller,
    _limit: PublicLimit,
    q: str = "",
    offset: Annotated[int, Query(ge=0, le=_LAST_OFFSET)] = 0,
) -> Response:
    """The search box and, once something was asked, the lines that answer."""
    words = " ".join(q.replace("\x00", " ").split())
    if not words:
        return page(request, "search.html", q="", answer=None, too_long=False, offset=0, per_page=RESULTS)
    if len(words) > LONGEST_QUERY:
        cut = words[:LONGEST_QUERY]
        return page(request, "search.html", 422, q=cut, answer=None, too_long=True, offset=0, per_page=RESULTS)
    answer = search.answer(services, words, limit=RESULTS, offset=offset, lang=language_of(request))
    return page(request, "search.html", q=words, answer=answer, too_long=False, offset=offset, per_page=RESULTS)


@router.get("/partida/{code}")
def line(
    request: Request, code: str, services: ServicesDep, _caller: lines.Reader, _limit: PublicLimit, q: str = ""
) -> Response:
    """One node of the tariff: where it stands, what it costs, what is below it."""
    language = language_of(request)
    shown = lines.show_line(code[:40], services, None, None, language)
    below = lines.list_children(shown.code, services, None, None, language).items
    return page(request, "line.html", q=q[:LONGEST_QUERY], line=shown, below=below)


@router.get("/capitulos")
def chapters(request: Request, services: ServicesDep, _limit: PublicLimit) -> Response:
    """All chapters, for those who would rather look than search."""
    with services.database.read() as session:
        found = tariff.children(session, None)
    return page(request, "chapters.html", q="", chapters=found)


@router.post("/elegir")
def choose(
    request: Request,
    services: ServicesDep,
    caller: selections.Chooser,
    _limit: ChoicesLimit,
    code: Annotated[str, Form(max_length=40)],
    q: Annotated[str, Form(min_length=1, max_length=LONGEST_QUERY)],
    rank: Annotated[int | None, Form(ge=1, le=10_000)] = None,
) -> Response:
    """Keeps the choice and thanks for it."""
    check_same_origin(request, services.settings)
    choice = selections.Choice(code=code, query=q, rank=rank)
    answer = RedirectResponse("/", status_code=303)
    kept = selections.choose(choice, request, answer, services, caller, None)
    answer.headers["location"] = f"/elegido/{kept.id}"
    return answer


@router.get("/elegido/{selection_id}")
def chosen(
    request: Request, selection_id: UUID, services: ServicesDep, caller: selections.Chooser, _limit: PublicLimit
) -> Response:
    """Thanks, with a way back; only for the one who chose."""
    person = person_of(request, services.key, caller)
    with services.database.read() as session:
        kept = session.get(Selection, str(selection_id))
        if kept is None or person is None or kept.person != person:
            raise NotFound("there is no such selection of yours")
        node = tariff.get(session, kept.line_code)
        description = (node.description_en if language_of(request) == "en" else None) or node.description_es
    return page(
        request,
        "chosen.html",
        q="",
        selection=kept,
        code=tariff.display_code(kept.line_code),
        description=description,
    )


@router.post("/deshacer/{selection_id}")
def undo(
    request: Request, selection_id: UUID, services: ServicesDep, caller: selections.Chooser, _limit: ChoicesLimit
) -> Response:
    """Takes the choice back."""
    check_same_origin(request, services.settings)
    selections.undo(selection_id, request, services, caller, None)
    return RedirectResponse(f"/elegido/{selection_id}", status_code=303)


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """The style sheet and the script; their addresses change with their contents."""
    if name not in MEDIA_TYPES:
        raise HTTPException(404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(asset(name), media_type=MEDIA_TYPES[name], headers=headers)
