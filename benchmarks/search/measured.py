"""One measured figure, and a run's figures as a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """``what`` names the row, the same for every engine; ``value`` has its unit; ``met`` is None without a goal."""

    section: str
    engine: str
    what: str
    value: str
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Run:
    """The figures of one run with what must be known to read them."""

    machine: str
    when: str
    rounds: int
    versions: dict[str, str]
    catalogue: str
    seconds: dict[str, float]
    figures: list[Measured]

    def write(self, path: Path) -> None:
        """As JSON; an earlier file is replaced."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Run:
        """What ``write`` wrote."""
        told = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**told, "figures": [Measured(**one) for one in told["figures"]]})


def quantile(times: Sequence[float], share: float) -> float:
    """A quantile of times in seconds, in milliseconds."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000
