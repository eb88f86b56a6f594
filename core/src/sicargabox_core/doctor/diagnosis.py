"""Asks every check and gathers what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from sqlalchemy.exc import SQLAlchemyError

from sicargabox_core.db import Database
from sicargabox_core.doctor import index, machine, redis, sql
from sicargabox_core.doctor.findings import Diagnosis, Finding, fault, ok
from sicargabox_core.errors import InvalidSetting, SicargaBoxError
from sicargabox_core.settings import Settings, load_settings

Check = Callable[[], Iterator[Finding]]


def diagnose(environment: Mapping[str, str]) -> Diagnosis:
    """Looks at everything. ``environment`` is the process's, where misspelt settings are looked for.

    Raises nothing for what is wrong with the product: that is a finding.
    """
    findings = list(machine.python())
    try:
        settings = load_settings()
    except InvalidSetting as error:
        findings.append(fault("settings", error.fault, error.remedy or "Correct it."))
        findings.extend(machine.unknown_variables(environment))
        return Diagnosis.of(findings)
    findings.append(ok("settings", f"valid; {settings.environment}"))
    findings.extend(machine.unknown_variables(environment))
    findings.extend(_guarded("data folder", lambda: machine.data_folder(settings)))
    findings.extend(_guarded("ports", lambda: machine.ports(settings)))
    findings.extend(_guarded("secrets", lambda: machine.secrets(settings)))
    findings.extend(_about_servers(settings))
    return Diagnosis.of(findings)


def _about_servers(settings: Settings) -> Iterator[Finding]:
    try:
        database = Database.from_settings(settings)
    except SicargaBoxError as error:
        yield fault("database", error.fault, error.remedy or "Correct the setting.")
        return
    try:
        usable = yield from sql.reachable(settings, database)
        if usable:
            yield from _guarded("database", lambda: sql.contents(database))
            yield from _guarded("connections", lambda: sql.capacity(settings, database))
        yield from _guarded("redis", lambda: redis.server(settings))
        if usable:
            yield from _guarded("workers", lambda: redis.processes(settings, database))
            yield from _guarded("dead letters", lambda: redis.dead_letters(database))
            yield from _guarded("search index", lambda: index.serving(settings, database))
    finally:
        database.dispose()


def _guarded(check: str, look: Check) -> Iterator[Finding]:
    try:
        yield from look()
    except SicargaBoxError as error:
        yield fault(check, error.fault, error.remedy or "Mend what the message names.")
    except (SQLAlchemyError, OSError) as error:
        yield fault(check, f"{type(error).__name__}: {str(error).splitlines()[0]}", "Mend what the message names.")
