"""What every staff page may use, and who is asking."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette_admin.auth import AdminUser

from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.principal import Principal
from sicargabox_core.db import Database
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.service import TaskService


@dataclass(frozen=True)
class StaffServices:
    """The application services of the admin process. ``key`` signs CSRF cookies and hashes addresses."""

    settings: Settings
    database: Database
    tasks: TaskService
    key: bytes


@dataclass
class StaffUser(AdminUser):
    """The signed-in person, as starlette-admin wants it."""

    principal: Principal | None = None


def principal_of(request: Request) -> Principal | None:
    """Who is signed in; none on the sign-in page and on error pages before it."""
    user = getattr(request.state, "admin_user", None)
    return user.principal if isinstance(user, StaffUser) else None


def may(request: Request, role: Role | None) -> bool:
    """Whether the caller has at least ``role``; nobody has none."""
    principal = principal_of(request)
    return role is not None and principal is not None and principal.may(role)


def actor(request: Request) -> str:
    """The caller's name for audit rows and tasks; a request that comes this far has one."""
    principal = principal_of(request)
    if principal is None:
        raise RuntimeError("no one is signed in")
    return principal.name
