"""What `sicargabox run` promises about processes, shown with a real supervisord and small programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sicargabox_core.errors import InvalidSetting
from sicargabox_core.laptop.folders import Folders
from sicargabox_core.laptop.processes import Program
from sicargabox_core.laptop.supervision import ProgramState, Supervision, on_leash, only_one
from tests.servers.ports import wait_until

# Shows by a file that it can be asked to end; ends after a given time and notes that.
_PROGRAM = """
import os, pathlib, signal, sys, time
def end(*_):
    time.sleep(float(sys.argv[2]))
    with open(sys.argv[1], "a") as notes: notes.write(sys.argv[3] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).with_name(f"up-{os.getpid()}").touch()
while True: time.sleep(60)
"""


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    folders = Folders.of(tmp_path / "data")
    folders.make()
    return folders


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def supervision(folders: Folders, notes: Path) -> Iterator[Supervision]:
    supervision = Supervision(folders, _programs(notes), os.environ)
    supervision.start(servers_ready=lambda: None)
    _running(supervision, notes)
    yield supervision
    supervision.stop()


def _programs(notes: Path) -> list[Program]:
    program = notes.with_name("program.py")
    program.write_text(_PROGRAM)

    def command(name: str, seconds: float) -> tuple[str, ...]:
        return (sys.executable, "-S", str(program), str(notes), str(seconds), name)

    return [
        Program("redis", command("redis", 0), server=True),
        Program("quick", command("quick", 0)),
        Program("slow", command("slow", 0.5)),
    ]


def _running(supervision: Supervision, notes: Path) -> dict[str, ProgramState]:
    def all_up() -> dict[str, ProgramState]:
        states = {state.name: state for state in supervision.states() or []}
        up = all(notes.with_name(f"up-{state.pid}").exists() for state in states.values())
        return states if len(states) == 3 and up else {}

    return wait_until(all_up, seconds=20, what="all programs run")


def _gone(pids: list[int]) -> None:
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), seconds=20, what=f"{pids} have ended")


@pytest.mark.parametrize("name", ["redis", "quick"])
def test_a_killed_program_is_started_again(supervision: Supervision, notes: Path, name: str) -> None:
    before = _running(supervision, notes)[name]
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: _running(supervision, notes)[name].pid != before.pid, seconds=20, what=f"{name} is back")


def test_stopping_lets_every_program_end_by_itself_and_the_servers_last(supervision: Supervision, notes: Path) -> None:
    pids = [state.pid for state in _running(supervision, notes).values()]
    supervision.stop()
    assert notes.read_text().split() == ["quick", "slow", "redis"]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_the_other_programs_wait_until_the_servers_are_ready(folders: Folders, notes: Path) -> None:
    supervision = Supervision(folders, _programs(notes), os.environ)
    seen: dict[str, str] = {}
    try:
        supervision.start(
            servers_ready=lambda: seen.update({state.name: state.state for state in supervision.states() or []})
        )
        _running(supervision, notes)
    finally:
        supervision.stop()
    assert seen["redis"] in ("STARTING", "RUNNING")
    assert seen["quick"] == seen["slow"] == "STOPPED"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_killed_supervisor_leaves_no_orphans(supervision: Supervision, notes: Path) -> None:
    pids = [state.pid for state in _running(supervision, notes).values()]
    assert supervision.pid is not None
    os.kill(supervision.pid, signal.SIGKILL)
    _gone(pids)
    assert supervision.left_traces


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_killed_foreground_command_leaves_no_orphans(tmp_path: Path) -> None:
    child = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    sleeper = on_leash(sys.executable, "-S", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    with subprocess.Popen([sys.executable, "-S", "-c", child, *sleeper], stdout=subprocess.PIPE) as foreground:
        assert foreground.stdout is not None
        pid = int(foreground.stdout.readline())
        foreground.kill()
        _gone([pid])


def test_what_an_earlier_run_left_is_ended_before_a_new_start(
    supervision: Supervision, folders: Folders, notes: Path
) -> None:
    pids = [state.pid for state in _running(supervision, notes).values()]
    Supervision(folders, [], {}).end_previous()
    _gone(pids)


def test_a_deep_data_folder_still_gets_a_control_socket(tmp_path: Path, notes: Path) -> None:
    folders = Folders.of(tmp_path / ("d" * 60) / ("e" * 60))
    folders.make()
    supervision = Supervision(folders, _programs(notes), os.environ)
    try:
        supervision.start(servers_ready=lambda: None)
        assert _running(supervision, notes)
        assert (folders.run / "supervisor.sock").is_socket()
        assert folders.run.stat().st_mode & 0o077 == 0
    finally:
        supervision.stop()


def test_a_data_folder_is_used_by_one_command_at_a_time(folders: Folders) -> None:
    with only_one(folders), pytest.raises(InvalidSetting, match=f"process {os.getpid()}"), only_one(folders):
        pass
