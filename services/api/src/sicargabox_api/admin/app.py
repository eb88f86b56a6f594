"""The staff process: what it is made of."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import RedirectResponse
from starlette_admin import i18n
from starlette_admin.contrib.sqla import Admin
from starlette_admin.flash import flash
from starlette_admin.i18n import gettext
from starlette_admin.routing import route

from sicargabox_api import problems
from sicargabox_api.admin.index_page import IndexPage
from sicargabox_api.admin.language import install_spanish, number, timezone, told_moment
from sicargabox_api.admin.page_security import NonceExtension, PageSecurity
from sicargabox_api.admin.panel import Panel
from sicargabox_api.admin.quality_page import QualityPage
from sicargabox_api.admin.redis_page import RedisPage
from sicargabox_api.admin.script_calls import script_calls
from sicargabox_api.admin.signin import StaffSignIn
from sicargabox_api.admin.staff import StaffServices
from sicargabox_api.admin.theme import StaffTheme
from sicargabox_api.admin.views.accounts import AuditTrail, Tokens, Users
from sicargabox_api.admin.views.keywords import Keywords
from sicargabox_api.admin.views.searches import Searches, Selections
from sicargabox_api.admin.views.tariff import TariffLines
from sicargabox_api.admin.views.task_history import DeadLetters, TaskHistory
from sicargabox_api.middleware import BodyLimit, RequestContext
from sicargabox_api.routes.health import from_inside
from sicargabox_api.translations import DEFAULT_LANGUAGE, LANGUAGE_COOKIE
from sicargabox_core.accounts.signing import signing_key
from sicargabox_core.catalogue.tariff import display_code
from sicargabox_core.db import Database
from sicargabox_core.errors import Forbidden, SicargaBoxError
from sicargabox_core.observability import render_metrics
from sicargabox_core.settings import Settings, load_settings
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.results import ResultEntries
from sicargabox_core.tasks.service import TaskService

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BASE_URL = "/admin"

log = structlog.get_logger(__name__)


class StaffAdmin(Admin):
    """starlette-admin with our error pages."""

    @route("/_api/{key}/action", methods=["POST"], name="action")
    async def handle_action(self, request: Request) -> Any:
        """As the library's, which answers 500 to a call that names no action."""
        if not request.query_params.get("name"):
            raise HTTPException(HTTPStatus.BAD_REQUEST)
        return await super().handle_action(request)

    @route("/{key}/list", methods=["GET"], name="list")
    async def _render_list(self, request: Request) -> Response:
        """As the library's; an address that asks for what cannot be leads to the whole list and says so.

        It leads there, and does not just show it, since what is then done to "all that match" goes by the address.
        """
        try:
            page: Response = await super()._render_list(request)
        except HTTPException as error:
            if error.status_code != HTTPStatus.BAD_REQUEST or not request.query_params:
                raise
            asked = request.query_params.get("filter") or str(request.query_params)
            flash(
                request,
                gettext("Not a valid filter: %(asked)s. This is the whole list.") % {"asked": asked[:120]},
                "warning",
            )
            return RedirectResponse(str(request.url.replace(query="")), status_code=303)
        return page

    async def _render_error(self, request: Request, exc: Exception = HTTPException(500)) -> Response:
        status, detail = HTTPStatus.INTERNAL_SERVER_ERROR, ""
        if isinstance(exc, HTTPException):
            status = HTTPStatus(exc.status_code)
            detail = "" if exc.detail == status.phrase else str(exc.detail)
        elif isinstance(exc, SicargaBoxError):
            status = problems.status_of(exc)
        return self.templates.TemplateResponse(
            request=request,
            name="error.html",
            context={"status": status.value, "detail": detail},
            status_code=status.value,
        )


class ErrorPages:
    """Around all of starlette-admin: what it answers in plain text, and errors that nobody foresaw, become our page.

    It refuses a form without its CSRF token in plain English. The cause of an error goes to the log only.
    """

    def __init__(self, app: ASGIApp, admin: StaffAdmin) -> None:
        self.app = app
        self._admin = admin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = refused = False

        async def watched(message: Message) -> None:
            nonlocal started, refused
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.FORBIDDEN:
                refused = Headers(raw=message["headers"]).get("content-type", "").startswith("text/plain")
            if not refused:
                started = True
                await send(message)

        fault: Exception | None = None
        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            log.error("unexpected_error", exc_info=error)
            fault = error
        if refused:
            fault = HTTPException(HTTPStatus.FORBIDDEN)
        if fault is None:
            return
        request = Request(scope, receive)
        # The middleware that knows the language is inside of this.
        i18n.set_locale(request.cookies.get(LANGUAGE_COOKIE, DEFAULT_LANGUAGE))
        response = await self._admin._render_error(request, fault)
        await response(scope, receive, send)


def create_admin_app(settings: Settings) -> FastAPI:
    """The application with everything it uses; it connects to servers when it is first asked something."""
    # Its information lines name who signs in.
    logging.getLogger("starlette_admin").setLevel(logging.ERROR)
    database = Database.from_settings(settings)
    publisher = Publisher(settings, make_celery(settings, "admin"))
    services = StaffServices(
        settings=settings,
        database=database,
        tasks=TaskService(database, publisher, ResultEntries(settings)),
        key=signing_key(settings),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        publisher.start()
        await run_sync(_compile_templates, admin)
        yield
        publisher.stop()
        database.dispose()

    app = FastAPI(title="SicargaBox", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.services = services
    # The last one added is the outermost.
    app.add_middleware(BodyLimit)
    app.add_middleware(PageSecurity, static_prefix=f"{BASE_URL}/static/")
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.add_middleware(RequestContext)
    problems.add_handlers(app)
    csrf_key = services.key.hex()
    app.include_router(script_calls(services, csrf_key))
    _add_probes(app, settings, database)
    admin = _admin(services, csrf_key)
    app.state.admin = admin
    admin.mount_to(app)
    admin.app.add_middleware(ErrorPages, admin=admin)
    return app


def _admin(services: StaffServices, csrf_key: str) -> StaffAdmin:
    i18n_config = install_spanish()
    admin = StaffAdmin(
        services.database.engine,
        title="SicargaBox",
        base_url=BASE_URL,
        # A folder that is not there: nobody's working directory may replace our templates.
        templates_dir="/nonexistent",
        theme=StaffTheme(),
        index_view=Panel(services),
        auth_provider=StaffSignIn(services),
        secret_key=csrf_key,
        i18n_config=i18n_config,
        timezone_config=timezone(services.settings),
    )
    env = admin.templates.env
    env.add_extension(NonceExtension)
    env.filters |= {"moment": told_moment, "number": number, "display_code": display_code}
    env.globals["public_url"] = services.settings.effective_public_url
    for view in (
        TaskHistory,
        DeadLetters,
        IndexPage,
        QualityPage,
        RedisPage,
        Keywords,
        TariffLines,
        Searches,
        Selections,
        Users,
        Tokens,
        AuditTrail,
    ):
        admin.add_view(view(services))
    return admin


def _compile_templates(admin: StaffAdmin) -> None:
    # The first visitor waited 0.3 to 0.7 s for it.
    for name in (
        "login.html",
        "panel.html",
        "index_page.html",
        "quality.html",
        "redis.html",
        "list.html",
        "task_detail.html",
        "detail.html",
        "create.html",
    ):
        admin.templates.env.get_template(name)


def _add_probes(app: FastAPI, settings: Settings, database: Database) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        database.ping()
        return {"status": "ready"}

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        if not settings.public_metrics and not from_inside(request):
            raise Forbidden("figures are for scrapers of the same network", remedy="Scrape past any proxy.")
        return Response(render_metrics(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/")
    async def root() -> RedirectResponse:
        return RedirectResponse(f"{BASE_URL}/", status_code=307)


def app_factory() -> FastAPI:
    """For ``uvicorn --factory sicargabox_api.admin.app:app_factory``: settings from the environment."""
    return create_admin_app(load_settings())
