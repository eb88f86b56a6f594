"""Measures answers against labelled queries: right heading first, among five, and not at all, with 95 % intervals.

A set is CSV with the columns ``query,headings[,lang,kind]``; several acceptable headings are separated by ``|``. It is
split by a hash of the query into a half that may be looked at and a half that is only counted, so that what is tuned
on the first is judged on the second. Our own set travels inside the package (``quality/``).
"""

from __future__ import annotations

import csv
import hashlib
import math
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from unicodedata import combining

from sicargabox_core.errors import InvalidInput

OWN_SET = Path(__file__).parent / "quality" / "queries.csv"
"""Our own labelled queries; what they are and who may read which half: the README beside them."""

_RANKS = 10
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
    """A query's place of the first right heading (from 1; none: not among the first ten) and whether it found any."""

    labelled: Labelled
    place: int | None
    found: int
    first: str | None


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
    """The figures of a group of queries, at heading level."""

    queries: int
    hit1: Share
    hit5: Share
    hit10: Share
    none: Share
    mrr: float


def read_set(path: Path) -> list[Labelled]:
    """Reads a labelled set. Raises ``InvalidInput`` naming the row that is not of the agreed form."""
    try:
        file = path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field="set", remedy="Name a CSV.") from error
    with file:
        reader = csv.DictReader(file)
        if not {"query", "headings"} <= set(reader.fieldnames or ()):
            raise InvalidInput(
                f"{path.name} has the columns {reader.fieldnames}",
                field="set",
                remedy="Begin with the row query,headings,lang,kind.",
            )
        found = []
        for row in reader:
            headings = frozenset(part.strip() for part in (row["headings"] or "").split("|"))
            if not row["query"] or not all(len(code) == 4 and code.isdigit() for code in headings):
                raise InvalidInput(
                    f"{path.name}, row {reader.line_num}: no query or no four-digit headings",
                    field="set",
                    remedy="Write headings such as 8518 or 6402|6404.",
                )
            found.append(Labelled(row["query"], headings, row.get("lang") or "", row.get("kind") or ""))
        return found


def measure(queries: Iterable[Labelled], search: Callable[[str], list[str]]) -> list[Outcome]:
    """Asks ``search`` (query → codes, best first) each query. A heading counts once, at its first line's place."""
    outcomes = []
    for labelled in queries:
        headings = list(dict.fromkeys(code[:4] for code in search(labelled.query)))
        place = next((at for at, code in enumerate(headings[:_RANKS], 1) if code in labelled.headings), None)
        outcomes.append(Outcome(labelled, place, len(headings), headings[0] if headings else None))
    return outcomes


def score(outcomes: Iterable[Outcome]) -> Score:
    """The figures of these outcomes."""
    kept = list(outcomes)
    places = [outcome.place for outcome in kept]
    total = len(places)

    def within(rank: int) -> Share:
        return Share.of(sum(place is not None and place <= rank for place in places), total)

    return Score(
        queries=total,
        hit1=within(1),
        hit5=within(5),
        hit10=within(_RANKS),
        none=Share.of(sum(outcome.found == 0 for outcome in kept), total),
        mrr=sum(1 / place for place in places if place) / total if total else 0.0,
    )
