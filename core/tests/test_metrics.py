"""What workers and schedulers show of themselves: figures summed over children, health, log lines with their ids."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sicargabox_core import observability
from sicargabox_core.db import Database, migrate
from sicargabox_core.errors import InvalidSetting, Unavailable
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import Queue
from tests.servers.ports import free_port, wait_until
from tests.servers.valkey import ValkeyServer
from tests.task_system.probe_specs import ACT, Act
from tests.task_system.system import DEADLINE, TaskSystem, Worker

# What only a request to the API, a search or the measuring of searches can move.
OF_REQUESTS = {
    "sicargabox_http_requests",
    "sicargabox_http_request_seconds",
    "sicargabox_searches",
    "sicargabox_search_seconds",
    "sicargabox_search_quality_losses",
    "sicargabox_search_quality_ratio",
    "sicargabox_search_quality_timestamp_seconds",
}


class Watched:
    """A task system whose worker (two children) and scheduler serve their figures."""

    def __init__(self, system: TaskSystem) -> None:
        self.system = system
        self.worker_port, self.scheduler_port = free_port(), free_port()
        metrics = system.folder / "metrics"
        metrics.mkdir()
        system.environment |= {
            "SICARGABOX_WORKER_PORT": str(self.worker_port),
            "SICARGABOX_LOG_FORMAT": "json",
            observability.MULTIPROCESS_DIR: str(metrics),
        }
        self.worker: Worker = system.start_worker(Queue.ELASTICSEARCH, concurrency=2)
        environment = system.environment | {"SICARGABOX_WORKER_PORT": str(self.scheduler_port)}
        del environment[observability.MULTIPROCESS_DIR]
        program = str(Path(sys.executable).with_name("sicargabox"))
        with (system.folder / "scheduler.log").open("wb") as log:
            self.scheduler = subprocess.Popen([program, "scheduler"], env=environment, stdout=log, stderr=log)
        wait_until(lambda: _answers(self.scheduler_port), seconds=DEADLINE, what="the scheduler serves its health")

    def close(self) -> None:
        self.scheduler.send_signal(signal.SIGTERM)
        self.scheduler.wait(timeout=DEADLINE)

    def samples(self, port: int | None = None) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of a process, by name and labels."""
        text = _get(port or self.worker_port, "/metrics")[1]
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """The sum of the worker's samples of this name with these labels."""
        return sum(
            value
            for (sample, found), value in self.samples().items()
            if sample == name and set(labels.items()) <= set(found)
        )

    def lines(self) -> list[dict[str, Any]]:
        """The worker's log, line by line."""
        return [json.loads(line) for line in self.worker.log.splitlines() if line.startswith("{")]


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return _get(port, "/healthz")[0] == 200
    return False


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder: Path = tmp_path_factory.mktemp("watched")
    url = f"sqlite:///{folder / 'sicargabox.db'}"
    database = Database(url)
    migrate(database)
    database.dispose()
    valkey = ValkeyServer()
    valkey.start()
    system = TaskSystem(url, valkey, folder)
    watched = None
    try:
        watched = Watched(system)
        yield watched
    finally:
        if watched is not None:
            watched.close()
        system.close()
        valkey.stop()


def test_what_two_children_counted_is_summed(watched: Watched) -> None:
    system = watched.system
    before = watched.value("sicargabox_task_attempts_total", outcome="SUCCESS")
    # Two that sleep at the same time must be in two children.
    ids = [system.submit(ACT, how="sleep", seconds=1.0, note=f"both-{number}") for number in range(4)]
    for task_id in ids:
        system.wait_final(task_id)
    pids = {system.runs(task_id)[0]["pid"] for task_id in ids}
    assert len(pids) == 2
    wait_until(
        lambda: watched.value("sicargabox_task_attempts_total", outcome="SUCCESS") - before == 4,
        seconds=DEADLINE,
        what="four attempts are counted",
    )
    assert watched.value("sicargabox_task_run_seconds_count", queue="elasticsearch") >= 4
    assert watched.value("sicargabox_task_run_seconds_sum", queue="elasticsearch") >= 4.0


def test_the_counts_of_a_killed_child_are_kept_and_its_state_is_forgotten(watched: Watched) -> None:
    system = watched.system
    system.wait_final(system.submit(ACT, note="before"))
    before = watched.value("sicargabox_task_attempts_total", outcome="SUCCESS")
    task_id = system.submit(ACT, how="die_once", note="killed")
    pid = system.wait_begun(task_id)["pid"]
    system.wait_final(task_id)
    wait_until(
        lambda: watched.value("sicargabox_task_attempts_total", outcome="SUCCESS") >= before + 1,
        seconds=DEADLINE,
        what="the second attempt is counted",
    )
    folder = Path(system.environment[observability.MULTIPROCESS_DIR])

    def forgotten() -> bool:
        # Until its parent has reaped it, a dead child is a process.
        watched.samples()
        return not list(folder.glob(f"gauge_live*_{pid}.db"))

    wait_until(forgotten, seconds=DEADLINE, what="its live gauges are forgotten")


def test_every_family_has_a_sample_after_a_small_run(watched: Watched) -> None:
    system = watched.system
    parent = system.submit(ACT, how="parent", note="family", children=2)
    doubled = system.submit(ACT, how="sleep", seconds=0.3, note="doubled")
    for _ in range(5):
        system.publisher.publish([system.task(doubled)])
    with system.database.write() as session:
        # Accepted, and its message lost: only the reconciler brings it to a worker.
        lost = store.submit(session, ACT, Act(note="lost"), initiated_by="user:test").task.id
    for task_id in (parent, doubled, lost):
        system.wait_final(task_id)
    expected = {family.name for metric in observability.METRICS for family in metric.describe()} - OF_REQUESTS

    def missing() -> set[str]:
        found = {
            family.name
            for port in (watched.worker_port, watched.scheduler_port)
            for family in text_string_to_metric_families(_get(port, "/metrics")[1])
            if family.samples
        }
        return expected - found

    wait_until(lambda: not missing(), seconds=DEADLINE, what=f"a sample of each family; missing {missing()}")


def test_only_who_looks_for_a_figure_tells_it(watched: Watched) -> None:
    """A worker that showed `redis_up 0` from its start would raise an alarm for ever."""
    watched.system.wait_final(watched.system.submit(ACT, note="only"))
    looked_for = {"sicargabox_redis_up", "sicargabox_scheduler_last_pass_timestamp_seconds"}
    assert not looked_for & {name for name, _ in watched.samples()}
    wait_until(
        lambda: looked_for <= {name for name, _ in watched.samples(watched.scheduler_port)},
        seconds=DEADLINE,
        what="the scheduler tells them",
    )


def test_no_figure_is_written_before_it_is_told() -> None:
    """One without a label is, to a folder that a command in a worker's image need not have."""
    assert [
        family.name for metric in observability.METRICS for family in metric.describe() if not metric._labelnames
    ] == []


def test_no_line_of_a_library_is_written_twice(watched: Watched) -> None:
    """Neither in colours beside the plain one nor with the result of the task it is about."""
    watched.system.wait_final(watched.system.submit(ACT, note="plain"))
    lines = watched.lines()
    assert any(line["logger"].startswith("celery.") for line in lines)
    assert not any({"data", "color_message"} & line.keys() for line in lines)


def test_a_worker_and_a_scheduler_say_that_they_live_and_are_ready(watched: Watched) -> None:
    for port in (watched.worker_port, watched.scheduler_port):
        assert _get(port, "/healthz") == (200, "ok\n")
        assert _get(port, "/readyz") == (200, "ready\n")
        assert _get(port, "/other")[0] == 404


def test_request_id_and_task_id_follow_a_task_into_the_workers_log(watched: Watched) -> None:
    system = watched.system
    submission = system.service.submit(
        ACT, Act(how="refuse", note="logged"), initiated_by="user:test", request_id="request-4711"
    )
    task_id = submission.task.id
    system.wait_final(task_id)
    lines = wait_until(
        lambda: [line for line in watched.lines() if line.get("task_id") == task_id],
        seconds=DEADLINE,
        what="the worker logs the failure",
    )
    assert {line.get("request_id") for line in lines} == {"request-4711"}
    assert {line["service"] for line in lines} == {"probe"}
    assert all({"level", "timestamp", "event"} <= line.keys() for line in lines)


def test_a_worker_does_not_start_on_a_taken_health_port(watched: Watched) -> None:
    worker = watched.system.start_worker(Queue.LEARNING, ready=False)
    assert worker.wait() != 0
    assert "SICARGABOX_WORKER_PORT: cannot listen on" in worker.log


def test_not_ready_is_503_and_says_why() -> None:
    def away() -> None:
        raise Unavailable("the database does not answer")

    port = free_port()
    stop = observability.serve_health("127.0.0.1", port, ready=away)
    try:
        assert _get(port, "/readyz") == (503, "not ready: the database does not answer\n")
        assert _get(port, "/healthz")[0] == 200
        with pytest.raises(InvalidSetting, match="SICARGABOX_WORKER_PORT"):
            observability.serve_health("127.0.0.1", port, ready=away)
    finally:
        stop()


def test_what_only_a_new_process_mends_is_told_by_healthz() -> None:
    faults: list[str] = []
    port = free_port()
    stop = observability.serve_health("127.0.0.1", port, ready=lambda: None, dead=lambda: faults[0] if faults else None)
    try:
        assert _get(port, "/healthz") == (200, "ok\n")
        faults.append("it stands still")
        assert _get(port, "/healthz") == (503, "it stands still\n")
        assert _get(port, "/readyz")[0] == 200
    finally:
        stop()


def test_a_predecessors_figures_are_forgotten_and_our_own_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(observability.MULTIPROCESS_DIR, str(tmp_path))
    own, other = tmp_path / f"counter_{os.getpid()}.db", tmp_path / "gauge_livemax_1.db"
    own.touch()
    other.touch()
    observability.forget_predecessors()
    assert own.exists()
    assert not other.exists()
