"""What this package adds to the command line `sicargabox`."""

from __future__ import annotations

import uvicorn

from sicargabox_core.laptop.preflight import check_port
from sicargabox_core.observability import configure_logging
from sicargabox_core.settings import load_settings

# With the 2 s of a publisher that sends its last messages this stays below the 7 s that `sicargabox run` gives each
# process, so that all have ended 10 s after Ctrl-C.
_DRAIN_SECONDS = 3


def api() -> None:
    """Serve the public page and the JSON API on SICARGABOX_HOST and SICARGABOX_PORT.

    Exit codes: 0 stopped by a signal, 2 a wrong setting or a taken port.

    Example: SICARGABOX_PORT=8080 sicargabox api
    """
    settings = load_settings()
    check_port(settings.host, settings.port, "PORT")
    configure_logging(settings, "api")
    uvicorn.run(
        "sicargabox_api.main:app_factory",
        factory=True,
        host=settings.host,
        port=settings.port,
        # Our own pipeline and our own line per request, with its id.
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
