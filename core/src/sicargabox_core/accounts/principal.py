"""Who is asking, whichever way they proved it."""

from __future__ import annotations

from dataclasses import dataclass

from sicargabox_core.accounts.models import Role
from sicargabox_core.errors import Forbidden

_ORDER = list(Role)
SCOPES = ("search", "tasks", "queues", "keywords")


@dataclass(frozen=True)
class Principal:
    """A signed-in member of staff (``user:ana``) or a program with a token (``token:scanner``).

    ``scopes`` is ``None`` for people, who are limited by their role alone.
    """

    name: str
    role: Role
    scopes: frozenset[str] | None = None
    user_id: int | None = None

    def may(self, role: Role, scope: str | None = None) -> bool:
        """Whether this principal has at least ``role`` and, if it is a program, the ``scope``."""
        enough = _ORDER.index(self.role) >= _ORDER.index(role)
        return enough and (self.scopes is None or scope is None or scope in self.scopes)

    def require(self, role: Role, scope: str | None = None) -> None:
        """Raises ``Forbidden`` unless ``may``."""
        if not self.may(role, scope):
            needs = f"the role {role}" + (f" and the scope {scope}" if scope and self.scopes is not None else "")
            raise Forbidden(f"this needs {needs}", remedy="Ask an administrator.")
