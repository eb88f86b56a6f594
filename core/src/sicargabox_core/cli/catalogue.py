"""Commands that make and fill the database: `migrate`, `import tariff`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sicargabox_core.cli.invocation import invocation
from sicargabox_core.cli.output import Json, print_json, print_table, say

imports = typer.Typer(no_args_is_help=True, help="Read official data into the database.")
_ROWS_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command("migrate")(migrate_database)
    app.add_typer(imports, name="import")


def migrate_database(ctx: typer.Context, json: Json = False) -> None:
    """Bring the database's tables to this release. Safe to repeat; a newer database is left alone.

    Lines whose courier category this release decides otherwise are changed, and a rebuild of the index is asked for.

    Example: SICARGABOX_DATABASE_URL=postgresql://me@host/sicargabox sicargabox migrate
    """
    from sicargabox_core.catalogue.courier import apply_rules
    from sicargabox_core.db import expected_schema_version, migrate

    database = invocation(ctx).unchecked_database
    version = migrate(database)
    changed = apply_rules(database) if version == expected_schema_version() else 0
    if json:
        print_json({"schema_version": version, "expected": expected_schema_version(), "courier_changes": changed})
        return
    say(f"The database has schema version {version}.")
    if changed:
        lines = "1 line has" if changed == 1 else f"{changed:,} lines have"
        say(f"{lines} other courier rules now; a rebuild of the index is asked for.")


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
