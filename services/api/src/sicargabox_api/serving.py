"""How this package's applications are served: one set of Uvicorn's options for the API and the staff pages."""

from __future__ import annotations

import uvicorn

from sicargabox_core.settings import Settings

# With the 2 s of a publisher that sends its last messages this stays below the 7 s that `sicargabox run` gives each
# process, so that all have ended 10 s after Ctrl-C.
_DRAIN_SECONDS = 3


def serve(factory: str, settings: Settings, *, port: int) -> None:
    """Serves the application that ``factory`` (``module:function``) makes, until a signal ends it."""
    uvicorn.run(
        factory,
        factory=True,
        host=settings.host,
        port=port,
        # Our own pipeline and our own line per request, with its id.
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
