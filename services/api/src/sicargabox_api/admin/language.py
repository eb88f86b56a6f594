"""Teaches starlette-admin Spanish, which it neither ships nor knows as a possible language."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from starlette_admin import i18n
from starlette_admin.i18n import I18nConfig, TimezoneConfig
from starlette_admin.i18n import lazy_gettext as _lazy_gettext

from sicargabox_api.translations import DEFAULT_LANGUAGE, LANGUAGE_COOKIE, LANGUAGES, translations
from sicargabox_core.settings import Settings

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


def office_time(moment: datetime) -> str:
    """A time in the office's zone, as the lists show it."""
    return i18n.format_datetime(moment, MOMENT_FORMAT, i18n.get_tzinfo())


def timezone(settings: Settings) -> TimezoneConfig:
    """Times are shown in the office's zone, whatever the browser says of its own."""
    return TimezoneConfig(
        default_timezone=settings.timezone,
        timezone_cookie_name=None,
        database_timezone="UTC",
        use_user_locale_timezone=False,
    )
