"""What the pages that tell how a part of the product is have in common: who may look, and how they answer."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette_admin.views import CustomView

from sicargabox_api.admin.staff import StaffServices, may
from sicargabox_core.accounts.models import Role


class ReportPage(CustomView):
    """A page for everybody who is signed in; what may be done on it, each page says and checks itself."""

    def __init__(self, services: StaffServices) -> None:
        super().__init__()
        self._services = services

    def is_accessible(self, request: Request) -> bool:
        """Everybody who is signed in."""
        return may(request, Role.VIEWER)

    def _answer(self, request: Request, template: str, told: dict[str, Any]) -> Response:
        """The template with the page's title and what is told. Raises ``RuntimeError`` outside an admin site."""
        if self._admin is None:
            raise RuntimeError("the page is not part of an admin site")
        return self._admin._template_response(request, template, {"title": self.title(request), **told})
