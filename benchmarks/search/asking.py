"""The requests of these benchmarks and what their answers must be; a quick answer that says nothing is no good one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from benchmarks.load import Outcome, closed_loop, request

_LONGEST_TYPED = 8


class Asked:
    """Requests for everyday queries, over and over."""

    def __init__(self, queries: Sequence[str]) -> None:
        self._requests = [request("GET", f"/api/v1/search?q={quote(query)}") for query in queries]

    def __len__(self) -> int:
        return len(self._requests)

    def __call__(self, number: int) -> bytes:
        return self._requests[number % len(self._requests)]


class Typed(Asked):
    """Requests for suggestions after each letter of the same queries, from the second one on."""

    def __init__(self, queries: Sequence[str]) -> None:
        beginnings = [query[:length] for query in queries for length in range(2, min(len(query), _LONGEST_TYPED) + 1)]
        self._requests = [request("GET", f"/api/v1/suggest?q={quote(beginning)}") for beginning in beginnings]


@dataclass
class Watch:
    """Counts answers that SQL gave, and empty ones; all of them count among the latencies."""

    answers: int = 0
    from_sql: int = 0
    empty: int = 0

    def __call__(self, body: bytes) -> bool:
        self.answers += 1
        self.from_sql += b'"degraded":true' in body
        self.empty += b'"results":[]' in body
        return True


def with_results(port: int, queries: Sequence[str]) -> list[str]:
    """The queries that find something, each asked once, one after the other."""
    found = []
    for query in queries:
        watch = Watch()
        closed_loop(port, Asked([query]), clients=1, most=1, hoped=watch)
        if watch.answers and not watch.empty:
            found.append(query)
    return found


def quantiles(outcomes: Sequence[Outcome], *, p99: bool = True) -> str:
    """Of several rounds together, in milliseconds."""
    whole = Outcome([latency for one in outcomes for latency in one.latencies])
    told = f"p50 {whole.quantile(0.5):.1f}, p95 {whole.quantile(0.95):.1f}"
    return f"{told}, p99 {whole.quantile(0.99):.1f} ms" if p99 else f"{told} ms"
