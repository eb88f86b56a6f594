"""What the two ledgers say so far: every answer the client got, every execution that began or ended."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.ledger import Reader

PRODUCT = "product:"


@dataclass(frozen=True)
class Accepted:
    """A 2xx: when, how long after the first try, which task. Times are of the machine's clock, in seconds."""

    key: str
    id: str
    kind: str
    queue: str
    at: float
    seconds: float
    tries: int

    @property
    def of_tests(self) -> bool:
        """Whether it is the tests' own work, which keeps an execution ledger."""
        return not self.kind.startswith(PRODUCT)


@dataclass(frozen=True)
class Run:
    """A line of the execution ledger. ``worker`` is the parent of the process ``pid``."""

    what: str
    key: str
    id: str
    attempt: int
    queue: str
    pid: int
    worker: int
    at: float


@dataclass
class Books:
    """Both ledgers, read on by ``read``."""

    answers: Path
    executions: Path
    sent: dict[str, float] = field(default_factory=dict)
    accepted: list[Accepted] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    errors: list[tuple[float, str, str]] = field(default_factory=list)
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    begun: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._answers = Reader(self.answers)
        self._executions = Reader(self.executions)

    def read(self) -> None:
        """Takes in what is new."""
        for line in self._answers.fresh():
            what, key = line["what"], line["key"]
            match what:
                case "sent":
                    self.sent[key] = line["at"]
                case "accepted":
                    self.answered.add(key)
                    fields = ("key", "id", "kind", "queue", "at", "seconds", "tries")
                    self.accepted.append(Accepted(**{name: line[name] for name in fields}))
                case "refused":
                    self.answered.add(key)
                    # The product's own may meet another rebuild under way; the tests' work has each key to itself.
                    if not line["kind"].startswith(PRODUCT):
                        self.refused.add(key)
                case "error":
                    self.errors.append((line["at"], key, line["problem"]))
        for line in self._executions.fresh():
            run = Run(**line)
            self.runs[run.id].append(run)
            if run.what == "begin":
                self.begun.append(run)

    def between(self, start: float, end: float) -> list[Accepted]:
        """What was accepted from ``start`` until ``end``."""
        return [one for one in self.accepted if start < one.at <= end]

    def unanswered(self, until: float) -> list[str]:
        """Keys first sent until then that have no final answer."""
        return [key for key, at in self.sent.items() if at <= until and key not in self.answered]

    def began_after(self, since: float) -> set[str]:
        """Queues that have begun a task which was accepted after ``since``."""
        fresh = {one.id for one in self.accepted if one.at > since}
        return {run.queue for run in self.begun if run.at > since and run.id in fresh}
