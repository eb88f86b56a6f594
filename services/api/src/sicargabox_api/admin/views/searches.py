"""What people searched and chose, to read. Nothing here says who they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette_admin.fields import BooleanField, IntegerField, StringField

from sicargabox_api.admin.fields import CodeField, MomentField, TariffCodeField
from sicargabox_api.admin.language import _
from sicargabox_api.admin.line_wordings import LineCodes
from sicargabox_api.admin.safe_view import SafeModelView
from sicargabox_api.admin.staff import StaffServices
from sicargabox_core.accounts.models import Role
from sicargabox_core.catalogue import keywords
from sicargabox_core.catalogue.models import SearchLog, Selection


class Searches(LineCodes, SafeModelView):
    """The search log."""

    key = "searches"
    menu_label = _("Searches")
    display_name = _("Search")
    icon = "fa-solid fa-magnifying-glass"
    export_role = Role.VIEWER
    search_columns = ("normalized",)
    code_column = "first_code"
    actions: Sequence[str] = []
    row_actions: Sequence[str] = []
    fields: Sequence[Any] = [
        StringField("query", label=_("Words")),
        IntegerField("total", label=_("Results")),
        TariffCodeField("first_code", label=_("First result")),
        IntegerField("took_ms", label=_("Milliseconds")),
        CodeField("engine", label=_("Engine")),
        BooleanField("degraded", label=_("Without index")),
        MomentField("created_at", label=_("When")),
    ]
    fields_default_sort: Sequence[Any] = [("id", True)]

    def __init__(self, services: StaffServices, model: type[Any] = SearchLog) -> None:
        super().__init__(services, model)

    def searched(self, term: str) -> str:
        """Words are kept without accents and case."""
        return keywords.normalise(term) or term.strip()


class Selections(LineCodes, SafeModelView):
    """Which line people chose after which words."""

    key = "selections"
    menu_label = _("Choices")
    display_name = _("Choice")
    icon = "fa-solid fa-hand-pointer"
    export_role = Role.VIEWER
    search_columns = ("normalized_query", "line_code")
    code_column = "line_code"
    actions: Sequence[str] = []
    row_actions: Sequence[str] = []
    fields: Sequence[Any] = [
        StringField("query", label=_("Words")),
        TariffCodeField("line_code", label=_("Tariff line")),
        IntegerField("rank", label=_("Place")),
        BooleanField("staff", label=_("Staff")),
        MomentField("created_at", label=_("When")),
        MomentField("undone_at", label=_("Taken back")),
    ]
    fields_default_sort: Sequence[Any] = [("created_at", True)]

    def __init__(self, services: StaffServices, model: type[Any] = Selection) -> None:
        super().__init__(services, model)

    def searched(self, term: str) -> str:
        """Words are kept without accents and case."""
        return keywords.normalise(term) or term.strip()
