"""Texts in other languages than the code's English: ``LOCALE/NAME.po``, read at start (compiled ones get stale)."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from io import BytesIO

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations

LANGUAGES = ("es", "en")
DEFAULT_LANGUAGE = "es"
# Shared by the staff pages and the public page, which are two ports of one host.
LANGUAGE_COOKIE = "language"
THEME_COOKIE = "theme"


@lru_cache
def translations(locale: str, *names: str) -> Translations:
    """The merged catalogues ``names`` of ``locale``; English needs none, since it is what the code says."""
    merged = Translations()
    for name in names if locale != "en" else ():
        with (files(__package__) / locale / f"{name}.po").open("rb") as text:
            catalogue = read_po(text, locale=locale)
        compiled = BytesIO()
        write_mo(compiled, catalogue)
        compiled.seek(0)
        merged.merge(Translations(compiled, domain=name))
    return merged
