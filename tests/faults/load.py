"""The client: submits work over HTTP at a steady rate, whatever the answers, and keeps its own ledger of them.

For the faults it is a process of its own (``python -m tests.faults.load``), so that its clock is not slowed by the one
who watches. Every request carries a new Idempotency-Key; what is not answered by a 2xx is sent again with the same key
until it is. Commands, there on its standard input: ``long`` (a task of 12 s for each queue now), ``burst`` (a backlog
at once), ``pause``, ``go``; their end: no more new work, and the load ends once everything is answered.
"""

from __future__ import annotations

import json
import os
import queue
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.faults import ledger

QUEUES = ("elasticsearch", "ai_generation", "learning")
LONG_SECONDS = 12.0
BURST = "burst"
_BURST_SIZE = 90
# As a caller's own patience; a request that waits longer counts as an error.
_ANSWER_SECONDS = 10.0
_AGAIN_SECONDS = 0.25
# Below the 5 s after which the server closes a silent connection, which a request may meet on its way.
_KEPT_SECONDS = 3.0
# One connection each. With many requests waiting for one shared pool of httpx its search for a free connection took
# more time than the requests.
_CLIENTS = 64


@dataclass(frozen=True)
class Request:
    """One piece of work; ``kind`` is told in the ledger."""

    kind: str
    queue: str
    path: str
    body: dict[str, Any]
    key: str


def _work(kind: str, name: str, seconds: float, children: int = 0) -> Request:
    key = uuid.uuid4().hex
    return Request(kind, name, f"/faults/{name}", {"key": key, "seconds": seconds, "children": children}, key)


def _product(name: str, on: str, body: dict[str, Any]) -> Request:
    return Request(f"product:{name}", on, f"/tasks/{name}", body, uuid.uuid4().hex)


def request_number(number: int) -> Request:
    """The mix: mostly 5 to 20 ms, some longer, some with children, and now and then the product's own tasks."""
    name = QUEUES[number % 3]
    if number % 41 == 7:
        return _product("housekeeping.no_op", "celery", {"note": str(number)})
    if number % 400 == 100:
        return _product("ai.generate_keywords", "ai_generation", {"codes": ["8517130000", "0101210000"]})
    if number % 800 == 300:
        return _product("search.rebuild_index", "elasticsearch", {})
    if number % 800 == 700:
        return _product("search.audit", "elasticsearch", {})
    if number % 50 == 11:
        return _work("medium", name, random.uniform(0.5, 1.5))
    if number % 50 == 33:
        return _work("parent", name, 0.01, children=3)
    return _work("short", name, random.uniform(0.005, 0.02))


class Load:
    """Some clients with a kept connection each. Work that finds all of them busy waits, and that counts as latency."""

    def __init__(
        self,
        url: str,
        token: str,
        rate: float,
        book: Path,
        *,
        mix: Callable[[int], Request] = request_number,
        clients: int = _CLIENTS,
    ) -> None:
        """``mix`` gives the request of each number, ``clients`` is how many may wait for an answer at a time.

        With a ``rate`` of 0 there is no more than ``send`` is given.
        """
        self._url = f"{url}/api/v1"
        self._token = token
        self._rate = rate
        self._book = book
        self._mix = mix
        self._clients = clients
        self._due: queue.Queue[tuple[float, Request] | None] = queue.Queue()
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._going = threading.Event()
        self._over = threading.Event()
        # Making 64 clients takes a second or two, which the first answers must not be blamed for.
        self._all_made = threading.Barrier(clients + 1)

    def run(self, commands: Iterable[str]) -> None:
        """Until the commands end and everything is answered."""
        writer = threading.Thread(target=self._write, name="writer")
        clients = [threading.Thread(target=self._answer, name=f"client-{number}") for number in range(self._clients)]
        for thread in (writer, *clients):
            thread.start()
        self._all_made.wait()
        self._going.set()
        threading.Thread(target=self._listen, args=(commands,), name="commands", daemon=True).start()
        self._submit()
        for _ in clients:
            self._due.put(None)
        for thread in clients:
            thread.join()
        self._lines.put(None)
        writer.join()

    def _listen(self, commands: Iterable[str]) -> None:
        for line in commands:
            match line.strip():
                case "long":
                    for name in QUEUES:
                        self.send(_work("long", name, LONG_SECONDS))
                case "burst":
                    for number in range(_BURST_SIZE):
                        self.send(_work(BURST, QUEUES[number % 3], random.uniform(0.05, 0.3)))
                case "pause":
                    self._going.clear()
                case "go":
                    self._going.set()
        self._over.set()
        self._going.set()

    def _submit(self) -> None:
        due, number = time.monotonic(), 0
        if not self._rate:
            self._over.wait()
        while not self._over.is_set():
            if not self._going.is_set():
                self._going.wait()
                due = time.monotonic()
            # Open loop: when something was late the missed requests follow at once.
            while due <= time.monotonic() and not self._over.is_set():
                self.send(self._mix(number))
                number, due = number + 1, due + 1 / self._rate
            self._over.wait(max(0.0, due - time.monotonic()))

    def send(self, request: Request) -> None:
        """One more request, as soon as a client is free for it."""
        told = {"kind": request.kind, "queue": request.queue, "key": request.key}
        self._lines.put({"what": "sent", "at": time.time(), **told})
        self._due.put((time.monotonic(), request))

    def _answer(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}"}
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEPT_SECONDS)
        # No certificates are read: nothing here is spoken over TLS.
        options: dict[str, Any] = {"timeout": _ANSWER_SECONDS, "limits": limits, "verify": False}
        with httpx.Client(base_url=self._url, headers=headers, **options) as client:
            self._all_made.wait()
            while (one := self._due.get()) is not None:
                self._until_answered(client, *one)

    def _until_answered(self, client: httpx.Client, began: float, request: Request) -> None:
        told = {"kind": request.kind, "queue": request.queue, "key": request.key}
        tries = 0
        while True:
            tries += 1
            try:
                answer = client.post(request.path, json=request.body, headers={"Idempotency-Key": request.key})
                status = answer.status_code
                if 200 <= status < 300:
                    found = {"id": answer.json()["id"], "status": status, "tries": tries}
                    self._lines.put(
                        {"what": "accepted", "at": time.time(), "seconds": time.monotonic() - began, **told, **found}
                    )
                    return
                if status in (409, 422):
                    self._lines.put({"what": "refused", "at": time.time(), "status": status, **told})
                    return
                problem = str(status)
            except httpx.HTTPError as error:
                problem = type(error).__name__
            self._lines.put({"what": "error", "at": time.time(), "problem": problem, **told})
            time.sleep(_AGAIN_SECONDS)

    def _write(self) -> None:
        while True:
            batch = [self._lines.get()]
            while not self._lines.empty():
                batch.append(self._lines.get_nowait())
            lines = [line for line in batch if line is not None]
            if lines:
                ledger.append(self._book, *lines)
            if len(lines) < len(batch):
                return


if __name__ == "__main__":
    options = json.loads(os.environ["FAULTS_LOAD"])
    Load(options["url"], options["token"], options["rate"], Path(options["book"])).run(sys.stdin)
