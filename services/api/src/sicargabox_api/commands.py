"""What this package adds to the command line `sicargabox`."""

from __future__ import annotations

from sicargabox_api.serving import serve
from sicargabox_core.laptop.preflight import check_port
from sicargabox_core.observability import configure_logging
from sicargabox_core.settings import load_settings


def api() -> None:
    """Serve the public page and the JSON API on SICARGABOX_HOST and SICARGABOX_PORT.

    Exit codes: 0 stopped by a signal, 2 a wrong setting or a taken port.

    Example: SICARGABOX_PORT=8080 sicargabox api
    """
    settings = load_settings()
    check_port(settings.host, settings.port, "PORT")
    configure_logging(settings, "api")
    serve("sicargabox_api.main:app_factory", settings, port=settings.port)
