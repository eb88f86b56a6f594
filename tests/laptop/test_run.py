"""What one command promises: everything runs, survives the death of any one process, and stops and starts cleanly."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from sicargabox_core.db import Database
from sicargabox_core.laptop.preflight import health_ports
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import (
    AI_NO_OP,
    ANALYSE_SELECTIONS,
    FINAL_STATES,
    GENERATE_KEYWORDS,
    LEARNING_NO_OP,
    NO_OP,
    REBUILD_INDEX,
    SEARCH_NO_OP,
    AnalyseSelections,
    GenerateKeywords,
    NoOp,
    Payload,
    RebuildIndex,
    State,
    TaskSpec,
)
from tests.laptop.product import Product
from tests.servers.ports import wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    product = Product(tmp_path_factory.mktemp("product"))
    product.start()
    yield product
    product.stop()


@pytest.fixture
def database(product: Product) -> Iterator[Database]:
    database = product.database()
    yield database
    database.dispose()


def _submit_one_of_each(database: Database) -> list[str]:
    wanted: list[tuple[TaskSpec[Any, Any], Payload]] = [
        (REBUILD_INDEX, RebuildIndex()),
        (GENERATE_KEYWORDS, GenerateKeywords(chapter="85", codes=None)),
        (ANALYSE_SELECTIONS, AnalyseSelections(people=3)),
        *[(NO_OP, NoOp(note=str(number))) for number in range(10)],
        *[(spec, NoOp(seconds=0.5)) for spec in (SEARCH_NO_OP, AI_NO_OP, LEARNING_NO_OP)],
    ]
    with database.write() as session:
        return [store.submit(session, spec, payload, initiated_by="test").task.id for spec, payload in wanted]


def _states(database: Database, ids: list[str]) -> list[State]:
    with database.read() as session:
        return [store.get(session, task_id).state for task_id in ids]


def _all_end_well(database: Database, ids: list[str]) -> None:
    wait_until(
        lambda: all(state in FINAL_STATES for state in _states(database, ids)), seconds=90, what="every task has ended"
    )
    assert set(_states(database, ids)) == {State.SUCCESS}


def test_a_bare_machine_gets_every_page_and_a_password(product: Product) -> None:
    assert product.get("PORT", "/readyz")[0] == 200
    assert product.get("ADMIN_PORT", "/admin/login")[0] in (200, 303)
    assert "shown only this once: admin / " in product.said


def test_flower_lets_nobody_in_without_its_password(product: Product) -> None:
    password = (product.folders.run / "flower-password").read_text().strip()
    assert product.get("FLOWER_PORT", "/")[0] == 401
    assert product.get("FLOWER_PORT", "/", user=f"flower:{password}")[0] == 200


def test_no_secret_is_on_a_command_line_that_others_can_read(product: Product) -> None:
    flower = (product.folders.run / "flower-password").read_text().strip()
    administrator = product.said.partition("admin / ")[2].split()[0]
    lines = [" ".join(process.cmdline()) for process in product.family()]
    assert not any(secret in line for line in lines for secret in (flower, administrator))


def test_a_first_start_builds_the_index_by_itself(product: Product, database: Database) -> None:
    def rebuilt() -> bool:
        with database.read() as session:
            found = store.list_tasks(session, names=[REBUILD_INDEX.name]).items
        return any(task.state is State.SUCCESS for task in found)

    wait_until(rebuilt, seconds=60, what="the first index is built")
    status, answer = product.get("PORT", "/api/v1/search?q=aud%C3%ADfonos%20bluetooth")
    assert status == 200
    assert '"degraded":false' in answer.replace(" ", "")


def test_scheduler_and_every_worker_serve_their_health_and_figures(product: Product) -> None:
    for port in health_ports(product.settings):
        for path, shown in (("/healthz", "ok"), ("/readyz", "ready"), ("/metrics", "sicargabox_")):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                assert shown in answer.read().decode()


def test_the_command_line_rebuilds_and_waits_and_the_doctor_finds_no_fault(product: Product) -> None:
    rebuilt = product.command("rebuild-index", "--json")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "100%" in rebuilt.stderr
    task = json.loads(rebuilt.stdout)
    assert (task["state"], task["result"]["documents"] > 0) == ("SUCCESS", True)
    found = json.loads(product.command("search", "audífonos bluetooth", "--json").stdout)
    assert (found["degraded"], bool(found["results"])) == (False, True)
    diagnosis = product.command("doctor")
    assert diagnosis.returncode == 0, diagnosis.stdout


def test_a_second_command_in_the_same_folder_is_told_who_is_there(product: Product) -> None:
    answer = product.command("run")
    assert answer.returncode == 2
    assert f"process {product.pid}" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_taken_port_is_one_line_and_exit_code_two_and_a_misspelt_variable_is_told(product: Product) -> None:
    other = str(product.folders.data.with_name("other"))
    answer = product.command("run", DATA_DIR=other, PROT="1")
    assert answer.returncode == 2
    assert answer.stdout == "SICARGABOX_PROT is no setting and has no effect; did you mean SICARGABOX_PORT?\n"
    assert answer.stderr.startswith(f"Error: SICARGABOX_PORT: port {product.ports['PORT']} is taken")
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    ["redis", "api", "admin", "scheduler", "indexer-worker", "ai-worker", "learning-worker", "flower"],
)
def test_killing_any_process_in_mid_task_loses_nothing_and_it_comes_back(
    product: Product, database: Database, name: str
) -> None:
    before = product.running()[name]
    ids = _submit_one_of_each(database)
    wait_until(lambda: any(state is State.STARTED for state in _states(database, ids)), seconds=30, what="a task runs")
    os.kill(before.pid, signal.SIGKILL)
    _all_end_well(database, ids)
    wait_until(lambda: product.running()[name].pid != before.pid, seconds=60, what=f"{name} is back")


@pytest.mark.parametrize("worker", ["indexer-worker", "ai-worker", "learning-worker"])
def test_killing_a_child_of_a_worker_in_mid_task_loses_nothing(
    product: Product, database: Database, worker: str
) -> None:
    children = psutil.Process(product.running()[worker].pid).children()
    ids = _submit_one_of_each(database)
    wait_until(lambda: any(state is State.STARTED for state in _states(database, ids)), seconds=30, what="a task runs")
    for child in children:
        child.kill()
    _all_end_well(database, ids)


def test_killing_the_supervisor_in_mid_task_loses_nothing_and_everything_comes_back(
    product: Product, database: Database
) -> None:
    before = product.running()
    supervisor = psutil.Process(before["api"].pid).parent()
    assert supervisor is not None
    ids = _submit_one_of_each(database)
    supervisor.kill()
    _all_end_well(database, ids)
    after = product.running()
    assert not {state.pid for state in after.values()} & {state.pid for state in before.values()}


def test_ctrl_c_ends_every_process_and_a_second_start_finds_everything(product: Product, database: Database) -> None:
    family = product.family()
    ids = _submit_one_of_each(database)
    assert product.stop() == 0
    assert [process for process in family if process.is_running()] == []
    assert "Traceback" not in product.said

    product.start()
    assert "admin / " not in product.said
    assert "Building the search index" not in product.said
    _all_end_well(database, ids)


def test_a_killed_foreground_command_takes_everything_with_it_and_the_next_start_works(
    product: Product, database: Database
) -> None:
    family = product.family()
    product.stop(signal.SIGKILL)
    product.start()
    assert [process for process in family if process.is_running()] == []
    _all_end_well(database, _submit_one_of_each(database))
