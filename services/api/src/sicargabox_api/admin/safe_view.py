"""The parent of every list: nothing is allowed unless it says so, bad input is a 404 or 400, nothing internal goes out.

starlette-admin allows every custom action to everybody, answers 500 to a key it cannot read, and shows the text of SQL
errors. Here each action names the role it needs, and actions call application services, which have sessions of their
own: writing through the request's session would lock SQLite against them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import structlog
from anyio.to_thread import run_sync
from sqlalchemy import Select, false, func, literal, or_, select
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette_admin.actions import ActionSelection
from starlette_admin.contrib.sqla import ModelView
from starlette_admin.exceptions import ActionFailed
from starlette_admin.export import CsvExporter, JsonExporter
from starlette_admin.filters import FilterGroup
from starlette_admin.i18n import gettext
from starlette_admin.types import RequestAction, RowActionsDisplayType, RowActionsPosition
from starlette_admin.views import BaseModelView

from sicargabox_api.admin.fields import ShownField
from sicargabox_api.admin.refusals import internal_error, sentence
from sicargabox_api.admin.staff import StaffServices, may
from sicargabox_core.accounts.models import Role
from sicargabox_core.errors import SicargaBoxError

log = structlog.get_logger(__name__)

# What both databases take as an integer key and as an offset.
_LARGEST_KEY = 2**31 - 1
_LAST_PAGE = 100_000
# What a driver says of a value it cannot send: too large, a NUL, a time that is none.
_UNREADABLE = (ValueError, OverflowError, DataError)


class SafeModelView(ModelView):
    """A read-only list for ``read_role``; more is granted by name.

    ``action_roles`` maps the names of batch and row actions to the least role; an action without one is refused.
    ``default_columns``: those shown until somebody chooses; the others can still be filtered by.
    """

    read_role: ClassVar[Role] = Role.VIEWER
    create_role: ClassVar[Role | None] = None
    export_role: ClassVar[Role | None] = None
    action_roles: ClassVar[Mapping[str, Role]] = {}
    search_columns: ClassVar[Sequence[str]] = ()
    default_columns: ClassVar[Sequence[str]] = ()

    # Counting a million rows takes longer than reading a page of them; beyond this a list says "more than".
    counted_rows: ClassVar[int] = 10_000

    # Rendering a list costs 2 ms a row on the event loop: 25 rows, and at most seven columns.
    page_size = 25
    page_size_options: Sequence[int] = [10, 25]
    row_actions_display_type = RowActionsDisplayType.INLINE_LINKS
    row_actions_position = RowActionsPosition.AFTER_COLUMNS
    # It makes each row a tab stop on which Enter does nothing.
    row_click_navigate = False
    search_highlight = False
    exporters: Sequence[Any] = [CsvExporter(escape_formulas=True), JsonExporter()]
    importers: Sequence[Any] = []

    def __init__(self, services: StaffServices, model: type[Any]) -> None:
        self.services = services
        stored = [field for field in self.fields if not isinstance(field, ShownField)]
        # Without these lists the library sorts and filters by everything, whatever a field says of itself.
        self.sortable_fields = [field.name for field in stored if field.orderable]
        self.searchable_fields = [field.name for field in stored if field.searchable]
        super().__init__(model)

    # --- who may what ---------------------------------------------------------------------------------------------
    def is_accessible(self, request: Request) -> bool:
        """Whether the list is in the caller's menu and answers."""
        return may(request, self.read_role)

    def can_view_detail(self, request: Request) -> bool:
        """Whoever sees the list."""
        return may(request, self.read_role)

    def can_create(self, request: Request) -> bool:
        """``create_role``."""
        return may(request, self.create_role)

    def can_export(self, request: Request) -> bool:
        """``export_role``."""
        return may(request, self.export_role)

    def can_edit(self, request: Request) -> bool:
        """Nobody: changes are actions, each with its own rule and audit row."""
        return False

    def can_delete(self, request: Request) -> bool:
        """Nobody."""
        return False

    def can_import(self, request: Request) -> bool:
        """Nobody."""
        return False

    async def is_action_allowed(self, request: Request, name: str) -> bool:
        """By ``action_roles``; unknown names are refused."""
        if name == "export":
            return self.can_export(request)
        return may(request, self.action_roles.get(name))

    async def is_row_action_allowed(self, request: Request, name: str) -> bool:
        """By ``action_roles``; unknown names are refused."""
        if name == "view":
            return self.can_view_detail(request)
        return may(request, self.action_roles.get(name))

    # --- actions --------------------------------------------------------------------------------------------------
    async def handle_action(self, request: Request, selection: ActionSelection, name: str) -> Response | None:
        """As the library's, without the text of SQL errors."""
        with self._spoken(request):
            return await BaseModelView.handle_action(self, request, selection, name)

    async def handle_row_action(self, request: Request, pk: Any, name: str) -> Response | None:
        """As the library's, for a row that exists, without the text of SQL errors."""
        with self._spoken(request):
            if await self.is_row_action_allowed(request, name) and await self.find_by_pk(request, pk) is None:
                raise ActionFailed(gettext("That does not exist (any more)."))
            return await BaseModelView.handle_row_action(self, request, pk, name)

    @contextlib.contextmanager
    def _spoken(self, request: Request) -> Iterator[None]:
        try:
            yield
        except ActionFailed:
            raise
        except SicargaBoxError as error:
            raise ActionFailed(sentence(error)) from error
        except HTTPException:
            raise
        except Exception as error:
            log.exception("a staff action failed", view=self.key)
            raise ActionFailed(internal_error(request)) from error

    # --- reading --------------------------------------------------------------------------------------------------
    async def find_by_pk(self, request: Request, pk: Any) -> Any:
        """The row, or ``None`` for a key that is none (the library would answer 500)."""
        if self._pk_coerce is int and not _is_small_integer(pk):
            return None
        try:
            return await super().find_by_pk(request, pk)
        except _UNREADABLE:
            return None

    async def find_by_pks(self, request: Request, pks: list[Any]) -> Sequence[Any]:
        """The rows of those keys that can be keys."""
        if self._pk_coerce is int:
            pks = [pk for pk in pks if _is_small_integer(pk)]
        return await super().find_by_pks(request, pks)

    async def find_all(
        self,
        request: Request,
        skip: int = 0,
        limit: int = 100,
        q: str | None = None,
        sorts: Sequence[tuple[str, str]] | None = None,
        filters: FilterGroup | None = None,
    ) -> Sequence[Any]:
        """A page of rows; a value that no database takes is a 400."""
        try:
            return await super().find_all(request, skip, limit, q, sorts, filters)
        except _UNREADABLE as error:
            raise _bad_filter() from error
        except SQLAlchemyError as error:
            raise _unless_unreadable(error) from error

    async def count(self, request: Request, q: str | None = None, filters: FilterGroup | None = None) -> int:
        """How many rows there are, for a list at most one more than ``counted_rows``; actions and exports know exactly.

        A value that no database takes is a 400.
        """
        try:
            if request.state.action != RequestAction.LIST:
                return await super().count(request, q, filters)
            found = await self._apply_search_and_filters(request, self.get_count_query(request), q, filters)
            some = found.with_only_columns(literal(1), maintain_column_froms=True).limit(self.counted_rows + 1)
            return await run_sync(_counted, request.state.session, some)
        except _UNREADABLE as error:
            raise _bad_filter() from error
        except SQLAlchemyError as error:
            raise _unless_unreadable(error) from error

    def _parse_list_params(self, request: Request, query_params: QueryParams | None = None) -> Any:
        params = super()._parse_list_params(request, query_params)
        params.page = min(params.page, _LAST_PAGE)
        if self.default_columns and not (query_params or request.query_params).get("cols"):
            params.visible_cols = list(self.default_columns)
        return params

    def get_search_query(self, request: Request, term: str) -> Any:
        """The search box looks for the beginning of ``search_columns``, not (as the library) inside every column."""
        columns = [getattr(self.model, name) for name in self.search_columns]
        return or_(false(), *(column.startswith(self.searched(term), autoescape=True) for column in columns))

    def searched(self, term: str) -> str:
        """The typed words in the form the columns hold."""
        return term.strip()


def _counted(session: Session, rows: Select[Any]) -> int:
    return session.execute(select(func.count()).select_from(rows.subquery())).scalar_one()


def _is_small_integer(pk: Any) -> bool:
    text = str(pk)
    return text.isascii() and text.isdigit() and int(text[:11]) <= _LARGEST_KEY and len(text) <= 10


def _bad_filter() -> HTTPException:
    return HTTPException(HTTPStatus.BAD_REQUEST, gettext("The filter holds a value that cannot be looked for."))


def _unless_unreadable(error: SQLAlchemyError) -> Exception:
    # A value refused while it is bound comes wrapped in StatementError.
    return _bad_filter() if isinstance(getattr(error, "orig", None), ValueError | OverflowError) else error
