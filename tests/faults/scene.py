"""What a fault may use: the installation, the ledgers, and waiting until work goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.faults.books import Books
from tests.faults.installation import Installation
from tests.faults.load import QUEUES
from tests.servers.ports import wait_until

# Asserted: work goes on within this time.
RESUME_SECONDS = 60.0


@dataclass
class Scene:
    """One trial. Times are of the machine's clock, in seconds; ``injected_at`` is set just before ``inject``."""

    installation: Installation
    books: Books
    injected_at: float = 0.0

    def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        time.sleep(seconds)

    def pile_up(self) -> None:
        """A backlog at once, so that queues hold something when they are struck."""
        self.installation.order("burst")
        self.sleep(0.5)

    def resumed(self, since: float) -> bool:
        """Whether on every queue a task accepted after ``since`` was begun."""
        self.books.read()
        return self.books.began_after(since) >= set(QUEUES)

    def wait_resumed(self, since: float, seconds: float = RESUME_SECONDS) -> None:
        """Until ``resumed``; raises ``AssertionError`` after ``seconds``."""
        wait_until(
            lambda: self.resumed(since),
            seconds=seconds,
            what="every queue executes tasks that were accepted since",
            interval=0.2,
        )
