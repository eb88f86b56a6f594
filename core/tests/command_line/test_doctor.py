"""The doctor names what is wrong and the remedy, changes nothing, and never falls over what it examines."""

from __future__ import annotations

import json
import socket
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from core.tests.catalogue.tables import row, write_table
from core.tests.command_line.commands import CommandLine
from sqlalchemy import text

from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.users import create_user
from sicargabox_core.catalogue.tariff_import import import_tariff
from sicargabox_core.db import Database
from sicargabox_core.laptop.folders import Folders
from sicargabox_core.laptop.supervision import only_one
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.search.documents import iter_documents
from sicargabox_core.search.service import make_engine
from sicargabox_core.settings import Settings, load_settings
from sicargabox_core.tasks.contracts import Queue
from sicargabox_core.tasks.presence import Presence, tell, tell_of_scheduler
from tests.servers.ports import free_port, free_ports_in_a_row
from tests.servers.valkey import ValkeyServer

Findings = dict[str, dict[str, Any]]


def _diagnosis(line: CommandLine, **changes: str) -> tuple[int, Findings]:
    result = line.run("doctor", "--json", **changes)
    answer = json.loads(result.stdout)
    assert answer["ok"] is (result.exit_code == 0)
    findings: Findings = {}
    order = ["ok", "unknown", "warning", "fault"]
    for one in answer["findings"]:
        worse = one["check"] not in findings or order.index(one["status"]) > order.index(
            findings[one["check"]]["status"]
        )
        if worse:
            findings[one["check"]] = one
        assert one["status"] in ("ok", "unknown") or one["remedy"], one
    return result.exit_code, findings


@pytest.fixture
def installed(line: CommandLine, private_valkey: ValkeyServer, tmp_path: Path) -> CommandLine:
    """A whole small installation; workers and the scheduler have just said that they live."""
    line.environment["REDIS_URL"] = private_valkey.url
    for name in ("PORT", "ADMIN_PORT", "FLOWER_PORT"):
        line.environment[name] = str(free_port())
    line.environment["WORKER_PORT"] = str(free_ports_in_a_row(4))
    settings = _settings(line)
    file = write_table(
        tmp_path / "tariff.csv", [row("8517", "TELEPHONES"), row("8517.13.00.00", "- Made-up telephones")]
    )
    import_tariff(line.database, file, by="test")
    with line.database.write() as session:
        create_user(session, "ana", "a long enough password", Role.ADMIN, by="test")
    with line.database.read() as session:
        make_engine(settings).rebuild(
            iter_documents(session), generation="test.1", on_progress=lambda _n: None, publish=nullcontext
        )
    with connect(settings, Db.BROKER) as client:
        tell(client, Presence("all@test", tuple(Queue), 1))
        tell_of_scheduler(client, datetime.now(UTC))
    return line


def _settings(line: CommandLine) -> Settings:
    return load_settings(**{name.lower(): value for name, value in line.environment.items()})


def test_a_sound_installation_has_no_fault(installed: CommandLine) -> None:
    code, findings = _diagnosis(installed)
    found = {name: one["detail"] for name, one in findings.items() if one["status"] != "ok"}
    if not installed.database.is_sqlite:
        # The suite's own cluster never waits for the disk.
        assert "fsync=off" in found.pop("durability")
    assert found == {}
    assert code == (0 if installed.database.is_sqlite else 1)
    assert ("No fault." if installed.database.is_sqlite else "1 fault.") in installed.run("doctor").stdout


def test_an_empty_machine_is_told_what_to_run_and_nothing_is_made(line: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "nothing"
    code, findings = _diagnosis(line, DATA_DIR=str(folder), DATABASE_URL="", REDIS_URL="", REDIS_PORT=str(free_port()))
    assert code == 1
    assert "sicargabox migrate" in findings["database"]["remedy"]
    assert findings["redis"]["remedy"] == "Start `sicargabox run`."
    assert not folder.exists()


def test_an_embedded_redis_that_refuses_is_not_told_to_be_started_again(line: CommandLine, tmp_path: Path) -> None:
    folders = Folders.of(tmp_path)
    folders.make()
    with only_one(folders):
        _, findings = _diagnosis(line, REDIS_URL="", REDIS_PORT=str(free_port()))
    assert "SICARGABOX_REDIS_PASSWORD" in findings["redis"]["remedy"]


def test_a_wrong_setting_is_a_finding_and_misspelt_ones_are_found_all_the_same(line: CommandLine) -> None:
    code, findings = _diagnosis(line, PORT="many", DATABSE_URL="x")
    assert code == 1
    assert findings["settings"]["detail"].startswith("SICARGABOX_PORT: ")
    assert findings["settings"]["remedy"] not in findings["settings"]["detail"], "told once"
    assert findings["variables"]["remedy"] == "Did you mean SICARGABOX_DATABASE_URL?"


def test_a_database_that_is_away_or_old_is_a_fault(line: CommandLine, tmp_path: Path) -> None:
    away = _diagnosis(line, DATABASE_URL="postgresql://me:hush@127.0.0.1:1/none")[1]
    assert away["database"]["status"] == "fault"
    assert "hush" not in str(away)
    old = tmp_path / "old.db"
    Database(f"sqlite:///{old}").ping()
    found = _diagnosis(line, DATABASE_URL=f"sqlite:///{old}")[1]
    assert found["schema"]["remedy"] == "Run `sicargabox migrate`."


def test_without_redis_workers_are_unknown_rather_than_wrong(line: CommandLine) -> None:
    findings = _diagnosis(line)[1]
    assert findings["redis"]["status"] == "fault"
    assert findings["scheduler"]["status"] == findings["queue celery"]["status"] == "unknown"


def test_an_empty_database_lacks_catalogue_administrator_and_index(line: CommandLine) -> None:
    findings = _diagnosis(line)[1]
    assert {findings[name]["status"] for name in ("catalogue", "administrator", "search index")} == {"fault"}


def test_silent_workers_are_a_warning_until_something_waits(installed: CommandLine) -> None:
    with connect(_settings(installed), Db.BROKER) as client:
        client.flushdb()
    findings = _diagnosis(installed)[1]
    assert findings["queue elasticsearch"]["status"] == "warning"
    assert findings["scheduler"]["status"] == "fault"
    installed.json("rebuild-index", "--no-wait")
    assert _diagnosis(installed)[1]["queue elasticsearch"]["status"] == "fault"


@pytest.mark.parametrize(
    ("name", "value", "check", "status"),
    [
        ("maxmemory-policy", "allkeys-lru", "redis policy", "fault"),
        ("maxmemory-policy", "noeviction", "redis policy", "warning"),
        ("maxmemory", "0", "redis memory", "warning"),
        ("appendonly", "no", "redis persistence", "warning"),
    ],
)
def test_redis_settings_that_lose_or_grow_are_found(
    installed: CommandLine, name: str, value: str, check: str, status: str
) -> None:
    with connect(_settings(installed), Db.BROKER) as client:
        client.config_set(name, value)
    found = _diagnosis(installed)[1][check]
    assert (found["status"], bool(found["remedy"])) == (status, True)


def test_an_index_with_other_lines_than_the_database_is_a_warning(installed: CommandLine) -> None:
    with installed.database.write() as session:
        session.execute(
            text(
                "UPDATE tariff_lines SET declarable = false WHERE code IN"
                " (SELECT code FROM tariff_lines WHERE declarable = true LIMIT 1)"
            )
        )
    assert _diagnosis(installed)[1]["search index"]["remedy"] == "Run `sicargabox rebuild-index`."


def test_a_secret_others_can_read_is_a_fault(installed: CommandLine) -> None:
    key = Path(installed.environment["DATA_DIR"]) / "secret.key"
    key.write_text("00")
    key.chmod(0o644)
    found = _diagnosis(installed)[1]["secrets"]
    assert (found["status"], found["remedy"]) == ("fault", f"chmod 600 {key}")


def test_a_port_of_another_program_is_a_fault(installed: CommandLine) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert _diagnosis(installed, PORT=port)[1][f"port {port}"]["status"] == "fault"


def test_a_data_folder_that_cannot_be_is_a_fault(line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = _diagnosis(line, DATA_DIR=str(tmp_path / "file" / "data"))[1]["data folder"]
    assert (found["status"], "SICARGABOX_DATA_DIR" in found["remedy"]) == ("fault", True)


def test_postgres_that_acknowledges_before_it_writes_is_a_fault(line: CommandLine, postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.write() as session:
        name = session.execute(text("SELECT current_database()")).scalar_one()
        session.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
    database.dispose()
    found = _diagnosis(line, DATABASE_URL=postgres_url)[1]["durability"]
    assert found["status"] == "fault"
    assert "synchronous_commit=off" in found["detail"]


def test_a_postgres_with_too_few_connections_for_the_installation_is_a_fault(
    line: CommandLine, postgres_url: str
) -> None:
    assert _diagnosis(line, DATABASE_URL=postgres_url)[1]["connections"]["status"] == "ok"
    found = _diagnosis(line, DATABASE_URL=postgres_url, DATABASE_POOL_SIZE="150")[1]["connections"]
    assert found["status"] == "fault"
    assert "2 x 150" in found["detail"]


def test_variables_of_the_test_suite_are_no_misspelt_settings(line: CommandLine) -> None:
    assert _diagnosis(line, TEST_TARIFF_CSV="x")[1]["variables"]["status"] == "ok"
