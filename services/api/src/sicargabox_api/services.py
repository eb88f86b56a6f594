"""What a request may use, built once per process and found on ``app.state``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from sicargabox_api.rate_limits import RateLimits
from sicargabox_api.search_log import SearchLogWriter
from sicargabox_core.db import Database
from sicargabox_core.search.service import SearchService
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.service import TaskService


@dataclass(frozen=True)
class Services:
    """The application services of one process.

    ``key`` turns visitors into hashes that nobody else can compute. ``search_threads``: those that search; what comes
    meanwhile waits in the event loop, and takes no thread from other routes.
    """

    settings: Settings
    database: Database
    tasks: TaskService
    search: SearchService
    search_threads: CapacityLimiter
    searches: SearchLogWriter
    rate_limits: RateLimits
    key: bytes


async def services(request: Request) -> Services:
    """The services of the application that serves this request (async: a look-up needs no thread)."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]
