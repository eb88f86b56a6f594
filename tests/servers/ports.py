"""Free ports and waiting for something to become true, with a deadline instead of a sleep for luck."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports_in_a_row(count: int) -> int:
    """The first of ``count`` neighbouring ports of which none is taken now.

    Outside of what the system gives to outgoing connections: four neighbours of a random port there were taken by some
    connection of a busy machine often enough to fail a test.
    """
    places = range(15_000, 32_000 - count, count)
    for first in random.sample(places, k=len(places)):
        with contextlib.ExitStack() as probes:
            try:
                for port in range(first, first + count):
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise AssertionError(f"no {count} free ports in a row")


def wait_until(condition: Callable[[], T | None], *, seconds: float, what: str, interval: float = 0.02) -> T:
    """Asks ``condition`` until it gives something true, and returns that.

    Raises ``AssertionError`` naming ``what`` when ``seconds`` have passed.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(interval)
