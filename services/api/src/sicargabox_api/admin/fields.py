"""Fields that our lists share: words with a colour, moments in the office's zone, links, bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette_admin.contrib.sqla.filters import DateTimeBetweenFilter, EqualFilter, InFilter, StartsWithFilter
from starlette_admin.fields import ComputedField, DateTimeField, EnumField, StringField
from starlette_admin.types import RequestAction

from sicargabox_api.admin.language import MOMENT_FORMAT, _, told_moment
from sicargabox_api.admin.task_words import task_word


class _BetweenMoments(DateTimeBetweenFilter):
    def parse_value(self, raw: Any) -> Any:
        """The library gives a naive time in UTC; our columns take none without a zone."""
        moment = super().parse_value(raw)
        return moment.replace(tzinfo=UTC) if isinstance(moment, datetime) else moment


@dataclass
class MomentField(DateTimeField):
    """A time, shown in the office's zone, with how long ago that is."""

    output_format: str | None = MOMENT_FORMAT
    list_template: str = "fields/moment.html"
    detail_template: str = "fields/moment.html"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.filters = [_BetweenMoments]

    async def serialize_value(self, request: Request, value: Any) -> Any:
        """Exact and relative for a page; the library's words for forms and exports."""
        if request.state.action in (RequestAction.LIST, RequestAction.DETAIL):
            return told_moment(value)
        return await super().serialize_value(request, value)


@dataclass
class CodeField(StringField):
    """A text that is looked for whole or by its beginning; both can use an index."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.filters = [EqualFilter, StartsWithFilter]


@dataclass
class LinkField(CodeField):
    """The cell that opens the row's own page: a real link, so that the keyboard and a new tab work."""

    list_template: str = "fields/list/link.html"


class _EqualCode(EqualFilter):
    def parse_value(self, raw: Any) -> Any:
        """Codes hold digits only, however they are typed."""
        return super().parse_value(str(raw).replace(".", "").replace(" ", ""))


class _CodeBegins(StartsWithFilter):
    def parse_value(self, raw: Any) -> Any:
        """Codes hold digits only, however they are typed."""
        return super().parse_value(str(raw).replace(".", "").replace(" ", ""))


@dataclass
class TariffCodeField(StringField):
    """A tariff code with its dots, the wording of its line, and where that stands.

    The wordings are what ``line_wordings.LineCodes`` left in ``request.state``.
    """

    list_template: str = "fields/tariff_code.html"
    detail_template: str = "fields/tariff_code.html"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.filters = [_EqualCode, _CodeBegins]


class _EqualActor(EqualFilter):
    def parse_value(self, raw: Any) -> Any:
        """People are typed by their name alone, as the lists show them."""
        return super().parse_value(stored_actor(str(raw)))


class _ActorBegins(StartsWithFilter):
    def parse_value(self, raw: Any) -> Any:
        """People are typed by their name alone, as the lists show them."""
        return super().parse_value(stored_actor(str(raw)))


@dataclass
class ActorField(StringField):
    """Who did it: a person by name, a program by its kind and name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.filters = [_EqualActor, _ActorBegins]

    async def serialize_value(self, request: Request, value: Any) -> Any:
        """The stored name for exports, words for pages."""
        return value if request.state.action == RequestAction.EXPORT else actor_words(str(value))


def stored_actor(typed: str) -> str:
    """``ana`` is stored as ``user:ana``; whatever names its kind is as it is stored."""
    name = typed.strip().lower()
    return name if ":" in name or not name else f"user:{name}"


_KINDS: dict[str, Any] = {
    "token": _("program"),
    "system": _("system"),
    "schedule": _("schedule"),
    "cli": _("command line"),
    "task": _("task"),
}


def actor_words(stored: str) -> str:
    """``user:ana`` → ana, ``token:scanner`` → programa scanner."""
    kind, _colon, name = stored.partition(":")
    if kind == "user" and name:
        return name
    if kind == "task":
        name = str(task_word(name))
    return f"{_KINDS[kind]} {name}" if name and kind in _KINDS else stored


@dataclass
class WordField(EnumField):
    """One of a closed set of words, each with a colour and never by colour alone.

    ``tones`` maps a value to one of Tabler's colours. ``unknown`` values (of a newer release) are shown as they are.
    """

    tones: Mapping[str, str] = field(default_factory=dict)
    more_words: Mapping[str, Any] = field(default_factory=dict)
    list_template: str = "fields/word.html"
    detail_template: str = "fields/word.html"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.filters = [EqualFilter, InFilter]

    async def serialize_value(self, request: Request, value: Any) -> Any:
        """The value itself for forms and exports, else its word and colour."""
        action: RequestAction = request.state.action
        if action.is_form() or action == RequestAction.EXPORT:
            return value
        words = {**dict(self._get_choices(request)), **self.more_words}
        return {"word": str(words.get(value, value)), "tone": self.tones.get(value, "secondary")}


@dataclass
class ShownField(ComputedField):
    """Something worked out from the row: not in the table, so neither sorted nor filtered by."""

    async def serialize_value(self, request: Request, value: Any) -> Any:
        """The value as it is, since its template may want more than a text; words for an export."""
        if request.state.action == RequestAction.EXPORT and isinstance(value, Mapping):
            return value.get("text", "")
        return value
