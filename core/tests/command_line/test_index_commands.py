"""What operators type about the search index."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from core.tests.command_line.commands import CommandLine

from sicargabox_core.catalogue.starter_catalogue import load_starter
from sicargabox_core.search import indexing
from sicargabox_core.search.engine import SearchEngine
from sicargabox_core.search.service import make_engine
from sicargabox_core.settings import load_settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import TASKS
from tests.servers.ports import free_port


def _build_index(line: CommandLine, tmp_path: Path, generation: str = "first") -> SearchEngine:
    load_starter(line.database)
    engine = make_engine(load_settings(data_dir=tmp_path))
    indexing.rebuild(
        line.database, engine, generation=generation, on_step=lambda *_: None, publish=contextlib.nullcontext
    )
    return engine


def test_without_an_index_its_status_says_so_with_exit_code_1(line: CommandLine) -> None:
    result = line.run("index", "status", "--json")
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    assert (shown["ready"], shown["health"], shown["generations"], shown["last_audit"]) == (False, "red", [], None)
    assert "no search index yet" in line.run("index", "status").stderr


def test_the_status_of_an_index_tells_generations_tasks_and_findings(line: CommandLine, tmp_path: Path) -> None:
    _build_index(line, tmp_path)
    task_id = line.json("index", "audit", "--no-wait")["id"]
    shown = line.json("index", "status")
    assert (shown["engine"], shown["health"], shown["generation"]) == ("tantivy", "green", "first")
    assert [one["role"] for one in shown["generations"]] == ["serving"]
    assert shown["proof"] == {"given": shown["documents"], "held": shown["documents"]}
    assert (shown["fault"], shown["last_rebuild"]) == (None, None)
    assert [task["id"] for task in shown["running"]] == [task_id]
    _end_audit(line, task_id, {"stale": 12, "stale_codes": [f"{8517000000 + number}" for number in range(12)]})
    result = line.run("index", "status")
    assert result.exit_code == 0
    assert "first" in result.stdout
    assert "Proof: " in result.stdout
    assert "stale: 12 (8517000000, " in result.stderr
    assert "8517000009 …)" in result.stderr
    assert "8517000010" not in result.stderr


def _end_audit(line: CommandLine, task_id: str, found: dict[str, Any]) -> None:
    result = {"ok": not found, "database": 9, "index": 9, "missing": 0, "extra": 0, "stale": 0} | found
    claimed = store.claim(line.database, task_id, worker="w", lease_seconds=60, known=TASKS)
    assert claimed is not None
    with line.database.write() as session:
        assert store.finish_success(session, task_id, claimed.attempt, result)


@pytest.mark.parametrize(
    ("arguments", "typed"), [(("--yes", "another"), None), ((), "another\n"), ((), ""), (("--yes", ""), None)]
)
def test_an_index_is_not_deleted_by_another_name(
    line: CommandLine, tmp_path: Path, arguments: tuple[str, ...], typed: str | None
) -> None:
    engine = _build_index(line, tmp_path)
    result = line.run("index", "delete", "--no-wait", *arguments, stdin=typed)
    assert result.exit_code == 2
    assert "Error: --yes: " in result.stderr
    assert engine.status().ready
    assert line.json("tasks", "list")["items"] == []


@pytest.mark.parametrize(("arguments", "typed"), [(("--yes", "first"), None), ((), "first\n")])
def test_deleting_the_index_by_its_name_is_a_task_of_who_asked(
    line: CommandLine, tmp_path: Path, arguments: tuple[str, ...], typed: str | None
) -> None:
    _build_index(line, tmp_path)
    assert line.run("index", "delete", "--no-wait", *arguments, stdin=typed).exit_code == 0
    (task,) = line.json("tasks", "list")["items"]
    assert (task["name"], task["payload"], task["initiated_by"]) == (
        "search.delete_index",
        {"generation": "first"},
        "cli:tester",
    )


def test_there_is_nothing_to_delete_without_an_index(line: CommandLine) -> None:
    for arguments in ((), ("--yes", "first")):
        result = line.run("index", "delete", *arguments)
        assert (result.exit_code, "no index to delete" in result.stderr) == (1, True)


def test_an_engine_that_is_away_is_said_and_nothing_is_accepted(line: CommandLine) -> None:
    away = {"SEARCH_URL": f"http://127.0.0.1:{free_port()}"}
    shown = line.run("index", "status", "--json", **away)
    assert shown.exit_code == 1
    status = json.loads(shown.stdout)
    assert (status["engine"], status["health"], status["generation"]) == ("elasticsearch", "away", None)
    for arguments in ((), ("--yes", "first")):
        result = line.run("index", "delete", "--no-wait", *arguments, **away)
        assert (result.exit_code, "Nothing was deleted" in result.stderr) == (1, True)
    assert line.json("tasks", "list")["items"] == []


def test_the_old_name_of_a_rebuild_is_the_same_command(line: CommandLine) -> None:
    first = line.json("index", "rebuild", "--no-wait")
    assert line.json("rebuild-index", "--no-wait")["id"] == first["id"]
