"""What the lines are that a list names by code: "Los demás" says nothing without where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from anyio.to_thread import run_sync
from sqlalchemy import select
from starlette.requests import Request
from starlette_admin.i18n import get_locale
from starlette_admin.types import RequestAction

from sicargabox_api.admin.safe_view import SafeModelView
from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.catalogue.tariff import ancestors
from sicargabox_core.db import Database
from sicargabox_core.search.documents import plain_wording


@dataclass(frozen=True)
class LineWording:
    """A line's own wording, and those above it from the heading down (of a heading: its chapter's)."""

    text: str
    above: tuple[str, ...]


class LineCodes(SafeModelView):
    """A list whose ``code_column`` names tariff lines: their wordings are read along, for the fields' templates."""

    code_column: ClassVar[str]

    async def find_all(self, request: Request, *rest: Any, **more: Any) -> Sequence[Any]:
        """A page of rows."""
        rows = await super().find_all(request, *rest, **more)
        await self._remember(request, rows)
        return rows

    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        """One row."""
        row = await super().find_by_pk(request, pk)
        await self._remember(request, [row] if row is not None else [])
        return row

    async def _remember(self, request: Request, rows: Sequence[Any]) -> None:
        wanted = {code for row in rows if (code := getattr(row, self.code_column))}
        # The detail page of a tariff line names its parent too.
        wanted |= {code for row in rows if (code := getattr(row, "parent_code", None))}
        if request.state.action not in (RequestAction.LIST, RequestAction.DETAIL):
            wanted = set()
        found = await run_sync(_read, self.services.database, wanted, get_locale()) if wanted else {}
        request.state.line_wordings = found


def _read(database: Database, codes: set[str], language: str) -> dict[str, LineWording]:
    nodes = {node for code in codes for node in (*ancestors(code), code)}
    statement = select(TariffLine.code, TariffLine.description_es, TariffLine.description_en)
    with database.read() as session:
        rows = session.execute(statement.where(TariffLine.code.in_(nodes))).all()
    texts = {row.code: plain_wording((language == "en" and row.description_en) or row.description_es) for row in rows}
    return {code: LineWording(texts[code], _above(code, texts)) for code in codes if code in texts}


def _above(code: str, texts: dict[str, str]) -> tuple[str, ...]:
    known = [above for above in ancestors(code) if above in texts]
    return tuple(texts[above] for above in (known[1:] or known))
