"""What judges the cluster tests, judged without a cluster: a broken law is seen, a repeated request counts once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kubernetes.asked_figures import series
from tests.kubernetes.evidence import tasks
from tests.kubernetes.figures import Figure, Figures, tables, write
from tests.kubernetes.ledger import Story, judge
from tests.kubernetes.load import Load, no_op
from tests.servers.ports import wait_until
from tests.settings import REPOSITORY


def story(task: str, states: str, claims: int = 1) -> Story:
    """A task with that history."""
    finished = states.split().count("SUCCESS")
    return Story(task, "learning", claims, finished, 1.0, 2.0, 3.0 if finished else None, states, "w")


def test_a_task_that_never_succeeded_is_lost_and_one_that_did_so_twice_is_told() -> None:
    known = [
        story("well", "PENDING STARTED SUCCESS"),
        story("again", "PENDING STARTED RETRY STARTED SUCCESS", claims=2),
        story("twice", "PENDING STARTED SUCCESS SUCCESS"),
        story("failed", "PENDING STARTED FAILURE"),
        story("waits", "PENDING", claims=0),
    ]
    verdict = judge(["well", "again", "twice", "failed", "waits", "forgotten"], {one.task: one for one in known})
    assert verdict.lost == ("failed: PENDING STARTED FAILURE", "waits: PENDING", "forgotten: not in SQL")
    assert verdict.finished_twice == ("twice: PENDING STARTED SUCCESS SUCCESS",)
    assert verdict.figures == {"accepted": 6, "lost": 3, "finished twice": 1, "begun again": 1}


class _Api(BaseHTTPRequestHandler):
    """Loses the first answer to every fourth task, after having accepted it; answers every other search with a 503."""

    tasks: dict[str, str]
    searches: int
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["Idempotency-Key"]
        new = key not in self.tasks
        self.tasks.setdefault(key, f"task {len(self.tasks)}")
        if new and len(self.tasks) % 4 == 0:
            self.close_connection = True
            return
        self._say(202, {"id": self.tasks[key]})

    def do_GET(self) -> None:
        type(self).searches += 1
        self._say(503 if self.searches % 2 else 200, {"results": []})

    def _say(self, status: int, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def api() -> Iterator[tuple[str, type[_Api]]]:
    """Its address, and what it holds."""
    kind = type("Api", (_Api,), {"tasks": {}, "searches": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", kind
        server.shutdown()
        serving.join()


def test_a_request_whose_answer_was_lost_is_repeated_and_its_task_counted_once(api: tuple[str, type[_Api]]) -> None:
    url, kind = api
    with Load(url, "token") as load:
        load.send(*(no_op("learning") for _ in range(40)))
    assert sorted(load.accepted) == sorted(kind.tasks.values())
    assert len(load.accepted) == 40
    answers = load.answers()
    assert (answers.requests, answers.errors, answers.error_rate) == (50, 10, 0.2)


def test_searches_that_failed_are_errors_but_for_when_something_was_taken_away(api: tuple[str, type[_Api]]) -> None:
    url, kind = api
    with Load(url, "token", searches=200) as load:
        wait_until(lambda: kind.searches >= 20, seconds=30, what="some searches")
    answers = load.answers()
    assert answers.requests == kind.searches
    assert answers.problems == {"search 503": (kind.searches + 1) // 2}
    assert load.answers(away=[(0, 2**40)]).requests == 0


def test_what_explains_a_failure_names_each_queue_and_what_is_unfinished() -> None:
    known = {one.task: one for one in (story("well", "PENDING STARTED SUCCESS"), story("waits", "PENDING", claims=0))}
    told = tasks(["well", "waits", "forgotten"], known, since=1.5)
    assert "1 not in SQL" in told
    assert "learning: 2 accepted (0 since), the last claimed +0.5 s, ended +1.5 s; {'SUCCESS': 1, 'PENDING': 1}" in told
    assert "waits -0.5 s: PENDING (0 claims, w)" in told


FAULT = [
    *(Figure("faults", "killed", "over, s", value) for value in (2.25, 3)),
    Figure("faults", "killed", "accepted", 1000),
    Figure("faults", "killed", "lost", 0),
    Figure("faults", "killed", "API requests", 2000),
    Figure("faults", "killed", "errors", 1),
    Figure("faults", "kept", "next task, s", 0.01),
]
WHOLE = [
    *FAULT,
    Figure("scaling", "learning", "N", 2),
    Figure("install", "dev", "seconds", 61.25),
    Figure("memory", "api", "idle, MiB", 112.4),
]


def test_the_tables_sum_what_is_counted_and_tell_the_median_of_what_is_measured() -> None:
    rows = [line for line in tables(WHOLE).splitlines() if line.startswith("| ")]
    assert rows[1:3] == [
        "| killed | 2.6 (2.2 to 3) | – | 1000 | 0 | – | – | 2000 | 1 | 0.050 |",
        "| kept | – | <0.1 | – | – | – | – | – | – | – |",
    ]
    assert rows[3:] == [
        "| queue | 0→1, s | N | 0→N, s | N→0, s | one task, s | 1→0, s |",
        "| learning | – | 2 | – | – | – | – |",
        "| what | seconds |",
        "| dev | 61.2 |",
        "| pod | idle, MiB | request, MiB | limit, MiB |",
        "| api | 112 | – | – |",
    ]


def test_a_figure_counts_when_its_test_has_passed_and_not_before(tmp_path: Path) -> None:
    figures = Figures(tmp_path / "f")
    figures.note("install", "failed", "seconds", 1)
    figures.failed()
    figures.note("install", "passed", "seconds", 2)
    assert figures.told == []
    figures.passed()
    assert [one.row for one in figures.told] == ["passed"]
    assert [json.loads(line)["row"] for line in (tmp_path / "f").read_text().splitlines()] == ["passed"]
    with pytest.raises(KeyError, match="no column"):
        figures.note("install", "passed", "minutes", 2)


def test_only_a_whole_run_is_written_between_the_marks_of_the_document(tmp_path: Path) -> None:
    document, whole, part = (tmp_path / name for name in ("d.md", "whole", "part"))
    document.write_text("a\n<!-- cluster-table:begin -->\nold\n<!-- cluster-table:end -->\nb\n")
    for file, figures in ((whole, WHOLE), (part, FAULT)):
        file.write_text("".join(f"{json.dumps(asdict(one))}\n" for one in figures))
    with pytest.raises(ValueError, match="install, memory, scaling"):
        write([part], document)
    assert "old" in document.read_text()
    made = write([whole], document)
    assert document.read_text() == (f"a\n<!-- cluster-table:begin -->\n{made}\n<!-- cluster-table:end -->\nb\n")
    with pytest.raises(ValueError, match="lacks the marks"):
        write([whole], part)


def test_a_series_that_has_no_value_yet_is_told_all_the_same() -> None:
    told = '# HELP a_total x\n# TYPE a_total counter\n# HELP b x\n# TYPE b gauge\nb{c="d"} 1\n'
    told += "# HELP e x\n# TYPE e histogram\n"
    assert set(series(told)) >= {"a_total", "b", "e_bucket", "e_sum", "e_count"}


def test_the_documents_have_their_places_and_kind_its_one_node() -> None:
    assert "<!-- cluster-table:end -->" in (REPOSITORY / "docs" / "kubernetes.md").read_text()
    kind = yaml.safe_load((REPOSITORY / "k8s-tests" / "kind.yaml").read_text())
    assert kind == {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": "sicargabox",
        "nodes": [{"role": "control-plane"}],
    }
    assert "--name sicargabox" in (REPOSITORY / "Makefile").read_text()
