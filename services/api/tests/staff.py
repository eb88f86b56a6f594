"""The running staff pages, and members of staff with a session each."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI
from services.api.tests.running import on_a_free_port

from sicargabox_api.admin.app import StaffAdmin, create_admin_app
from sicargabox_api.admin.staff import StaffServices
from sicargabox_api.authentication import SESSION_COOKIE
from sicargabox_core.accounts.models import Role, User, UserSession
from sicargabox_core.accounts.passwords import hash_secret, new_secret
from sicargabox_core.db import Database, db_now
from sicargabox_core.settings import Settings

_users: Any = User.__table__
_sessions: Any = UserSession.__table__
CSRF_COOKIE = "starlette_admin_csrftoken"


@dataclass
class StaffSite:
    """The running application."""

    app: FastAPI
    url: str
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def services(self) -> StaffServices:
        """What it uses."""
        services: StaffServices = self.app.state.services
        return services

    @property
    def admin(self) -> StaffAdmin:
        """starlette-admin's part of it."""
        admin: StaffAdmin = self.app.state.admin
        return admin

    @property
    def database(self) -> Database:
        """Its database."""
        return self.services.database

    def browser(self) -> httpx.Client:
        """Somebody who is not signed in."""
        client = httpx.Client(base_url=self.url, timeout=10.0)
        self.clients.append(client)
        return client

    def signed_in(self, role: Role, name: str | None = None) -> httpx.Client:
        """A browser with a session, its CSRF token sent along as the pages' scripts do."""
        client = self.browser()
        token = new_secret()
        with self.database.write() as session:
            # The rows that a sign-in makes, without the cost of hashing a password.
            user = session.execute(
                _users.insert()
                .values(username=name or f"person-{role}-{token[:6].lower()}", password_hash="none", role=role)
                .returning(_users.c.id)
            ).scalar_one()
            session.execute(
                _sessions.insert().values(token_hash=hash_secret(token), user_id=user, expires_at=db_now(3600.0))
            )
        client.cookies.set(SESSION_COOKIE, token)
        client.get("/admin/login")
        client.headers["X-CSRFToken"] = client.cookies[CSRF_COOKIE]
        return client


@contextlib.contextmanager
def serving_staff(settings: Settings) -> Iterator[StaffSite]:
    """Runs the staff pages on a free port."""
    app = create_admin_app(settings)
    with on_a_free_port(app, "the staff pages") as url:
        site = StaffSite(app, url)
        try:
            yield site
        finally:
            for client in site.clients:
                client.close()


def csrf_of(page: str) -> str:
    """The hidden token of a page's form."""
    found = re.search(r'name="csrftoken" value="([^"]+)"', page)
    assert found, "the page has no CSRF token"
    return found.group(1)
