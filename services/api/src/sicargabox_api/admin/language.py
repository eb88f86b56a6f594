"""Teaches starlette-admin Spanish, which it neither ships nor knows as a possible language."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from babel.dates import format_timedelta
from babel.numbers import format_decimal, format_percent
from starlette_admin import i18n
from starlette_admin.i18n import I18nConfig, TimezoneConfig
from starlette_admin.i18n import lazy_gettext as _lazy_gettext

from sicargabox_api.translations import DEFAULT_LANGUAGE, LANGUAGE_COOKIE, LANGUAGES, translations
from sicargabox_core.settings import Settings

# Of Spanish alone the numbers would be those of Spain: 7.505,5.
_REGIONS: Final = {"es": "es_HN", "en": "en_US"}
MOMENT_FORMAT: Final = "dd/MM/yyyy HH:mm:ss"


def _(message: str) -> Any:
    """Marks a text; it is translated when it is shown, for the language of that request."""
    return _lazy_gettext(message)


def install_spanish() -> I18nConfig:
    """Call before ``Admin()``: it raises ``KeyError`` for a theme in a language it has no catalogue of."""
    if "es" not in i18n.SUPPORTED_LOCALES:
        i18n.SUPPORTED_LOCALES.append("es")
    i18n.translations["es"] = translations("es", "starlette_admin", "admin")
    return I18nConfig(
        default_locale=DEFAULT_LANGUAGE,
        language_cookie_name=LANGUAGE_COOKIE,
        # It compares the whole header, so "es-HN,es;q=0.9" never matches and "en" would win over our default.
        language_header_name=None,
        language_switcher=list(LANGUAGES),
    )


def told_moment(moment: datetime) -> dict[str, str]:
    """A time for ``fields/moment.html`` and for scripts: exact in the office's zone, and how long ago that is."""
    return {
        "iso": moment.isoformat(),
        "exact": i18n.format_datetime(moment, MOMENT_FORMAT, i18n.get_tzinfo()),
        "ago": format_timedelta(moment - datetime.now(UTC), add_direction=True, locale=i18n.get_locale()),
    }


def number(value: int | float) -> str:
    """A number as people in Honduras write it: 7,505."""
    return format_decimal(value, locale=_REGIONS.get(i18n.get_locale(), "en_US"))


def told_share(share: float, places: int = 1) -> str:
    """A share from 0 to 1 in percent: 97.2%."""
    pattern = f"0.{'0' * places}%" if places else "0%"
    return format_percent(share, pattern, locale=_REGIONS.get(i18n.get_locale(), "en_US"))


def timezone(settings: Settings) -> TimezoneConfig:
    """Times are shown in the office's zone, whatever the browser says of its own."""
    return TimezoneConfig(
        default_timezone=settings.timezone,
        timezone_cookie_name=None,
        database_timezone="UTC",
        use_user_locale_timezone=False,
    )
