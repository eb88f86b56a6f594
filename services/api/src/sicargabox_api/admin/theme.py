"""Our dress for starlette-admin: templates and files of this package, no font from another host, dark mode."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar

from starlette.requests import Request
from starlette_admin.theme import BaseTheme, ClassMap, CoreIcons, IconSet

from sicargabox_api.translations import THEME_COOKIE

_PACKAGE = "sicargabox_api.admin"


class _Classes(ClassMap):
    classes: ClassVar[dict[str, str]] = {
        # Stacked cards on a phone; staff.js gives the cells their labels.
        "list.table": "table table-vcenter card-table table-mobile-md",
        "form.cancel_button": "btn",
        "action.modal_confirm_button_delete": "btn btn-danger",
    }


class StaffTheme(BaseTheme):
    """Tabler, as the library ships it, with our layout."""

    name = "sicargabox"
    package = _PACKAGE

    def get_icon_set(self) -> IconSet:
        """FontAwesome, from the library's own files."""
        return CoreIcons()

    def get_class_map(self) -> ClassMap:
        """The few classes we change."""
        return _Classes()

    def html_attrs(self, request: Request) -> dict[str, str]:
        """The chosen colours; with none chosen, ``theme.js`` follows the system before the first paint."""
        chosen = request.cookies.get(THEME_COOKIE)
        theme = chosen if chosen in ("light", "dark") else "light"
        return {
            "data-bs-theme": theme,
            "data-bs-theme-base": "slate",
            "data-bs-theme-primary": "blue",
            "data-theme-choice": chosen if chosen in ("light", "dark") else "system",
        }

    def template_globals(self) -> dict[str, Any]:
        """``asset_version``: changes with the file, so that browsers may keep it for a year."""
        return {"asset_version": asset_version}


@cache
def asset_version(path: str) -> str:
    """A short digest of one of our static files."""
    return hashlib.sha256((files(_PACKAGE) / "static" / path).read_bytes()).hexdigest()[:12]
