"""The command `doctor`."""

from __future__ import annotations

import os

import typer

from sicargabox_core.cli.output import Json, print_json, print_table, say


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command("doctor")(doctor)


def doctor(json: Json = False) -> None:
    """Check every dependency and setting, and say what is wrong and how to mend it. It changes nothing.

    Exit code 0: no fault (there may be warnings); 1: at least one fault.

    Example: sicargabox doctor --json
    """
    from sicargabox_core.doctor.diagnosis import diagnose
    from sicargabox_core.doctor.findings import Status

    diagnosis = diagnose(os.environ)
    if json:
        print_json(diagnosis)
    else:
        print_table(
            ("", "check", "how it is", "what to do"),
            [(one.status.upper(), one.check, one.detail, one.remedy) for one in diagnosis.findings],
        )
        faults = sum(one.status is Status.FAULT for one in diagnosis.findings)
        say("No fault." if diagnosis.ok else f"{faults} {'fault' if faults == 1 else 'faults'}.")
    if not diagnosis.ok:
        raise typer.Exit(1)
