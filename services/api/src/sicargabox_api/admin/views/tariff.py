"""Tariff lines, to read: the import is their only writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from starlette.requests import Request
from starlette_admin.contrib.sqla.filters import EqualFilter, IsNotNullFilter, IsNullFilter
from starlette_admin.fields import BooleanField, StringField, TextAreaField

from sicargabox_api.admin.fields import MomentField, ShownField, TariffCodeField, WordField
from sicargabox_api.admin.language import _
from sicargabox_api.admin.line_wordings import LineCodes
from sicargabox_api.admin.safe_view import SafeModelView
from sicargabox_api.admin.staff import StaffServices
from sicargabox_core.accounts.models import Role
from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.catalogue.tariff import display_code

_CATEGORIES = [("ALLOWED", _("Allowed")), ("RESTRICTED", _("Restricted")), ("PROHIBITED", _("Prohibited"))]
_TONES = {"ALLOWED": "green", "RESTRICTED": "orange", "PROHIBITED": "red"}
_SOURCES = [("starter", _("Starter catalogue")), ("official", _("Official tariff"))]
_LEVELS = [
    ("CHAPTER", _("Chapter")),
    ("HEADING", _("Heading")),
    ("SUBHEADING", _("Subheading")),
    ("LINE", _("Tariff line")),
]


class _ChapterFilter(EqualFilter):
    name = "chapter"
    label = _("Is of chapter")

    def apply(self, ctx: Any) -> Any:
        """Codes that begin with the two digits."""
        return TariffLine.code.startswith(str(ctx.value)[:2], autoescape=True)


@dataclass
class _TariffCode(TariffCodeField):
    list_template: str = "fields/list/own_code.html"
    detail_template: str = "fields/own_code.html"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.filters = [*(self.filters or []), _ChapterFilter]


@dataclass
class _Wording(TextAreaField):
    list_template: str = "fields/wording.html"
    detail_template: str = "fields/wording.html"


@dataclass
class _Retired(MomentField):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.filters = [IsNullFilter, IsNotNullFilter]


def _duty(name: str, label: Any) -> ShownField:
    def percent(_request: Request, line: TariffLine) -> str | None:
        value = getattr(line, name)
        return None if value is None else f"{value.normalize():f} %"

    return ShownField(name, label=label, getter=percent)


class TariffLines(LineCodes, SafeModelView):
    """The tariff's tree as a list."""

    key = "tariff"
    menu_label = _("Tariff")
    display_name = _("Tariff line")
    icon = "fa-solid fa-sitemap"
    export_role = Role.VIEWER
    search_columns = ("code",)
    code_column = "code"
    actions: Sequence[str] = []
    row_actions: Sequence[str] = []
    default_columns = ("code", "level", "description_es", "dai", "isv", "courier_category")
    fields: Sequence[Any] = [
        _TariffCode("code", label=_("Code")),
        WordField("level", label=_("Level"), choices=_LEVELS),
        _Wording("description_es", label=_("Description"), orderable=False),
        _duty("dai", "DAI"),
        _duty("isv", "ISV"),
        WordField("courier_category", label=_("Courier"), choices=_CATEGORIES, tones=_TONES),
        TextAreaField("description_en", label=_("Description in English")),
        TariffCodeField("parent_code", label=_("Parent")),
        BooleanField("declarable", label=_("Can be declared")),
        _duty("isc", "ISC"),
        _duty("ispc", "ISPC"),
        StringField("courier_reason_es", label=_("Reason"), searchable=False),
        WordField("source", label=_("Source"), choices=_SOURCES),
        MomentField("updated_at", label=_("Changed")),
        _Retired("retired_at", label=_("Retired")),
    ]
    fields_default_sort: Sequence[Any] = ["code"]

    def __init__(self, services: StaffServices, model: type[Any] = TariffLine) -> None:
        super().__init__(services, model)

    def searched(self, term: str) -> str:
        """Codes hold digits only, however they are typed."""
        return term.strip().replace(".", "").replace(" ", "")

    def get_search_query(self, request: Request, term: str) -> Any:
        """A code's beginning, or words inside the description."""
        digits = self.searched(term)
        if digits.isdigit():
            return super().get_search_query(request, term)
        return func.lower(TariffLine.description_es).contains(term.strip().lower(), autoescape=True)

    async def repr(self, obj: Any, request: Request) -> str:
        """The code with its dots."""
        return display_code(obj.code)
