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

from sicargabox_api.admin.language import MOMENT_FORMAT


class _BetweenMoments(DateTimeBetweenFilter):
    def parse_value(self, raw: Any) -> Any:
        """The library gives a naive time in UTC; our columns take none without a zone."""
        moment = super().parse_value(raw)
        return moment.replace(tzinfo=UTC) if isinstance(moment, datetime) else moment


@dataclass
class MomentField(DateTimeField):
    """A time, shown in the office's zone."""

    output_format: str | None = MOMENT_FORMAT

    def __post_init__(self) -> None:
        super().__post_init__()
        self.filters = [_BetweenMoments]


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
