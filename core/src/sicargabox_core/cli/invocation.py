"""What one run of the command line works with, made when first asked for: settings, database, tasks, principal."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import typer

from sicargabox_core.errors import Unavailable
from sicargabox_core.observability import configure_logging
from sicargabox_core.settings import Settings, load_settings

if TYPE_CHECKING:
    from sicargabox_core.db import Database
    from sicargabox_core.tasks.service import TaskService


class Invocation:
    """One run of the command line."""

    def __init__(self, *, debug: bool = False) -> None:
        self.debug = debug
        self._closers: list[Callable[[], object]] = []

    @cached_property
    def settings(self) -> Settings:
        """The settings; log lines go to stderr from here on. Raises ``InvalidSetting``."""
        settings = load_settings()
        # A table or JSON between log lines is no use to anyone; errors are told by the command itself.
        quiet = settings.model_copy(
            update={"log_level": "DEBUG" if self.debug else "CRITICAL", "log_format": "console"}
        )
        configure_logging(quiet, "cli")
        return settings

    @cached_property
    def principal(self) -> str:
        """Who asks, for tasks and the audit trail: `cli:` and the operating system's user."""
        try:
            return f"cli:{getpass.getuser()}"[:100]
        except (KeyError, OSError):
            # A container may run as a number that no user has.
            return "cli:unknown"

    @cached_property
    def unchecked_database(self) -> Database:
        """The database, whatever its schema."""
        from sicargabox_core.db import Database

        database = Database.from_settings(self.settings)
        self._closers.append(database.dispose)
        return database

    @cached_property
    def database(self) -> Database:
        """The database with the tables of this release. Raises ``Unavailable`` when it is away or too old."""
        from sicargabox_core.db import expected_schema_version, schema_version

        database = self.unchecked_database
        database.ping()
        found, expected = schema_version(database), expected_schema_version()
        if found < expected:
            state = f"has schema version {found}, and {expected} is needed" if found else "has no tables yet"
            raise Unavailable(f"the database {state}.", remedy="Run `sicargabox migrate`.")
        return database

    @cached_property
    def tasks(self) -> TaskService:
        """Submits, shows, cancels and repeats tasks."""
        from sicargabox_core.tasks.broker import make_celery
        from sicargabox_core.tasks.dispatch import Publisher
        from sicargabox_core.tasks.results import ResultEntries
        from sicargabox_core.tasks.service import TaskService

        publisher = Publisher(self.settings, make_celery(self.settings, "cli"))
        self._closers.append(publisher.stop)
        return TaskService(self.database, publisher, ResultEntries(self.settings))

    def close(self) -> None:
        """Sends what is still to be sent and closes connections."""
        while self._closers:
            self._closers.pop()()


def invocation(ctx: typer.Context) -> Invocation:
    """The run that ``ctx`` belongs to."""
    found: Invocation = ctx.obj
    return found
