"""The real API process with one more route, by which the load starts the tests' tasks: ``python -m
tests.faults.api_process``.

The route does what the product's own does: token, role, limit, ``TaskService.submit`` with the ``Idempotency-Key``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Request, Response

from sicargabox_api import main
from sicargabox_api.authentication import require
from sicargabox_api.rate_limits import StaffLimit
from sicargabox_api.routes.tasks import SCOPE
from sicargabox_api.services import ServicesDep
from sicargabox_api.serving import serve
from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.principal import Principal
from sicargabox_core.observability import configure_logging
from sicargabox_core.settings import load_settings
from sicargabox_core.tasks.contracts import Queue
from sicargabox_core.tasks.dispatch import Publisher
from sicargabox_core.tasks.messages import Publishable
from tests.faults.work import WORK, Work

PATH = f"{main.PREFIX}/faults"


def start_work(
    queue: Queue,
    body: Work,
    request: Request,
    response: Response,
    services: ServicesDep,
    _limit: StaffLimit,
    caller: Annotated[Principal, Depends(require(Role.OPERATOR, SCOPE))],
    idempotency_key: Annotated[str, Header()],
) -> dict[str, str]:
    """Accepts a piece of work."""
    submission = services.tasks.submit(
        WORK[queue],
        body,
        initiated_by=caller.name,
        request_id=request.state.request_id,
        idempotency_key=idempotency_key,
    )
    if not submission.created:
        response.headers["Idempotency-Replayed"] = "true"
    return {"id": submission.task.id}


def app_factory() -> FastAPI:
    """As the product's factory."""
    app = main.app_factory()
    app.add_api_route(f"{PATH}/{{queue}}", start_work, methods=["POST"], status_code=202)
    # The product's last routes answer whatever is left over, so this one must stand before them.
    app.router.routes.insert(0, app.router.routes.pop())
    return app


def die_before_publishing(order: Path) -> None:
    """Kills this process at the first publish, which follows its commit, while the file ``order`` is there."""
    publish = Publisher.publish

    def _publish(self: Publisher, tasks: Iterable[Publishable]) -> None:
        if order.exists():
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        publish(self, tasks)

    Publisher.publish = _publish  # type: ignore[method-assign]  # replacing it is the point


if __name__ == "__main__":
    die_before_publishing(Path(os.environ["FAULTS_DIE_ORDER"]))
    settings = load_settings()
    configure_logging(settings, "api")
    serve("tests.faults.api_process:app_factory", settings, port=settings.port)
