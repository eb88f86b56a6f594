"""The command `sicargabox admin`."""

from __future__ import annotations

import uvicorn

from sicargabox_core.observability import configure_logging
from sicargabox_core.settings import load_settings

# Below the 7 s that `sicargabox run` gives each process.
_DRAIN_SECONDS = 3


def admin() -> None:
    """Serve the staff pages on SICARGABOX_HOST and SICARGABOX_ADMIN_PORT, under /admin/.

    Exit codes: 0 stopped by a signal, 1 the port is taken, 2 a wrong setting.

    Example: SICARGABOX_ADMIN_PORT=8081 sicargabox admin
    """
    settings = load_settings()
    configure_logging(settings, "admin")
    uvicorn.run(
        "sicargabox_api.admin.app:app_factory",
        factory=True,
        host=settings.host,
        port=settings.admin_port,
        # Our own pipeline and our own line per request, with its id.
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
