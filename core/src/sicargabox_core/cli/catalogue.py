"""Commands that make and fill the database: `migrate`, `setup`, `import tariff`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sicargabox_core.cli.invocation import invocation
from sicargabox_core.cli.output import Json, print_json, print_table, say
from sicargabox_core.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from sicargabox_core.db import Database

imports = typer.Typer(no_args_is_help=True, help="Read official data into the database.")
_ROWS_SHOWN = 20
_LOOK_SECONDS = 0.5


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command("migrate")(migrate_database)
    app.command("setup")(set_up)
    app.add_typer(imports, name="import")


def migrate_database(
    ctx: typer.Context,
    only_wait: Annotated[
        float | None,
        typer.Option(
            help="Change nothing: wait at most so many seconds until another has brought the tables to this release."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Bring the database's tables to this release. Safe to repeat; a newer database is left alone.

    Lines whose courier category this release decides otherwise are changed, and a rebuild of the index is asked for.

    Example: SICARGABOX_DATABASE_URL=postgresql://me@host/sicargabox sicargabox migrate
    """
    from sicargabox_core.catalogue.courier import apply_rules
    from sicargabox_core.db import expected_schema_version, migrate

    database = invocation(ctx).unchecked_database
    if only_wait is not None:
        version = _wait_for_schema(database, only_wait)
        if json:
            print_json({"schema_version": version, "expected": expected_schema_version()})
        else:
            say(f"The database has schema version {version}.")
        return
    version = migrate(database)
    changed = apply_rules(database) if version == expected_schema_version() else 0
    if json:
        print_json({"schema_version": version, "expected": expected_schema_version(), "courier_changes": changed})
        return
    say(f"The database has schema version {version}.")
    if changed:
        lines = "1 line has" if changed == 1 else f"{changed:,} lines have"
        say(f"{lines} other courier rules now; a rebuild of the index is asked for.")


def set_up(
    ctx: typer.Context,
    administrator: Annotated[str, typer.Option(help="Name of the first administrator, where there is none.")] = "admin",
    password_file: Annotated[
        Path | None,
        typer.Option(help="File with that administrator's password; without it one is generated and shown."),
    ] = None,
    database_wait: Annotated[
        float, typer.Option(help="Wait at most so many seconds for a database that is still starting.")
    ] = 0.0,
    scaling_reader: Annotated[
        str | None,
        typer.Option(help="PostgreSQL role that may read how many tasks are due or running, for an autoscaler."),
    ] = None,
    json: Json = False,
) -> None:
    """Make what a new installation needs: tables, the starter catalogue, an administrator, a first index.

    Safe to repeat: only what is missing is made, and a newer release's database is left alone. It asks neither Redis
    nor the search engine; the index is built as soon as they are there.

    Example: sicargabox setup --administrator ana --password-file /run/secrets/ana
    """
    from sicargabox_core.db import expected_schema_version
    from sicargabox_core.laptop import first_use
    from sicargabox_core.tasks.scaling import let_read_load

    database = invocation(ctx).unchecked_database
    password = None if password_file is None else _password_in(password_file)
    _wait_for_database(database, database_wait)
    made = first_use.prepare(database, administrator, password)
    rebuild = None
    if made.schema == expected_schema_version():
        rebuild = first_use.rebuild_if_never_asked(database)
        if scaling_reader:
            let_read_load(database, scaling_reader)
    generated = made.password if password is None else None
    if json:
        print_json(
            {
                "schema_version": made.schema,
                "expected": expected_schema_version(),
                "lines": made.lines,
                "administrator": administrator if made.password else None,
                "password": generated,
                "rebuild": rebuild,
            }
        )
        return
    say(f"The database has schema version {made.schema}.")
    if made.lines:
        say(f"{made.lines:,} lines of the starter catalogue are loaded.")
    if made.password:
        shown = f"; the password, shown only this once: {generated}" if generated else ""
        say(f"{administrator} may sign in as admin{shown}.")
    if rebuild:
        say(f"A first index is asked for (task {rebuild}).")


def _password_in(file: Path) -> str:
    try:
        password = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{file} cannot be read", field="--password-file", remedy="Name a text file that this process may read."
        ) from error
    if not password:
        raise InvalidInput(f"{file} is empty", field="--password-file", remedy="Write the password into it.")
    return password


def _wait_for_database(database: Database, seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while True:
        try:
            database.ping()
        except Unavailable:
            if time.monotonic() >= give_up:
                raise
        else:
            return
        time.sleep(_LOOK_SECONDS)


def _wait_for_schema(database: Database, seconds: float) -> int:
    from sqlalchemy.exc import OperationalError

    from sicargabox_core.db import expected_schema_version, schema_version

    give_up = time.monotonic() + seconds
    expected, why = expected_schema_version(), ""
    while True:
        try:
            found = schema_version(database)
        except OperationalError:
            why = "the database does not answer"
        else:
            if found >= expected:
                return found
            why = f"the database has schema version {found}, and {expected} is needed"
        if time.monotonic() >= give_up:
            raise Unavailable(why, remedy="Run `sicargabox migrate`.")
        time.sleep(_LOOK_SECONDS)


@imports.command("tariff")
def import_tariff(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The official tariff as CSV.", exists=True, dir_okay=False)],
    english: Annotated[
        Path | None, typer.Option(help="English wording by HS code, as CSV.", exists=True, dir_okay=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would be done, and change nothing.")] = False,
    allow_retiring: Annotated[
        bool, typer.Option("--allow-retiring", help="Take a file that lacks more than a fifth of the catalogue.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write what became of every row, with the reason, to this CSV.")
    ] = None,
    json: Json = False,
) -> None:
    """Make the catalogue what the official tariff FILE says, in one transaction.

    A second import updates; lines that vanished are retired, not deleted. A file that is not such a table, or lacks
    more than a fifth of the catalogue, changes nothing and says so.

    Example: sicargabox import tariff arancel.csv --english hs.csv --report rows.csv
    """
    from sicargabox_core.catalogue import tariff_import

    here = invocation(ctx)
    done = tariff_import.import_tariff(
        here.database,
        file,
        english=english,
        dry_run=dry_run,
        allow_retiring=allow_retiring,
        by=here.principal,
        report_csv=report,
    )
    if json:
        print_json(done)
        return
    title = f"{file.name}{' (dry run: nothing was changed)' if dry_run else ''}, {done.seconds:.1f} s"
    print_table(("what", "rows"), done.counts.items(), title=title)
    if done.rows:
        shown = done.rows[:_ROWS_SHOWN]
        print_table(
            ("row", "code", "action", "reason"), [(row.row or None, row.code, row.action, row.reason) for row in shown]
        )
        left_out = len(done.rows) - len(shown) + done.rows_left_out
        if left_out:
            say(f"… and {left_out:,} more; --report FILE has every row.")
    if not dry_run and (done.made or done.changed or done.retired or done.revived):
        say("Search knows it after `sicargabox rebuild-index`.")
