"""How the command line shows things: JSON for programs, tables for people, complaints on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs; its names are stable.")]

# Into a pipe Rich would fold at 80 columns and cut ids in two.
_PIPE_COLUMNS = 200


def console(*, stderr: bool = False) -> Console:
    """Where text for people goes; made anew at each call, so that it follows a redirected stream."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, highlight=False, markup=False, soft_wrap=True, width=None if stream.isatty() else _PIPE_COLUMNS
    )


def print_json(value: Any) -> None:
    """``value`` (dataclasses, models, times, enumerations, …) as indented JSON."""
    typer.echo(to_json(value, indent=2).decode())


def say(text: str) -> None:
    """One line for people."""
    console().print(text)


def complain(text: str) -> None:
    """Text on stderr."""
    console(stderr=True).print(text)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]], *, title: str | None = None) -> None:
    """A table for people. Numbers are set right, None is empty; texts are shown as they are, never as markup."""
    body = [[_cell(value) for value in row] for row in rows]
    if title:
        # A table folds its title to its own width.
        say(title)
    table = Table(header_style="bold", show_edge=False, pad_edge=False)
    for number, name in enumerate(columns):
        right = bool(body) and all(row[number].justify == "right" for row in body)
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in body:
        table.add_row(*row)
    Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS).print(table)


def _cell(value: object) -> Text:
    if value is None:
        return Text("")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, int | float):
        return Text(f"{value:,}" if isinstance(value, int) else f"{value:,.1f}", justify="right")
    return Text(str(value))


def moment(value: datetime | None, timezone: str) -> str | None:
    """A time for people, in the zone of the settings."""
    return None if value is None else f"{value.astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M:%S}"
