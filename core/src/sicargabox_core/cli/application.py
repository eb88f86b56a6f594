"""The Typer application: which groups there are, the options of all, and how an error becomes a line and a code.

Further commands come from the entry-point group ``sicargabox.commands``: a function becomes a command, a Typer
application a group, under the entry point's name. That is how services add theirs without core knowing them.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from importlib.metadata import entry_points, version
from typing import Annotated, Any

import typer
from sqlalchemy.exc import DBAPIError, OperationalError
from typer.core import TyperGroup

from sicargabox_core.cli import accounts, catalogue, diagnosis, index, processes, quality, redis, search, tasks
from sicargabox_core.cli.invocation import Invocation, invocation
from sicargabox_core.cli.output import complain
from sicargabox_core.errors import DataFault, InvalidInput, SicargaBoxError, Unavailable

COMMANDS_GROUP = "sicargabox.commands"
EXIT_CODES = {
    0: "done",
    1: "it could not be done: something is not there, in the way or away, or the task did not succeed",
    2: "the input or a setting is wrong; the message names it and the remedy",
    130: "ended by Ctrl-C",
}
_EPILOG = (
    "Exit codes: "
    + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    + ". Settings are SICARGABOX_… variables; `sicargabox doctor` checks them."
)


class _Commands(TyperGroup):
    """Turns errors of our tree into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SicargaBoxError as error:
            raise _exit(ctx, error) from error
        except DBAPIError as error:
            raise _exit(ctx, _of_database(error)) from error


def _of_database(error: DBAPIError) -> SicargaBoxError:
    what = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if isinstance(error, OperationalError):
        return Unavailable(f"the database cannot do it now: {what}.", remedy="See `sicargabox doctor`.")
    return DataFault(f"the database refused: {what}.", remedy="See `sicargabox doctor`.")


def _exit(ctx: typer.Context, error: SicargaBoxError) -> typer.Exit:
    if isinstance(ctx.obj, Invocation) and ctx.obj.debug:
        complain("".join(traceback.format_exception(error)).rstrip())
    complain(f"Error: {error}")
    return typer.Exit(2 if isinstance(error, InvalidInput) else 1)


app = typer.Typer(
    name="sicargabox",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("sicargabox-core"))
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show log lines and, after an error, its traceback.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the release and end.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Find the right line of the customs tariff for what people say, and run the background work around it."""
    ctx.obj = Invocation(debug=debug)
    ctx.call_on_close(invocation(ctx).close)


for _module in (catalogue, search, quality, index, tasks, redis, accounts, processes, diagnosis):
    _module.register(app)


def _add_commands_of_services() -> None:
    for entry in sorted(entry_points(group=COMMANDS_GROUP), key=lambda one: one.name):
        command: typer.Typer | Callable[..., object]
        try:
            command = entry.load()
        except ImportError as error:
            # A service half installed must not take `migrate` and `doctor` away with it.
            command = _command_that_cannot_load(entry.name, error)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)


def _command_that_cannot_load(name: str, error: ImportError) -> Callable[[], None]:
    reason = str(error)

    def command() -> None:
        raise Unavailable(f"`{name}` cannot be loaded: {reason}.", remedy="Install its package whole.") from error

    command.__doc__ = f"Not available: {reason}."
    return command


_add_commands_of_services()


def main() -> None:
    """Runs the command line; ends the process with one of ``EXIT_CODES``."""
    app()
