"""A real server with the real application, and the people and programs who call it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from sicargabox_api.authentication import SESSION_COOKIE
from sicargabox_api.main import create_app
from sicargabox_api.services import Services
from sicargabox_core.accounts.models import Role, User, UserSession
from sicargabox_core.accounts.passwords import hash_secret, new_secret
from sicargabox_core.accounts.principal import SCOPES
from sicargabox_core.accounts.tokens import create_token
from sicargabox_core.db import Database, db_now
from sicargabox_core.settings import Settings
from tests.servers.ports import wait_until

API = "/api/v1"
# Beyond it something waits for what it must not wait for; broker time-outs that would are 5 s.
PATIENCE = 4.0

_users: Any = User.__table__
_sessions: Any = UserSession.__table__


@dataclass
class Api:
    """The running application. Requests are a visitor's unless made by ``as_program`` or ``as_person``."""

    app: FastAPI
    url: str
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def services(self) -> Services:
        """What the application uses."""
        services: Services = self.app.state.services
        return services

    @property
    def database(self) -> Database:
        """Its database."""
        return self.services.database

    def visitor(self, **options: Any) -> httpx.Client:
        """A client with its own cookies."""
        client = httpx.Client(base_url=self.url, timeout=PATIENCE, **options)
        self.clients.append(client)
        return client

    def as_program(self, role: Role = Role.ADMIN, scopes: tuple[str, ...] = SCOPES) -> httpx.Client:
        """A client with a fresh API token."""
        with self.database.write() as session:
            name = f"{role}-{new_secret()[:8]}"
            _, secret = create_token(session, name, role, scopes, by="test")
        return self.visitor(headers={"Authorization": f"Bearer {secret}"})

    def as_person(self, role: Role, *, name: str | None = None) -> httpx.Client:
        """A client with a staff session, on our own pages."""
        name = name or f"person-{role}"
        token = new_secret()
        with self.database.write() as session:
            # The rows that a sign-in makes, without the cost of hashing a password.
            user = session.execute(
                _users.insert().values(username=name, password_hash="none", role=role).returning(_users.c.id)
            ).scalar_one()
            session.execute(
                _sessions.insert().values(token_hash=hash_secret(token), user_id=user, expires_at=db_now(3600.0))
            )
        return self.visitor(cookies={SESSION_COOKIE: token}, headers={"Origin": self.url})


@contextlib.contextmanager
def on_a_free_port(app: FastAPI, name: str) -> Iterator[str]:
    """Runs an application in a thread of this process; gives its address."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False, ws="none", lifespan="on")
    )
    thread = threading.Thread(target=server.run, name=f"{name} under test", daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive(), seconds=20, what=f"{name} starts")
    assert server.started, f"{name} did not start"
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        assert not thread.is_alive(), f"{name} did not stop"


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[Api]:
    """Runs the application on a free port."""
    app = create_app(settings)
    with on_a_free_port(app, "the API") as url:
        api = Api(app, url)
        try:
            yield api
        finally:
            for client in api.clients:
                client.close()
