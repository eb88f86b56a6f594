"""What a measurement of the search came to: counts by half, kind and language, and which goals they meet.

A report holds no text of the tariff, and of the half that is only counted no query: what is kept, sent or shown may be
read by whoever tunes the search.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sicargabox_core.errors import InvalidInput
from sicargabox_core.search.evaluate import Labelled, Outcome, Score, Tally

Half = Literal["open", "counted"]
Measure = Literal["hit1", "hit5", "mrr", "none"]

_ENGINES = ("tantivy", "elasticsearch")
_MIXED = "mixed"
_MIXED_BEHIND = 0.05


def own_baseline(engine: str) -> Path:
    """The counts of our own set on the official tariff with this engine, when the search was last changed on purpose.

    Raises ``InvalidInput`` for answers of another engine, or of several.
    """
    path = Path(__file__).parent / "quality" / f"baseline-{engine}.json"
    if engine not in _ENGINES:
        raise InvalidInput(
            f"there is no stored baseline for {engine or 'nothing'}",
            field="baseline",
            remedy="Ask an installation whose index answers, or name a file of your own.",
        )
    return path


class Cell(Tally):
    """The counts of one kind in one language, in one half."""

    half: Half
    kind: str
    lang: str


class Report(BaseModel):
    """Counts of a set's queries, asked of one engine.

    ``queries_sha256`` names the set that was asked, ``left_out`` counts queries whose headings the catalogue lacks.
    ``places`` are those of right headings by the first 16 digits of ``Labelled.key``, 0 for not among the first ten:
    they are kept where one measurement is compared with the next, query by query, and left out of what is published.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str
    queries_sha256: str
    left_out: int = 0
    cells: list[Cell]
    places: dict[str, int] | None = None

    @classmethod
    def of(cls, engine: str, outcomes: Iterable[Outcome], *, left_out: int = 0) -> Report:
        """The report of these outcomes, with their places."""
        groups: dict[tuple[Half, str, str], list[Outcome]] = defaultdict(list)
        places = {}
        for one in outcomes:
            labelled = one.labelled
            groups["counted" if labelled.counted else "open", labelled.kind, labelled.lang].append(one)
            places[place_key(labelled)] = one.place or 0
        return cls(
            engine=engine,
            queries_sha256=hashlib.sha256("\n".join(sorted(places)).encode()).hexdigest(),
            left_out=left_out,
            cells=[
                Cell(half=half, kind=kind, lang=lang, **Tally.of(group).model_dump())
                for (half, kind, lang), group in sorted(groups.items())
            ],
            places=places,
        )

    @classmethod
    def read(cls, path: Path) -> Report:
        """Raises ``InvalidInput`` when the file is none or not to be read."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InvalidInput(
                f"{path} is not a baseline", field="baseline", remedy="Write one with --save-baseline."
            ) from error

    def write(self, path: Path, *, counts_only: bool) -> None:
        """As JSON; ``counts_only`` leaves out which query is where."""
        path.write_text(
            self.model_dump_json(indent=1, exclude={"places"} if counts_only else None) + "\n", encoding="utf-8"
        )

    def kinds(self) -> list[str]:
        """The kinds of the set, those with most queries first."""
        sizes: dict[str, int] = defaultdict(int)
        for cell in self.cells:
            sizes[cell.kind] += cell.queries
        return sorted(sizes, key=lambda kind: (-sizes[kind], kind))

    def languages(self) -> list[str]:
        """The languages of the set."""
        return sorted({cell.lang for cell in self.cells})

    def tally(
        self, *, half: Half | None = None, kind: str | None = None, lang: str | None = None, but: str | None = None
    ) -> Tally:
        """The counts of a part of the set; ``but`` leaves one kind out."""
        return Tally.sum(
            cell
            for cell in self.cells
            if half in (None, cell.half)
            and kind in (None, cell.kind)
            and lang in (None, cell.lang)
            and cell.kind != but
        )

    def score(
        self, *, half: Half | None = None, kind: str | None = None, lang: str | None = None, but: str | None = None
    ) -> Score:
        """The figures of a part of the set."""
        return self.tally(half=half, kind=kind, lang=lang, but=but).score()


@dataclass(frozen=True, slots=True)
class Goal:
    """What the counted half is to reach. ``kind``: one kind of query, else all. ``none`` is a most, the rest a least.

    A negative bound is how far it may stay behind the rest of the set.
    """

    kind: str | None
    measure: Measure
    bound: float

    @property
    def name(self) -> str:
        """How people and programs call it, as ``plain hit5``."""
        return f"{self.kind or 'all'} {self.measure}"


@dataclass(frozen=True, slots=True)
class GoalReached:
    """A goal beside what was reached; ``bound`` is the goal's, or what the rest of the set makes of it."""

    goal: Goal
    bound: float
    value: float
    met: bool


GOALS: tuple[Goal, ...] = (
    Goal(None, "hit5", 0.90),
    Goal(None, "hit1", 0.75),
    Goal(None, "mrr", 0.81),
    Goal(None, "none", 0.005),
    Goal("plain", "hit5", 0.94),
    Goal("english", "hit5", 0.92),
    Goal("typo", "hit5", 0.88),
    Goal("brand", "hit5", 0.70),
    Goal("generic", "hit5", 0.95),
    # Within five points of the rest: two languages in one query are to cost little.
    Goal(_MIXED, "hit5", -_MIXED_BEHIND),
    Goal("title", "hit5", 0.65),
)


def goals_of(report: Report, half: Half = "counted") -> list[GoalReached]:
    """Each goal with what this half of the set reached; goals of kinds that it does not have are left out."""
    reached = []
    for goal in GOALS:
        score = report.score(half=half, kind=goal.kind)
        if not score.queries:
            continue
        value = _value(score, goal.measure)
        bound = goal.bound
        if bound < 0:
            bound += _value(report.score(half=half, but=goal.kind), goal.measure)
        reached.append(GoalReached(goal, bound, value, value <= bound if goal.measure == "none" else value >= bound))
    return reached


def place_key(labelled: Labelled) -> str:
    """Names a query in ``Report.places``: 64 bits of its hash, so that a report of thousands stays small."""
    return labelled.key[:16]


def answerable(queries: Sequence[Labelled], headings: frozenset[str]) -> list[Labelled]:
    """The queries of which at least one right heading is in the catalogue; of the others no search could be right."""
    return [one for one in queries if one.headings & headings]


def _value(score: Score, measure: Measure) -> float:
    found = getattr(score, measure)
    return float(found if measure == "mrr" else found.value)
