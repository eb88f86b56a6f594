"""The API process: what it is made of, and its application.

It accepts tasks by their contracts and never imports a worker. Routes are synchronous and run in FastAPI's threads, as
SQLAlchemy does; only watching a task, which waits long, is asynchronous.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import CapacityLimiter
from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse

from sicargabox_api import problems
from sicargabox_api.api_documentation import add_documentation
from sicargabox_api.middleware import BodyLimit, RequestContext
from sicargabox_api.public import routes as public_pages
from sicargabox_api.public.page_route import answer_strays
from sicargabox_api.rate_limits import RateLimits
from sicargabox_api.routes import health, index, lines, queues, search, selections, tasks
from sicargabox_api.routes.task_events import Listeners
from sicargabox_api.search_log import SearchLogWriter
from sicargabox_api.services import Services
from sicargabox_core.accounts.signing import signing_key
from sicargabox_core.db import Database
from sicargabox_core.observability import configure_logging
from sicargabox_core.search.service import MOST_AT_ONCE, SearchService
from sicargabox_core.settings import Settings, load_settings
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.results import ResultEntries
from sicargabox_core.tasks.service import TaskService

PREFIX = "/api/v1"
_EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            problems.add_schema(super().openapi())
        return super().openapi()


def create_app(settings: Settings) -> FastAPI:
    """The application with everything it uses; it connects to servers when it is first asked something.

    Raises ``InvalidSetting`` for settings that cannot work together.
    """
    # A browser gives up sooner than a task.
    database = Database.from_settings(settings, statement_seconds=10)
    publisher = Publisher(settings, make_celery(settings, "api"))
    searches = SearchLogWriter(database)
    rate_limits = RateLimits(settings)
    services = Services(
        settings=settings,
        database=database,
        tasks=TaskService(database, publisher, ResultEntries(settings)),
        search=SearchService(database, settings),
        search_threads=CapacityLimiter(MOST_AT_ONCE),
        searches=searches,
        rate_limits=rate_limits,
        key=signing_key(settings),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        publisher.start()
        searches.start()
        yield
        searches.stop()
        publisher.stop()
        rate_limits.close()
        database.dispose()

    app = _Api(
        title="SicargaBox",
        version="1",
        summary="Finds the tariff line for parcels described in everyday words, and runs the work that improves it.",
        description=(
            "Errors are problems (RFC 9457) with a `code`, and the `field` and `remedy` where the caller can mend it. "
            "Staff endpoints need a session (sign in at /admin) or `Authorization: Bearer TOKEN`."
        ),
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        # Its Location would be built from whatever Host the caller sends.
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.services = services
    app.state.listeners = Listeners()
    # The last one added is the outermost.
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestContext)
    problems.add_handlers(app)

    api = APIRouter(prefix=PREFIX)
    for module in (search, lines, selections, tasks, queues, index):
        api.include_router(module.router)
    app.include_router(api)
    app.include_router(health.router)
    app.include_router(public_pages.router)
    answer_strays(app)
    add_documentation(app, f"{PREFIX}/docs")
    _redirect_admin(app, settings)
    return app


def _redirect_admin(app: FastAPI, settings: Settings) -> None:
    """Leads to the staff pages, which are a process of their own."""
    if settings.effective_admin_url == settings.effective_public_url:
        # One address for both: whatever stands before us sends /admin there, and a redirect would go round in circles.
        return

    @app.api_route("/admin", methods=_EVERY_METHOD, include_in_schema=False)
    @app.api_route("/admin/{path:path}", methods=_EVERY_METHOD, include_in_schema=False)
    async def to_admin(request: Request) -> RedirectResponse:
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{settings.effective_admin_url}{request.url.path}{query}", status_code=307)


def app_factory() -> FastAPI:
    """For ``uvicorn --factory sicargabox_api.main:app_factory``: settings from the environment, logging set up."""
    settings = load_settings()
    configure_logging(settings, "api")
    return create_app(settings)
