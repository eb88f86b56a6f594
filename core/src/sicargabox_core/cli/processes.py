"""Commands that are processes: `run` (the whole product here) and `scheduler`."""

from __future__ import annotations

import typer

from sicargabox_core.settings import load_settings


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command("run")(run)
    app.command("scheduler")(scheduler)


def run() -> None:
    """Start the whole product on this machine; Ctrl-C stops it.

    Everything is kept in the data folder (SICARGABOX_DATA_DIR, default .data), so a second start goes on where the
    first ended. Needs no server: the Redis-protocol server, the database and the search engine are embedded.

    Example: SICARGABOX_PORT=8080 sicargabox run
    """
    from sicargabox_core.laptop import command

    command.run()


def scheduler() -> None:
    """Keep background work moving: lost messages, expired leases, schedules, figures. Ends on SIGTERM or Ctrl-C.

    Several may run at once. With SICARGABOX_WORKER_PORT it serves /healthz, /readyz and /metrics.

    Example: SICARGABOX_WORKER_PORT=9100 sicargabox scheduler
    """
    from sicargabox_core.observability import configure_logging
    from sicargabox_core.scheduler import run_scheduler

    settings = load_settings()
    configure_logging(settings, "scheduler")
    run_scheduler(settings)
