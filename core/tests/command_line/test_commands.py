"""The command line does what it says, tells errors in one line, and gives programs JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import uuid_utils
from core.tests.catalogue.tables import row, write_table
from core.tests.command_line.commands import CommandLine
from sqlalchemy import insert, select, update

from sicargabox_core.accounts.models import AuditEntry, User
from sicargabox_core.accounts.passwords import verify_password
from sicargabox_core.accounts.tokens import authenticate
from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.catalogue.starter_catalogue import load_starter
from sicargabox_core.cli.application import EXIT_CODES, app
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import NO_OP, NoOp
from sicargabox_core.tasks.rows import tasks

PASSWORD = "a long enough password"


# --- errors and exit codes -------------------------------------------------------------------------------------------
def test_a_wrong_setting_is_one_line_and_exit_code_2(line: CommandLine) -> None:
    result = line.run("queues", PORT="many")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: SICARGABOX_PORT: ")
    assert result.stderr.count("\n") == 1


def test_wrong_input_is_one_line_and_exit_code_2(line: CommandLine) -> None:
    result = line.run("tasks", "list", "--state", "sleeping")
    assert result.exit_code == 2
    assert "SLEEPING" in result.stderr
    assert "Traceback" not in result.output


def test_what_is_not_there_is_exit_code_1(line: CommandLine) -> None:
    result = line.run("tasks", "show", "0123")
    assert result.exit_code == 1
    assert result.stderr == "Error: there is no task 0123. See `sicargabox tasks list`.\n"


def test_the_beginning_of_no_id_is_told_by_the_name_it_was_typed_under(line: CommandLine) -> None:
    result = line.run("tasks", "show", "nope")
    assert result.exit_code == 2
    assert result.stderr == "Error: ID: not the beginning of a task's id. See `sicargabox tasks list`.\n"


def test_debug_shows_the_traceback(line: CommandLine) -> None:
    assert "Traceback" in line.run("--debug", "tasks", "show", "0123").stderr


def test_a_database_without_tables_says_what_to_run(line: CommandLine, tmp_path: Path) -> None:
    result = line.run("users", "list", DATABASE_URL=f"sqlite:///{tmp_path / 'empty.db'}")
    assert result.exit_code == 1
    assert result.stderr == "Error: the database has no tables yet. Run `sicargabox migrate`.\n"


def test_a_database_that_is_away_is_one_line(line: CommandLine) -> None:
    result = line.run("users", "list", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the database does not answer")
    assert result.stderr.count("\n") == 1


def test_help_of_every_command_has_an_example_and_the_exit_codes_are_told(line: CommandLine) -> None:
    assert all(str(code) in line.run("--help").stdout for code in EXIT_CODES)
    names = [command.name or "" for command in app.registered_commands if command.name]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        names += [f"{group.name} {command.name}" for command in group.typer_instance.registered_commands]
    assert {"migrate", "import tariff", "rebuild-index", "search", "tasks cancel", "doctor", "run", "scheduler"} <= set(
        names
    )
    for name in names:
        shown = line.run(*name.split(), "--help").stdout
        assert "Example" in shown, name


# --- database and catalogue ------------------------------------------------------------------------------------------
def test_migrate_makes_the_tables_and_may_be_repeated(line: CommandLine, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'sicargabox.db'}"
    first = line.json("migrate", DATABASE_URL=url)
    assert first["schema_version"] == first["expected"] >= 1
    assert line.json("migrate", DATABASE_URL=url) == first


def test_migrate_applies_the_courier_rules_of_this_release_and_asks_for_a_rebuild(line: CommandLine) -> None:
    load_starter(line.database)
    assert line.json("migrate")["courier_changes"] == 0
    with line.database.write() as session:
        session.execute(update(TariffLine).where(TariffLine.code == "9302000000").values(courier_category="ALLOWED"))
    assert "1 line has other courier rules now; a rebuild" in line.run("migrate").stdout
    assert [task["name"] for task in line.json("tasks", "list")["items"]] == ["search.rebuild_index"]


def test_an_import_reports_what_it_did_and_a_dry_run_changes_nothing(line: CommandLine, tmp_path: Path) -> None:
    file = write_table(
        tmp_path / "tariff.csv", [row("8517", "TELEPHONES"), row("8517.13.00.00", "- Made-up telephones")]
    )
    dry = line.json("import", "tariff", str(file), "--dry-run")
    assert (dry["dry_run"], dry["read"], dry["declarable"]) == (True, 2, 1)
    rows = tmp_path / "rows.csv"
    real = line.json("import", "tariff", str(file), "--report", str(rows))
    assert real["made"] == dry["made"] > 0
    assert "8517130000" in rows.read_text()
    shown = line.run("import", "tariff", str(file)).stdout
    assert shown.startswith("tariff.csv, ")
    assert "unchanged" in shown
    assert "rebuild-index" not in shown
    assert "(dry run: nothing was changed), " in line.run("import", "tariff", str(file), "--dry-run").stdout


def test_a_file_that_is_no_tariff_is_exit_code_2_and_says_why(line: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    result = line.run("import", "tariff", str(path))
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: file: ")


def test_a_missing_file_is_exit_code_2(line: CommandLine, tmp_path: Path) -> None:
    assert line.run("import", "tariff", str(tmp_path / "none.csv")).exit_code == 2


def test_search_finds_a_line_without_an_index_and_says_that_it_had_none(line: CommandLine, tmp_path: Path) -> None:
    file = write_table(tmp_path / "tariff.csv", [row("6403", "FOOTWEAR"), row("6403.99.00.00", "- Zapatos inventados")])
    line.json("import", "tariff", str(file))
    answer = line.json("search", "zapatos")
    assert answer["degraded"] is True
    assert answer["results"]
    assert {"code", "display_code", "description", "path", "duties", "courier_category", "score", "reason"} <= answer[
        "results"
    ][0].keys()
    shown = line.run("search", "zapatos", "--limit", "3")
    assert answer["results"][0]["display_code"] in shown.stdout
    assert "rebuild-index" in shown.stderr


def test_a_vague_word_is_asked_about_below_what_was_found(line: CommandLine) -> None:
    shown = line.run("search", "accesorios").stdout
    assert "¿De qué es el accesorio?" in shown
    assert "Celular: sicargabox search accesorios para celular" in shown
    assert line.json("search", "accesorios")["guidance"]["about"] == "accesorios"


# --- tasks -----------------------------------------------------------------------------------------------------------
def _submit(line: CommandLine, note: str = "") -> str:
    with line.database.write() as session:
        return store.submit(session, NO_OP, NoOp(note=note), initiated_by="user:ana").task.id


def test_a_rebuild_is_accepted_without_redis_and_says_who_asked(line: CommandLine) -> None:
    task = line.json("rebuild-index", "--no-wait")
    assert (task["name"], task["state"], task["initiated_by"]) == ("search.rebuild_index", "PENDING", "cli:tester")
    assert "already asked for by cli:tester" in line.run("rebuild-index", "--no-wait").stdout


def test_waiting_for_a_rebuild_that_nobody_does_ends_with_exit_code_1(line: CommandLine) -> None:
    result = line.run("rebuild-index", "--timeout", "1")
    assert result.exit_code == 1
    assert "Redis does not answer; the task is safe" in result.stderr
    assert "did not end within 1 s" in result.stderr


def test_ctrl_c_ends_the_waiting_and_not_the_task(line: CommandLine) -> None:
    program = str(Path(sys.executable).with_name("sicargabox"))
    environment = {f"SICARGABOX_{name}": value for name, value in line.environment.items()}
    with subprocess.Popen(
        [program, "rebuild-index"],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert "the task is safe" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
        finally:
            process.kill()  # One that took no notice would be waited for without end.
    assert process.returncode == 130
    task = line.json("tasks", "list")["items"][0]
    assert f"sicargabox tasks show {task['id']}" in rest
    assert task["state"] == "PENDING"


def test_tasks_are_listed_page_by_page(line: CommandLine) -> None:
    ids = [_submit(line, str(number)) for number in range(3)]
    first = line.json("tasks", "list", "--limit", "2")
    rest = line.json("tasks", "list", "--limit", "2", "--before", first["next_cursor"])
    assert [task["id"] for task in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next_cursor"] is None
    assert line.json("tasks", "list", "--state", "success")["items"] == []
    assert ids[0] in line.run("tasks", "list").stdout


def test_a_task_is_found_by_the_beginning_of_its_id_if_that_is_its_alone(line: CommandLine) -> None:
    one, other = _submit(line), _submit(line)
    shared = next(length for length in range(1, 37) if one[:length] != other[:length])
    assert line.json("tasks", "show", one[: shared + 4])["id"] == one
    result = line.run("tasks", "show", one[: shared - 1])
    assert result.exit_code == 2
    assert "several tasks begin with" in result.stderr


def test_cancelling_says_what_became_of_it(line: CommandLine) -> None:
    task_id = _submit(line)
    assert line.json("tasks", "cancel", task_id) == {
        "id": task_id,
        "state": "REVOKED",
        "revoked": True,
        "requested": False,
    }
    again = line.run("tasks", "cancel", task_id)
    assert again.exit_code == 1
    assert "had already ended as REVOKED" in again.stderr


def test_a_retry_is_a_new_task(line: CommandLine) -> None:
    task_id = _submit(line, "again")
    line.json("tasks", "cancel", task_id)
    repeated = line.json("tasks", "retry", task_id)
    assert repeated["id"] != task_id
    assert (repeated["retried_from"], repeated["initiated_by"]) == (task_id, "cli:tester")


def _failed(line: CommandLine, count: int) -> list[str]:
    """A rebuild and no-ops that failed."""
    ids = [line.json("rebuild-index", "--no-wait")["id"]]
    with line.database.write() as session:
        ended = {"state": "FAILURE", "error_code": "unavailable", "exclusive_key": None}
        session.execute(update(tasks).values(finished_at=tasks.c.created_at, **ended))
        row = dict(session.execute(select(*tasks.c)).one()._mapping) | {"name": NO_OP.name, "queue": NO_OP.queue.value}
        for _ in range(count - 1):
            ids.append(str(uuid_utils.uuid7()))
            session.execute(insert(tasks).values(**row | {"id": ids[-1]}))
    return ids


def test_dead_letters_are_listed_and_repeated_by_choice_after_a_yes(line: CommandLine) -> None:
    rebuild, *others = _failed(line, 3)
    listed = line.json("tasks", "dead", "--since", "1h", "--error", "unavailable")["items"]
    assert {task["id"] for task in listed} == {rebuild, *others}
    assert line.json("tasks", "dead", "--until", "2h")["items"] == []

    chosen = ("tasks", "retry", "--state", "FAILURE", "--name", "housekeeping.no_op")
    assert line.run(*chosen, stdin="n\n").exit_code == 1
    assert len(line.json("tasks", "dead")["items"]) == 3
    assert set(line.json(*chosen, "--yes")["repeated"]) == set(others)
    assert [task["id"] for task in line.json("tasks", "dead")["items"]] == [rebuild]


def test_what_cannot_be_repeated_is_named_with_exit_code_1(line: CommandLine) -> None:
    (rebuild,) = _failed(line, 1)
    running = line.json("rebuild-index", "--no-wait")["id"]
    result = line.run("tasks", "retry", "--state", "FAILURE", "--yes")
    assert result.exit_code == 1
    assert f"{rebuild}" in result.output
    assert running in result.output


@pytest.mark.parametrize(
    "arguments",
    [(), ("--state", "SUCCESS"), ("0192f0c1", "--state", "FAILURE"), ("--state", "FAILURE", "--since", "x")],
)
def test_a_retry_that_is_not_clear_repeats_nothing(line: CommandLine, arguments: tuple[str, ...]) -> None:
    _failed(line, 1)
    assert line.run("tasks", "retry", *arguments, "--yes").exit_code == 2
    assert len(line.json("tasks", "dead")["items"]) == 1


def test_capacity_without_redis_is_what_was_recorded_and_says_so(line: CommandLine) -> None:
    result = line.run("redis", "capacity")
    assert result.exit_code == 0
    assert "recorded on 2026-11-23" in result.output
    assert line.run("redis", "show").exit_code == 1


def test_queues_are_known_without_redis_except_for_workers(line: CommandLine) -> None:
    _submit(line)
    figures = {one["queue"]: one for one in line.json("queues")}
    assert figures["celery"]["waiting"] == 1
    assert figures["celery"]["workers"] is None
    assert "Redis does not answer" in line.run("queues").stderr


# --- people and programs ---------------------------------------------------------------------------------------------
def test_a_user_is_made_with_a_password_from_stdin_and_the_trail_says_by_whom(line: CommandLine) -> None:
    made = line.json("users", "create", "Ana", "--role", "reviewer", "--password-stdin", stdin=PASSWORD + "\n")
    assert made == {"username": "ana", "role": "reviewer"}
    with line.database.read() as session:
        user = session.scalars(select(User)).one()
        assert verify_password(user.password_hash, PASSWORD)
        assert session.scalars(select(AuditEntry.actor)).all() == ["cli:tester"]
    assert [user["username"] for user in line.json("users", "list")] == ["ana"]


def test_a_password_is_not_asked_for_where_nobody_can_type(line: CommandLine) -> None:
    result = line.run("users", "create", "ana", stdin="")
    assert result.exit_code == 2
    assert "--password-stdin" in result.stderr


def test_a_weak_password_is_refused_with_its_remedy(line: CommandLine) -> None:
    result = line.run("users", "create", "ana", "--password-stdin", stdin="123\n")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: password: ")


def test_role_password_and_lock_of_a_user_change(line: CommandLine) -> None:
    for name in ("ana", "bea"):
        line.json("users", "create", name, "--role", "admin", "--password-stdin", stdin=PASSWORD + "\n")
    assert line.json("users", "role", "ana", "viewer") == {"username": "ana", "role": "viewer"}
    last = line.run("users", "role", "bea", "viewer")
    assert last.exit_code == 1
    assert "last administrator" in last.stderr
    line.json("users", "password", "ana", "--password-stdin", stdin="another long password\n")
    line.json("users", "disable", "ana")
    users = {user["username"]: user for user in line.json("users", "list")}
    assert users["ana"]["disabled_at"] is not None
    assert users["bea"]["disabled_at"] is None
    assert line.json("users", "enable", "ana") == {"username": "ana", "disabled": False}
    assert {user["username"]: user["disabled_at"] for user in line.json("users", "list")}["ana"] is None
    assert line.run("users", "role", "ana", "emperor").exit_code == 2


def test_a_token_is_shown_once_works_and_is_revoked(line: CommandLine) -> None:
    made = line.json("tokens", "create", "scanner", "--scope", "tasks", "--scope", "search", "--role", "operator")
    assert made["scopes"] == ["search", "tasks"]
    principal = authenticate(line.database, made["token"])
    assert principal is not None
    assert principal.name == "token:scanner"
    listed = line.run("tokens", "list", "--json").stdout
    assert made["token"] not in listed
    assert json.loads(listed)[0]["name"] == "scanner"
    line.json("tokens", "revoke", "scanner")
    assert authenticate(line.database, made["token"]) is None


@pytest.mark.parametrize("scopes", [[], ["--scope", "everything"]])
def test_a_token_needs_scopes_that_exist(line: CommandLine, scopes: list[str]) -> None:
    assert line.run("tokens", "create", "scanner", *scopes).exit_code == 2
