from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from services.api.tests.running import API, Api
from sqlalchemy.exc import OperationalError

from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import TASKS
from tests.servers.ports import wait_until


class Listener:
    """Reads a stream of server-sent events in a thread."""

    def __init__(self, client: httpx.Client, path: str) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.ids: list[str] = []
        self.ended = threading.Event()
        self._client, self._path = client, path
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._client.stream("GET", self._path, timeout=httpx.Timeout(30)) as answer:
            kind = ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                elif name == "id":
                    self.ids.append(value)
                elif name == "data":
                    self.events.append((kind, json.loads(value)))
        self.ended.set()

    def has_seen(self, current: int) -> bool:
        return (self.events[-1][1]["progress"] or {}).get("current") == current

    def states(self) -> list[tuple[str, str]]:
        return [(kind, task["state"]) for kind, task in self.events]


@contextmanager
def started(api: Api, task_id: str) -> Iterator[int]:
    claimed = store.claim(api.database, task_id, worker="test", lease_seconds=60, known=TASKS)
    assert claimed is not None
    yield claimed.attempt


def test_a_listener_sees_every_state_and_progress_and_the_stream_ends_with_the_task(
    api: Api, operator: httpx.Client
) -> None:
    task_id = operator.post(f"{API}/tasks/search.rebuild_index").json()["id"]
    listener = Listener(operator, f"{API}/tasks/{task_id}/events")
    wait_until(lambda: listener.states() == [("state", "PENDING")], seconds=10, what="the first event")
    with started(api, task_id) as attempt:
        wait_until(lambda: len(listener.events) == 2, seconds=10, what="STARTED")
        for current in (10, 20):
            store.heartbeat(api.database, task_id, attempt, 60, store.Progress(current, 20, "documents"))
            seen = functools.partial(listener.has_seen, current)
            wait_until(seen, seconds=10, what="progress")
        # Nobody who only listens keeps a connection of the database.
        wait_until(lambda: api.database.engine.pool.checkedout() == 0, seconds=5, what="no connection is held")  # type: ignore[attr-defined]  # of queue pools
        with api.database.write() as session:
            store.finish_success(session, task_id, attempt, {"documents": 20})
    assert listener.ended.wait(10)
    assert listener.states() == [
        ("state", "PENDING"),
        ("state", "STARTED"),
        ("state", "PROGRESS"),
        ("progress", "PROGRESS"),
        ("state", "SUCCESS"),
    ]
    assert listener.events[-1][1]["result"] == {"documents": 20}

    # A browser reconnects by itself when a stream ends; 204 tells it not to.
    again = operator.get(f"{API}/tasks/{task_id}/events", headers={"Last-Event-ID": listener.ids[-1]})
    assert again.status_code == 204
    behind = operator.get(f"{API}/tasks/{task_id}/events", headers={"Last-Event-ID": listener.ids[0]})
    assert behind.status_code == 200
    assert behind.text.count("event: state") == 1


def test_listeners_are_bounded_and_a_place_is_free_again_when_one_leaves(api: Api, operator: httpx.Client) -> None:
    task_id = operator.post(f"{API}/tasks/search.rebuild_index").json()["id"]
    path = f"{API}/tasks/{task_id}/events"
    listeners = api.app.state.listeners
    listeners._most = 2
    clients = [api.as_program() for _ in range(2)]
    streams = [client.stream("GET", path) for client in clients]
    for stream in streams:
        assert stream.__enter__().status_code == 200

    refused = operator.get(path)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert int(refused.headers["retry-after"]) >= 1
    streams[0].__exit__(None, None, None)
    wait_until(lambda: listeners.count == 1, seconds=10, what="the place is free")
    with operator.stream("GET", path) as answer:
        assert answer.status_code == 200
    streams[1].__exit__(None, None, None)
    wait_until(lambda: listeners.count == 0, seconds=10, what="all have left")


def test_a_stream_survives_a_database_that_is_away_for_a_moment(
    api: Api, operator: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = operator.post(f"{API}/tasks/search.rebuild_index").json()["id"]
    listener = Listener(operator, f"{API}/tasks/{task_id}/events")
    wait_until(lambda: len(listener.events) == 1, seconds=10, what="the first event")
    real = api.services.tasks.get
    failing = 2

    def away_for_two_looks(task: str) -> store.TaskView:
        nonlocal failing
        if failing:
            failing -= 1
            raise OperationalError("SELECT", None, ConnectionError("server closed the connection"))
        return real(task)

    monkeypatch.setattr(api.services.tasks, "get", away_for_two_looks)
    store.request_cancel(api.database, task_id, by="test")
    assert listener.ended.wait(10)
    assert failing == 0
    assert listener.states() == [("state", "PENDING"), ("state", "REVOKED")]
