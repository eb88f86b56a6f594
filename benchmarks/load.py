"""A small HTTP client that costs little beside what it measures: raw asyncio streams, kept open.

Latencies of an open loop count from the moment a request was due, so a server that stalls cannot hide it by keeping
the client from asking.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """Latencies in seconds of the requests that were answered as hoped; how many were not; the whole time."""

    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """A quantile of the latencies, in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def request(method: str, path: str, *, token: str = "", body: bytes = b"") -> bytes:
    """An HTTP/1.1 request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    if body:
        head += "Content-Type: application/json\r\n"
    return head.encode() + b"\r\n" + body


def _any(_body: bytes) -> bool:
    return True


class _Connection:
    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; 599 when the server closed the connection, as after an error of its own."""
        try:
            return await self._ask(data)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            self._streams = None
            return 599, b""

    async def _ask(self, data: bytes) -> tuple[int, bytes]:
        if self._streams is not None and self._streams[0].at_eof():
            # The server ends a connection that was idle for five seconds, as every HTTP client knows.
            self.close()
            self._streams = None
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:"))
        body = await reader.readexactly(length)
        return int(lines[0].split()[1]), body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


def closed_loop(
    port: int,
    make: Callable[[int], bytes],
    *,
    clients: int,
    seconds: float = 0.0,
    most: int = 10**9,
    hoped: Callable[[bytes], bool] = _any,
) -> Outcome:
    """``clients`` that each ask again as soon as they are answered, for ``seconds`` or ``most`` requests in all.

    ``hoped`` looks at the body of each good answer; one that it does not like is counted as failed.
    """
    return asyncio.run(_closed(port, make, clients, seconds, most, hoped))


async def _closed(
    port: int,
    make: Callable[[int], bytes],
    clients: int,
    seconds: float,
    most: int,
    hoped: Callable[[bytes], bool],
) -> Outcome:
    outcome, number = Outcome(), iter(range(most))
    began = time.perf_counter()
    end = began + seconds if seconds else float("inf")

    async def client() -> None:
        connection = _Connection(port)
        for one in number:
            started = time.perf_counter()
            status, body = await connection.ask(make(one))
            took = time.perf_counter() - started
            if status < 400 and hoped(body):
                outcome.latencies.append(took)
            else:
                outcome.failed += 1
            if time.perf_counter() >= end:
                break
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    outcome.seconds = time.perf_counter() - began
    return outcome


def open_loop(
    port: int, make: Callable[[int], bytes], *, rate: float, seconds: float, hoped: Callable[[bytes], bool] = _any
) -> Outcome:
    """``rate`` requests a second, whether or not the earlier ones were answered; ``hoped`` as for ``closed_loop``."""
    return asyncio.run(_open(port, make, rate, seconds, hoped))


async def _open(
    port: int, make: Callable[[int], bytes], rate: float, seconds: float, hoped: Callable[[bytes], bool]
) -> Outcome:
    outcome = Outcome()
    free: list[_Connection] = []
    began = time.perf_counter()

    async def one(number: int, due: float) -> None:
        connection = free.pop() if free else _Connection(port)
        status, body = await connection.ask(make(number))
        took = time.perf_counter() - due
        if status < 400 and hoped(body):
            outcome.latencies.append(took)
        else:
            outcome.failed += 1
        free.append(connection)

    asked = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*asked)
    outcome.seconds = time.perf_counter() - began
    for connection in free:
        connection.close()
    return outcome
