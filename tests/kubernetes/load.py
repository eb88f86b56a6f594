"""Load on an installation: no-op tasks and searches over HTTP, at a steady rate whatever the answers.

The client is the fault suite's: a request whose answer was lost is sent again under its key and counts as one error
and one task. Runs in threads of the tests' process.
"""

from __future__ import annotations

import queue
import shutil
import tempfile
import threading
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx

from sicargabox_core.tasks.contracts import TASKS
from tests.faults.books import Books
from tests.faults.load import Load as Client
from tests.faults.load import Request
from tests.servers.ports import wait_until

QUEUES = ("elasticsearch", "ai_generation", "learning", "celery")
# What a law is judged by: of so many accepted tasks none may be lost.
LEAST = 1000
# The note of tasks that are to be under way when something happens.
LONG = "long"
_NO_OPS = {str(spec.queue): name for name, spec in TASKS.items() if name.endswith(".no_op")}
_CLIENTS = 12
_SEARCHERS = 4
# As a visitor's own patience; a search that waits longer counts as an error.
_SEARCH_SECONDS = 10.0
_WORDS = ("camiseta", "audífonos bluetooth", "zapatos", "8517", "libro", "perfume")


def no_op(on: str, seconds: float = 0, note: str = "") -> Request:
    """A request for a task that works so long on that queue."""
    name = _NO_OPS[on]
    return Request("no_op", on, f"/tasks/{name}", {"note": note, "seconds": seconds}, uuid.uuid4().hex)


def backlog(count: int, seconds: float = 0, queues: Sequence[str] = QUEUES) -> list[Request]:
    """As many, on each queue in turn, so that some are waiting when a fault comes."""
    return [no_op(queues[number % len(queues)], seconds, str(number)) for number in range(count)]


@dataclass(frozen=True)
class Answers:
    """How the API answered: ``requests`` counts repeated ones too, ``problems`` what was not a 2xx, by kind."""

    requests: int
    problems: Counter[str]

    @property
    def errors(self) -> int:
        """Answers other than 2xx, broken connections, and answers that did not come in time."""
        return sum(self.problems.values())

    @property
    def error_rate(self) -> float:
        """Errors of all requests."""
        return self.errors / max(1, self.requests)


class Load:
    """``with Load(…) as load:`` begins it; leaving stops it and returns once every task asked for is accepted.

    ``rate``: tasks a second (0: only what ``send`` is given), on ``queues`` in turn, each working ``seconds``;
    ``searches``: searches a second.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        rate: float = 0,
        queues: Sequence[str] = QUEUES,
        seconds: float = 0,
        searches: float = 0,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sicargabox-load-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._queues, self._seconds = queues, seconds
        book = self._folder / "answers.jsonl"
        self.books = Books(book, self._folder / "no-executions")
        self._client = Client(url, token, rate, book, mix=self._request, clients=_CLIENTS)
        self._commands: queue.Queue[str | None] = queue.Queue()
        self._running = threading.Thread(target=self._run, name="load", daemon=True)
        self._searches = Searches(url, searches)
        # Of this machine's clock, since 1970.
        self.began = 0.0

    def _run(self) -> None:
        self._client.run(iter(self._commands.get, None))

    def _request(self, number: int) -> Request:
        return no_op(self._queues[number % len(self._queues)], self._seconds, str(number))

    def __enter__(self) -> Load:
        """Begins."""
        self.began = time.time()
        self._running.start()
        self._searches.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Stops."""
        self._searches.stop()
        self._commands.put(None)
        # A failed test does not wait for an API that may never answer.
        self._running.join(timeout=120 if kind is None else 1)
        self.books.read()
        if kind is None:
            assert not self._running.is_alive(), "the API does not accept what it was asked for"

    def send(self, *requests: Request) -> None:
        """More tasks, now."""
        for request in requests:
            self._client.send(request)

    def pause(self) -> None:
        """No tasks by rate for a while; searches go on."""
        self._commands.put("pause")

    def go(self) -> None:
        """Tasks by rate again."""
        self._commands.put("go")

    def reach(self, count: int = LEAST, seconds: float = 300) -> None:
        """Until so many are accepted; raises ``AssertionError`` after ``seconds``."""
        wait_until(lambda: len(self.accepted) >= count, seconds=seconds, what=f"{count} are accepted", interval=0.5)

    @property
    def accepted(self) -> list[str]:
        """Ids that the API has told so far."""
        self.books.read()
        return [one.id for one in self.books.accepted]

    def problems(self) -> list[tuple[float, str]]:
        """When a request ended without a 2xx, and how, in that order."""
        self.books.read()
        of_tasks = [(at, problem) for at, _, problem in self.books.errors]
        return sorted([*of_tasks, *((at, problem) for at, problem in list(self._searches.told) if problem)])

    def answers(self, *, away: Sequence[tuple[float, float]] = ()) -> Answers:
        """So far, without requests that ended while ``away`` (from, until; of this machine's clock, since 1970)."""

        def counts(at: float) -> bool:
            return not any(begin <= at <= end for begin, end in away)

        problems = Counter(problem for at, problem in self.problems() if counts(at))
        good = sum(counts(one.at) for one in self.books.accepted)
        good += sum(counts(at) for at, problem in list(self._searches.told) if not problem)
        return Answers(good + sum(problems.values()) + len(self.books.refused), problems)


class Searches:
    """Visitors who search, ``rate`` times a second; ``told`` holds when each was answered, and what was wrong or ""."""

    def __init__(self, url: str, rate: float) -> None:
        self._url, self._rate = url, rate
        self.told: list[tuple[float, str]] = []
        self._due: queue.Queue[str | None] = queue.Queue()
        self._over = threading.Event()
        names = ["clock", *(f"searcher-{number}" for number in range(_SEARCHERS))] if rate else []
        self._threads = [
            threading.Thread(target=self._ask if number else self._submit, name=name, daemon=True)
            for number, name in enumerate(names)
        ]

    def start(self) -> None:
        """Begins, where any are wanted."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends, after those under way."""
        self._over.set()
        for _ in range(_SEARCHERS):
            self._due.put(None)
        for thread in self._threads:
            thread.join(timeout=_SEARCH_SECONDS + 5)

    def _submit(self) -> None:
        number, due = 0, time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            self._due.put(_WORDS[number % len(_WORDS)])
            number, due = number + 1, due + 1 / self._rate

    def _ask(self) -> None:
        limits = httpx.Limits(max_connections=1, keepalive_expiry=3)
        with httpx.Client(base_url=self._url, timeout=_SEARCH_SECONDS, limits=limits, verify=False) as client:  # noqa: S501  # plain HTTP
            while (words := self._due.get()) is not None:
                try:
                    status = client.get("/api/v1/search", params={"q": words}).status_code
                    problem = "" if status == 200 else f"search {status}"
                except httpx.HTTPError as error:
                    problem = f"search {type(error).__name__}"
                self.told.append((time.time(), problem))
