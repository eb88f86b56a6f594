"""The command `sicargabox admin`."""

from __future__ import annotations

from sicargabox_api.serving import serve
from sicargabox_core.observability import configure_logging
from sicargabox_core.settings import load_settings


def admin() -> None:
    """Serve the staff pages on SICARGABOX_HOST and SICARGABOX_ADMIN_PORT, under /admin/.

    Exit codes: 0 stopped by a signal, 1 the port is taken, 2 a wrong setting.

    Example: SICARGABOX_ADMIN_PORT=8081 sicargabox admin
    """
    settings = load_settings()
    configure_logging(settings, "admin")
    serve("sicargabox_api.admin.app:app_factory", settings, port=settings.admin_port)
