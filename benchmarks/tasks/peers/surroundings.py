"""What a peer's processes are told by the environment, and how its task tells when it ran."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

REDIS_URL = "BENCH_REDIS_URL"
POSTGRES_URL = "BENCH_POSTGRES_URL"
MARKS = "BENCH_MARKS"
# Of a backlog only so many tasks write down when they ran: cheap enough not to count.
MARKED = 100


def address(name: str) -> str:
    """A variable that must be there."""
    return os.environ[name]


def numbers(count: int) -> Iterator[int]:
    """What each of ``count`` tasks is given: its place in the backlog for those that are marked, else 0."""
    step = max(1, count // MARKED)
    for number in range(1, count + 1):
        yield number if number % step == 0 or number == count else 0


def mark(number: int) -> None:
    """Writes down that the marked task ran now; does nothing for the others."""
    if number:
        with Path(os.environ[MARKS]).open("a") as file:
            file.write(f"{number} {time.time()}\n")


def read_marks(marks: Path) -> list[tuple[int, float]]:
    """What was written down so far: place in the backlog and time, in the order of time."""
    if not marks.exists():
        return []
    pairs = [line.split() for line in marks.read_text().splitlines()]
    return sorted(((int(number), float(moment)) for number, moment in pairs), key=lambda pair: pair[1])


def rate(ran: Sequence[tuple[int, float]]) -> float:
    """Tasks a second in the second half of what was done: in the first half workers may still have been starting."""
    middle = ran[-1][0] / 2
    first = next(pair for pair in ran if pair[0] >= middle)
    return (ran[-1][0] - first[0]) / (ran[-1][1] - first[1])
