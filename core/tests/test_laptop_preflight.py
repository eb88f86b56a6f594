"""What would keep `sicargabox run` from working is told in one line that names the variable and the remedy."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sicargabox_core.errors import InvalidSetting
from sicargabox_core.laptop import preflight
from sicargabox_core.laptop.folders import Folders, kept_secret
from sicargabox_core.laptop.processes import configure, environment, programs
from sicargabox_core.settings import Settings
from tests.servers.ports import free_ports_in_a_row


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    # Workers and scheduler listen on the four from the tenth above it.
    first = free_ports_in_a_row(17)
    return Settings(
        data_dir=tmp_path / "data",
        port=first,
        admin_port=first + 14,
        flower_port=first + 15,
        redis_port=first + 16,
    )


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def _changed(settings: Settings, **values: object) -> Settings:
    return settings.model_copy(update=values)


def test_free_ports_and_a_writable_folder_pass(settings: Settings) -> None:
    preflight.check_folder(settings)
    preflight.check(settings)


@pytest.mark.parametrize("name", ["port", "admin_port", "flower_port", "redis_port"])
def test_a_taken_port_names_its_variable_and_a_free_one(settings: Settings, taken_port: int, name: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        preflight.check(_changed(settings, **{name: taken_port}))
    line = str(caught.value)
    assert line.startswith(f"SICARGABOX_{name.upper()}: port {taken_port} is taken")
    assert f"SICARGABOX_{name.upper()}=" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("name", "value"), [("redis_url", "http://redis"), ("redis_url", "redis://h/1"), ("search_url", "search:9200")]
)
def test_an_address_that_no_process_could_use_is_refused_before_any_starts(
    settings: Settings, name: str, value: str
) -> None:
    with pytest.raises(InvalidSetting, match=f"SICARGABOX_{name.upper()}: "):
        preflight.check(_changed(settings, **{name: value}))


def test_two_processes_may_not_share_a_port(settings: Settings) -> None:
    with pytest.raises(InvalidSetting, match="is also SICARGABOX_PORT"):
        preflight.check(_changed(settings, admin_port=settings.port))


def test_an_address_of_another_machine_is_refused(settings: Settings) -> None:
    with pytest.raises(InvalidSetting, match="^SICARGABOX_HOST: cannot listen on 192.0.2.1"):
        preflight.check(_changed(settings, host="192.0.2.1"))


def test_a_data_folder_that_is_a_file_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSetting, match="^SICARGABOX_DATA_DIR: .* cannot be written"):
        preflight.check_folder(_changed(settings, data_dir=tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_data_folder_without_permission_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InvalidSetting, match="^SICARGABOX_DATA_DIR: .* cannot be written"):
        preflight.check_folder(_changed(settings, data_dir=tmp_path / "locked" / "data"))


def test_a_redis_server_that_is_no_program_is_refused(settings: Settings) -> None:
    with pytest.raises(InvalidSetting, match="^SICARGABOX_REDIS_SERVER: /nowhere/redis-server is not a program"):
        preflight.check(_changed(settings, redis_server="/nowhere/redis-server"))


def test_a_redis_server_named_in_the_settings_is_used(settings: Settings) -> None:
    command = _command(_changed(settings, redis_server=sys.executable), "redis")
    assert command[0] == sys.executable


def test_no_redis_is_started_when_the_settings_name_one(settings: Settings, taken_port: int) -> None:
    elsewhere = _changed(settings, redis_url="redis://db.example.net:6379", redis_port=taken_port)
    preflight.check_folder(elsewhere)
    preflight.check(elsewhere)
    assert "redis" not in [program.name for program in programs(elsewhere, Folders.of(elsewhere.data_dir))]


def test_redis_starts_before_everything_that_needs_it(settings: Settings) -> None:
    first, *others = programs(settings, Folders.of(settings.data_dir))
    assert first.name == "redis"
    assert first.server
    assert not any(program.server for program in others)


def test_secrets_stand_in_private_files_and_on_no_command_line(settings: Settings) -> None:
    secret = "a secret \" with 'quotes' and ñ"
    settings = Settings(**{**settings.model_dump(), "redis_password": secret})
    folders = Folders.of(settings.data_dir)
    folders.make()
    configure(settings, folders)
    flower = kept_secret(folders.run / "flower-password")
    lines = [" ".join(program.command) for program in programs(settings, folders)]
    assert not any(secret in line or flower in line for line in lines)
    assert flower in (folders.run / "flower.py").read_text()
    assert [path.name for path in folders.run.iterdir() if path.is_file() and path.stat().st_mode & 0o077] == []


def test_a_kept_secret_is_the_same_at_the_next_start(tmp_path: Path) -> None:
    assert kept_secret(tmp_path / "secret") == kept_secret(tmp_path / "secret")


def test_every_process_finds_the_data_folder_from_wherever_it_starts(settings: Settings) -> None:
    passed = environment(_changed(settings, data_dir=Path("relative")), {"OTHER": "kept"})
    assert passed["SICARGABOX_DATA_DIR"] == str(Path("relative").absolute())
    assert passed["OTHER"] == "kept"


def test_each_worker_counts_and_listens_in_a_place_of_its_own(settings: Settings) -> None:
    settings = _changed(settings, worker_port=9100)
    made = [program for program in programs(settings, Folders.of(settings.data_dir)) if "-worker" in program.name]
    assert len({program.environment["PROMETHEUS_MULTIPROC_DIR"] for program in made}) == len(made) == 3
    assert [program.environment["SICARGABOX_WORKER_PORT"] for program in made] == ["9101", "9102", "9103"]


def _command(settings: Settings, name: str) -> tuple[str, ...]:
    made = programs(settings, Folders.of(settings.data_dir))
    return next(program.command for program in made if program.name == name)


def test_workers_serve_their_figures_without_being_told_where(settings: Settings) -> None:
    made = {program.name: program.environment for program in programs(settings, Folders.of(settings.data_dir))}
    first = settings.port + 10
    listening = [made[name]["SICARGABOX_WORKER_PORT"] for name in ("scheduler", "indexer-worker", "ai-worker")]
    assert listening == [str(first), str(first + 1), str(first + 2)]


def test_a_taken_port_of_a_worker_names_the_variable_that_moves_them_all(settings: Settings, taken_port: int) -> None:
    with pytest.raises(InvalidSetting) as caught:
        preflight.check(_changed(settings, worker_port=taken_port - 2))
    # Another program may have taken one of the two before it.
    assert re.match(r"SICARGABOX_WORKER_PORT: port \d+ is taken", str(caught.value))
