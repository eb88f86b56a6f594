"""Measures answers against labelled queries: right heading first, among five, and not at all, with 95 % intervals.

A set is CSV with the columns ``query,headings[,lang,kind]`` (``labelled_csv``). It is split by a hash of the query into
a half that may be looked at and a half that is only counted, so that what is tuned on the first is judged on the
second. Our own set travels inside the package (``quality/``).
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from unicodedata import combining

from pydantic import BaseModel, ConfigDict

from sicargabox_core.search.labelled_csv import read_rows

OWN_SET = Path(__file__).parent / "quality" / "queries.csv"
"""Our own labelled queries; what they are and who may read which half: the README beside them."""

_RANKS = 10
_FEW = 5
_SHOWN = 3
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Labelled:
    """A query with the headings that would be right."""

    query: str
    headings: frozenset[str]
    lang: str = ""
    kind: str = ""

    @property
    def counted(self) -> bool:
        """Whether it belongs to the half that is only counted: the first byte of its hash is odd."""
        return int(self.key[:2], 16) % 2 == 1

    @property
    def key(self) -> str:
        """SHA-256 of the query in lower case, without accents and with single spaces; names it without telling it."""
        bare = "".join(char for char in unicodedata.normalize("NFKD", self.query.lower()) if not combining(char))
        return hashlib.sha256(" ".join(bare.split()).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A query's place of the first right heading (from 1; none: not among the first ten) and what it found.

    ``found`` counts headings, ``first`` is the first of them, ``shown`` the first three.
    """

    labelled: Labelled
    place: int | None
    found: int
    first: str | None
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval (Wilson)."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, total: int) -> Share:
        """``hits`` of ``total``; nothing of nothing is 0 with the widest interval."""
        if not total:
            return cls(0.0, 0.0, 1.0)
        share = hits / total
        middle = share + _Z * _Z / (2 * total)
        spread = _Z * math.sqrt(share * (1 - share) / total + _Z * _Z / (4 * total * total))
        scale = 1 + _Z * _Z / total
        return cls(share, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))

    def __str__(self) -> str:
        return f"{self.value:6.1%} [{self.low:.0%}–{self.high:.0%}]"


@dataclass(frozen=True, slots=True)
class Score:
    """The figures of a group of queries, at heading level. ``mrr`` is the mean of 1/place, with its 95 % interval."""

    queries: int
    hit1: Share
    hit5: Share
    hit10: Share
    none: Share
    mrr: float
    mrr_low: float
    mrr_high: float


class Tally(BaseModel):
    """Counts of a group of queries; those of two groups add up. ``squares`` is of 1/place, for its interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    queries: int = 0
    first: int = 0
    among5: int = 0
    among10: int = 0
    none: int = 0
    reciprocals: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Tally:
        """The counts of these outcomes."""
        kept = list(outcomes)
        places = [one.place for one in kept if one.place is not None]
        return cls(
            queries=len(kept),
            first=sum(place == 1 for place in places),
            among5=sum(place <= _FEW for place in places),
            among10=len(places),
            none=sum(one.found == 0 for one in kept),
            reciprocals=math.fsum(1 / place for place in places),
            squares=math.fsum(1 / place**2 for place in places),
        )

    @classmethod
    def sum(cls, tallies: Iterable[Tally]) -> Tally:
        """All of them together."""
        kept = list(tallies)
        return cls(**{name: sum(getattr(one, name) for one in kept) for name in Tally.model_fields})

    def score(self) -> Score:
        """The shares and their intervals."""
        total = self.queries
        mean = self.reciprocals / total if total else 0.0
        spread = _Z * math.sqrt(max(0.0, self.squares / total - mean * mean) / total) if total else 1.0
        return Score(
            queries=total,
            hit1=Share.of(self.first, total),
            hit5=Share.of(self.among5, total),
            hit10=Share.of(self.among10, total),
            none=Share.of(self.none, total),
            mrr=mean,
            mrr_low=max(0.0, mean - spread),
            mrr_high=min(1.0, mean + spread),
        )


def read_set(path: Path) -> list[Labelled]:
    """Reads a labelled set. Raises ``InvalidInput`` naming each line that is not of the agreed form."""
    return [Labelled(*row) for row in read_rows(path)]


def measure(queries: Iterable[Labelled], search: Callable[[str], list[str]]) -> list[Outcome]:
    """Asks ``search`` (query → codes, best first) each query. A heading counts once, at its first line's place."""
    outcomes = []
    for labelled in queries:
        headings = list(dict.fromkeys(code[:4] for code in search(labelled.query)))
        place = next((at for at, code in enumerate(headings[:_RANKS], 1) if code in labelled.headings), None)
        outcomes.append(
            Outcome(labelled, place, len(headings), headings[0] if headings else None, tuple(headings[:_SHOWN]))
        )
    return outcomes


def score(outcomes: Iterable[Outcome]) -> Score:
    """The figures of these outcomes."""
    return Tally.of(outcomes).score()
