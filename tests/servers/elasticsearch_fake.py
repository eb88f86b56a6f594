"""An HTTP server that speaks as Elasticsearch does, and misbehaves as a test tells it to.

What it is asked goes on to a real server where there is one behind it, so that it needs to know nothing of indices,
aliases or queries; without one it tells only who it is. It holds nothing and must not grow into a second Elasticsearch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import re
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_PATIENCE = 120.0
_OF_ONE_HOP = {"connection", "content-length", "transfer-encoding", "keep-alive", "host", "accept-encoding"}
_PRODUCT = ("X-Elastic-Product", "Elasticsearch")
_VERSION = "9.4.3"
_FIRST_ERROR = 300


@dataclasses.dataclass(frozen=True)
class Request:
    """What a client asked; ``path`` without its parameters."""

    method: str
    path: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclasses.dataclass(frozen=True)
class Answer:
    """What it is told. Of one that is ``cut`` half of the body is sent, then the connection ends."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (_PRODUCT, ("Content-Type", "application/json"))
    cut: bool = False

    @classmethod
    def of(cls, status: int, content: Any) -> Answer:
        """A JSON answer of an Elasticsearch."""
        return cls(status, json.dumps(content).encode())


class Silence(Exception):
    """No answer: the connection is closed after all."""


Forward = Callable[[Request], Answer]
Fault = Callable[[Request, Forward], Answer]


class FakeElasticsearch:
    """Listens from ``start`` to ``stop``; ``fault`` misbehaves until it is set to none."""

    def __init__(self, upstream: str | None = None) -> None:
        """``upstream``: the address of the real server behind it."""
        self._upstream = upstream
        self._fault: Fault | None = None
        self._ended = threading.Event()
        self.asked: list[Request] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one_request(self) -> None:
                # A client that gave up has closed its side.
                with contextlib.suppress(ConnectionError):
                    super().handle_one_request()

            def answer(self) -> None:
                fake._answer(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  # names of the library

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Begins to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, with everything that hangs in it."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @contextlib.contextmanager
    def misbehaving(self, fault: Fault) -> Iterator[None]:
        """Answers with ``fault`` for the time of a block, then well again."""
        self._fault = fault
        try:
            yield
        finally:
            self._fault = None

    # --- faults ------------------------------------------------------------------------------------------------------
    def hang(self, _request: Request, _forward: Forward) -> Answer:
        """Takes the question and never answers, as a stopped server does."""
        self._ended.wait(_PATIENCE)
        raise Silence

    def slow(self, seconds: float) -> Fault:
        """Answers rightly, and late."""

        def answer(request: Request, forward: Forward) -> Answer:
            if self._ended.wait(seconds):
                raise Silence
            return forward(request)

        return answer

    # --- answering ---------------------------------------------------------------------------------------------------
    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if handler.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        elif handler.headers.get("Content-Encoding") == "deflate":
            body = zlib.decompress(body)
        headers = {key: value for key, value in handler.headers.items() if key.lower() != "content-encoding"}
        request = Request(handler.command, urlsplit(handler.path).path, handler.path, headers, body)
        self.asked.append(request)
        fault = self._fault
        try:
            answer = self._forward(request) if fault is None else fault(request, self._forward)
        except (Silence, OSError, HTTPException):
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        for key, value in answer.headers:
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(answer.body[: len(answer.body) // 2] if answer.cut else answer.body)
        handler.close_connection = handler.close_connection or answer.cut

    def _forward(self, request: Request) -> Answer:
        if self._upstream is None:
            return Answer.of(200, {"version": {"number": _VERSION}, "tagline": "You Know, for Search"})
        address = urlsplit(self._upstream)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=_PATIENCE)
        try:
            headers = {key: value for key, value in request.headers.items() if key.lower() not in _OF_ONE_HOP}
            connection.request(request.method, request.target, request.body or None, headers)
            told = connection.getresponse()
            kept = tuple([(key, value) for key, value in told.getheaders() if key.lower() not in _OF_ONE_HOP])
            return Answer(told.status, told.read(), kept)
        finally:
            connection.close()


def refusing(status: int, kind: str, reason: str, *, path: str = "") -> Fault:
    """An error instead of an answer to all whose path has the pattern ``path`` in it."""

    def answer(request: Request, forward: Forward) -> Answer:
        if not re.search(path, request.path):
            return forward(request)
        cause = {"type": kind, "reason": reason}
        return Answer.of(status, {"error": {"root_cause": [cause], **cause}, "status": status})

    return answer


RED = refusing(
    503, "search_phase_execution_exception", "all shards failed", path=r"/(_search|_count|_doc|_mget|_bulk|_refresh)"
)


def of_version(number: str) -> Fault:
    """A server of another release: an older one does not take requests in our protocol, a newer one does."""
    major = int(number.partition(".")[0])

    def answer(request: Request, forward: Forward) -> Answer:
        asked = re.search(r"compatible-with=(\d+)", f"{request.headers}")
        if asked and int(asked[1]) > major:
            reason = f"A compatible version is required on Accept [{asked[0]}], Elasticsearch {number}"
            cause = {"type": "media_type_header_exception", "reason": reason}
            return Answer.of(400, {"error": {"root_cause": [cause], **cause}, "status": 400})
        told = forward(request)
        if request.path != "/" or told.status != 200 or request.method == "HEAD":
            return told
        content = json.loads(told.body)
        content["version"]["number"] = number
        return dataclasses.replace(told, body=json.dumps(content).encode())

    return answer


def something_else(_request: Request, _forward: Forward) -> Answer:
    """A server that is no Elasticsearch: some other web server has the port."""
    return Answer(200, b"<html><body>It works!</body></html>", (("Content-Type", "text/html"),))


def lookalike(request: Request, forward: Forward) -> Answer:
    """A server that answers as Elasticsearch, without the header that tells the product: one of its forks."""
    told = forward(request)
    return dataclasses.replace(
        told, headers=tuple([one for one in told.headers if one[0].lower() != _PRODUCT[0].lower()])
    )


def cut(request: Request, forward: Forward) -> Answer:
    """Answers that end in the middle."""
    return dataclasses.replace(forward(request), cut=True)


def broken(_request: Request, _forward: Forward) -> Answer:
    """The connection ends before there is an answer."""
    raise Silence


class Hold:
    """Keeps back the first request whose method and path have ``pattern`` in them, as a slow road would.

    The others pass. ``arrived`` is set when it is there; it goes on after ``release``, or never when ``lost``.
    """

    def __init__(self, pattern: str) -> None:
        """``pattern`` is searched in e.g. ``POST /_aliases``."""
        self._pattern = re.compile(pattern)
        self._lock = threading.Lock()
        self._taken, self._lost = False, False
        self._released = threading.Event()
        self.arrived = threading.Event()

    def release(self, *, lost: bool = False) -> None:
        """Lets it go on, or drops it."""
        self._lost = lost
        self._released.set()

    def __call__(self, request: Request, forward: Forward) -> Answer:
        """See ``Fault``."""
        with self._lock:
            mine = not self._taken and self._pattern.search(f"{request.method} {request.path}") is not None
            self._taken = self._taken or mine
        if mine:
            self.arrived.set()
            self._released.wait(_PATIENCE)
            if self._lost:
                raise Silence
        return forward(request)


class BulkItems:
    """Refuses every third line of bulk calls, each ``times`` times; the others are written.

    Other calls are answered rightly, and so are writes of what has no place among the tariff's lines.
    """

    def __init__(self, status: int, kind: str, reason: str, *, times: int = 1_000_000) -> None:
        """``status``, ``kind`` and ``reason``: what each refused item is told. With 201 it is told to be written."""
        told = {"error": {"type": kind, "reason": reason}} if status >= _FIRST_ERROR else {"result": "created"}
        self._told, self._times = {"status": status, **told}, times
        self._lock = threading.Lock()
        self._met: Counter[str] = Counter()
        self.refused = 0

    def __call__(self, request: Request, forward: Forward) -> Answer:
        """See ``Fault``."""
        if not request.path.endswith("/_bulk"):
            return forward(request)
        operations = list(_operations(request.body))
        with self._lock:
            refused = [self._refuses(kind, about) for kind, about, _ in operations]
            self.refused += sum(refused)
        passed = [text for (_, _, text), no in zip(operations, refused, strict=True) if not no]
        told: dict[str, Any] = {"took": 1, "errors": False, "items": []}
        answer = Answer.of(200, told)
        if passed:
            answer = forward(dataclasses.replace(request, body=b"".join(passed)))
            if answer.status != 200:
                return answer
            told = json.loads(answer.body)
        items = iter(told["items"])
        told["items"] = [
            {kind: {"_index": about.get("_index"), "_id": about["_id"], **self._told}} if no else next(items)
            for (kind, about, _), no in zip(operations, refused, strict=True)
        ]
        told["errors"] = told["errors"] or ("error" in self._told and any(refused))
        return dataclasses.replace(answer, body=json.dumps(told).encode())

    def _refuses(self, kind: str, about: dict[str, Any]) -> bool:
        name = about.get("_id", "")
        if kind == "delete" or not name.isdigit() or int(name) // 10 % 3 or self._met[name] >= self._times:
            return False
        self._met[name] += 1
        return True


def _operations(body: bytes) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """What a bulk call asks: the kind of each operation, what it is about, and its text."""
    lines = iter(body.splitlines(keepends=True))
    for line in lines:
        if not line.strip():
            continue
        ((kind, about),) = json.loads(line).items()
        yield kind, about, line if kind == "delete" else line + next(lines)
