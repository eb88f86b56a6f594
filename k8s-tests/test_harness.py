"""What judges the cluster tests, judged without a cluster: a broken law is seen, a repeated request counts once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kubernetes.figures import Figure, table, write
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
    assert verdict.figures == {"accepted": 6, "lost": 3, "finished_twice": 1, "executed_again": 1}


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


def test_the_table_sums_what_is_counted_and_tells_the_median_of_what_is_measured(tmp_path: Path) -> None:
    found = [
        Figure("faults", "lost", 0, "tasks"),
        Figure("faults", "lost", 2, "tasks"),
        Figure("dev", "install", 61.25),
    ]
    assert table(found).splitlines()[2:] == [
        "| faults | lost | 2 | 2 in all | 0 to 2 | tasks |",
        "| dev | install | 1 | 61.2 |  | s |",
    ]
    (tmp_path / "d.md").write_text("a\n<!-- cluster-table:begin -->\nold\n<!-- cluster-table:end -->\nb\n")
    (tmp_path / "f").write_text('{"of": "dev", "what": "install", "value": 9, "unit": "s"}\n')
    write([tmp_path / "f"], tmp_path / "d.md")
    assert "| dev | install | 1 | 9 |  | s |\n<!-- cluster-table:end -->\nb\n" in (tmp_path / "d.md").read_text()
    with pytest.raises(ValueError, match="lacks the marks"):
        write([tmp_path / "f"], tmp_path / "f")


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
