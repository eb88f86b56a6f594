"""`setup` and `migrate --only-wait`: what an installation on a cluster runs at its start; `tasks start`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from core.tests.command_line.commands import CommandLine
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import ProgrammingError

from sicargabox_core.accounts.models import Role, User
from sicargabox_core.accounts.passwords import verify_password
from sicargabox_core.db import Database, expected_schema_version
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import NO_OP, REBUILD_INDEX, TASKS, NoOp, State
from sicargabox_core.tasks.scaling import LOAD_COLUMNS
from sicargabox_core.tasks.store import TaskView
from tests.servers.ports import wait_until

PASSWORD = "a long enough password"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    return file


def test_a_new_installation_gets_a_catalogue_an_administrator_and_an_index_to_be_built(
    line: CommandLine, password_file: Path
) -> None:
    made = line.json("setup", "--administrator", "ana", "--password-file", str(password_file))
    assert made["lines"] >= 600
    assert (made["administrator"], made["password"]) == ("ana", None)
    with line.database.read() as session:
        ana = session.scalars(select(User)).one()
        assert (ana.username, ana.role) == ("ana", Role.ADMIN)
        assert verify_password(ana.password_hash, PASSWORD)
        rebuild = store.get(session, made["rebuild"])
    assert (rebuild.name, rebuild.state) == (REBUILD_INDEX.name, State.PENDING)


def test_setting_up_again_changes_nothing(line: CommandLine, password_file: Path) -> None:
    line.json("setup", "--password-file", str(password_file))
    password_file.write_text("another long password")
    again = line.json("setup", "--password-file", str(password_file))
    assert (again["lines"], again["administrator"], again["rebuild"]) == (0, None, None)
    with line.database.read() as session:
        assert verify_password(session.scalars(select(User.password_hash)).one(), PASSWORD)


def test_a_password_never_shows_unless_it_was_generated(line: CommandLine, password_file: Path) -> None:
    assert PASSWORD not in line.run("setup", "--password-file", str(password_file)).output
    with line.database.write() as session:
        session.execute(text("DELETE FROM users"))
    generated = line.json("setup")["password"]
    with line.database.read() as session:
        assert verify_password(session.scalars(select(User.password_hash)).one(), generated)


def test_setting_up_leaves_a_newer_releases_database_alone(line: CommandLine, password_file: Path) -> None:
    with line.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    made = line.json("setup", "--password-file", str(password_file))
    assert (made["schema_version"], made["lines"], made["administrator"], made["rebuild"]) == (9999, 0, None, None)


@pytest.mark.parametrize("content", ["", "\n"])
def test_a_password_file_without_a_password_is_named(line: CommandLine, tmp_path: Path, content: str) -> None:
    (tmp_path / "empty").write_text(content)
    result = line.run("setup", "--password-file", str(tmp_path / "empty"))
    assert result.exit_code == 2
    assert "--password-file" in result.stderr


def test_waiting_ends_when_the_tables_are_there_and_gives_up_when_they_do_not_come(line: CommandLine) -> None:
    assert line.json("migrate", "--only-wait", "0")["schema_version"] == expected_schema_version()
    with line.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    result = line.run("migrate", "--only-wait", "0")
    assert result.exit_code == 1
    assert "schema version 1" in result.stderr
    with line.database.read() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == "0001"


def test_waiting_for_a_database_that_is_away_ends_in_time(line: CommandLine) -> None:
    nobody = "postgresql://nobody@127.0.0.1:1/none"
    for command in (("migrate", "--only-wait", "0.1"), ("setup", "--database-wait", "0.1")):
        result = line.run(*command, DATABASE_URL=nobody)
        assert result.exit_code == 1
        assert "does not answer" in result.stderr


def test_an_autoscalers_role_reads_how_much_there_is_to_do_and_nothing_else(postgres_url: str, tmp_path: Path) -> None:
    database = Database(postgres_url)
    line = CommandLine(database, tmp_path)
    role = f"scaler-{tmp_path.name}".replace('"', "")
    try:
        assert "no role" in line.run("setup", "--scaling-reader", role).stderr
        with database.write() as session:
            session.execute(text(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'scaler'"))
        assert line.run("setup", "--scaling-reader", role).exit_code == 0
        store.submit_alone(database, NO_OP, NoOp(note="secret"), initiated_by="user:ana")
        reader = create_engine(database.engine.url.set(username=role, password="scaler"))
        with reader.connect() as connection:
            found = connection.execute(text(f"SELECT {', '.join(LOAD_COLUMNS)} FROM tasks")).all()
            assert {row.queue for row in found} == {"elasticsearch", "celery"}
            for forbidden in ("SELECT payload FROM tasks", "SELECT * FROM users", "DELETE FROM tasks"):
                connection.rollback()
                with pytest.raises(ProgrammingError, match="permission denied"):
                    connection.execute(text(forbidden))
        reader.dispose()
    finally:
        with database.write() as session:
            if session.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).first():
                session.execute(text(f'DROP OWNED BY "{role}"'))
                session.execute(text(f'DROP ROLE "{role}"'))
        database.dispose()


def test_a_role_cannot_be_given_where_there_are_none(sqlite_url: str, tmp_path: Path) -> None:
    database = Database(sqlite_url)
    result = CommandLine(database, tmp_path).run("setup", "--scaling-reader", "scaler")
    assert result.exit_code == 2
    assert "PostgreSQL" in result.stderr
    database.dispose()


def test_a_started_task_is_accepted_and_not_waited_for(line: CommandLine) -> None:
    task = line.json("tasks", "start", NO_OP.name, "--payload", '{"note": "hello"}')
    assert (task["name"], task["state"], task["payload"]["note"]) == (NO_OP.name, "PENDING", "hello")


def test_waiting_for_a_task_that_no_worker_takes_ends_with_exit_code_1(line: CommandLine) -> None:
    result = line.run("tasks", "start", NO_OP.name, "--wait", "--timeout", "1")
    assert result.exit_code == 1
    assert "did not end within" in result.stderr


def test_a_task_that_was_waited_for_tells_its_result(line: CommandLine) -> None:
    def accepted() -> list[TaskView]:
        with line.database.read() as session:
            return list(store.list_tasks(session).items)

    def work() -> None:
        (task,) = wait_until(accepted, seconds=30, what="it is accepted")
        claim = store.claim(line.database, task.id, worker="w", lease_seconds=60, known=TASKS)
        assert claim is not None
        result = {"updated": 1, "deleted": 0, "unknown": 2, "unknown_codes": ["9999", "x"]}
        with line.database.write() as session:
            store.finish_success(session, claim.id, claim.attempt, result)

    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(work)
        payload = '{"codes": ["8517130000", "9999", "x"]}'
        told = line.run("tasks", "start", "search.update_lines", "--payload", payload, "--wait", "--timeout", "60")
        worker.result()
    assert told.exit_code == 0, told.stderr
    said = told.stdout.splitlines()[1:]
    assert said[0] == "SUCCESS"
    assert sorted(said[1:]) == ["  deleted: 0", "  unknown: 2", "  unknown_codes: 9999, x", "  updated: 1"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("sleep.well",), "NAME"),
        (("ai.generate_keywords_chunk",), "NAME"),
        ((NO_OP.name, "--payload", '{"note": 3}'), "--payload"),
        ((NO_OP.name, "--payload", "hello"), "--payload"),
    ],
)
def test_what_cannot_be_started_is_named(line: CommandLine, arguments: tuple[str, ...], names: str) -> None:
    result = line.run("tasks", "start", *arguments)
    assert result.exit_code == 2
    assert names in result.stderr
