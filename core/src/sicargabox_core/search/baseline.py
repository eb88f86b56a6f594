"""Compares how labelled queries do with how they did: is what was lost more than chance?

A baseline holds each query's place by the hash of the query, so that it may lie beside the set without telling anybody
which queries of the counted half fail.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sicargabox_core.errors import InvalidInput
from sicargabox_core.search.evaluate import Outcome

# One chance in twenty that anything is called a loss while nothing has changed, over all comparisons together.
_CHANCE = 0.05
_DEPTHS = (1, 5)


class Baseline(BaseModel):
    """Places of right headings as once measured: ``places`` by ``Labelled.key``, 0 for not among the first ten."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str
    places: dict[str, int]

    @classmethod
    def of(cls, engine: str, outcomes: Iterable[Outcome]) -> Baseline:
        """These outcomes as a baseline."""
        return cls(engine=engine, places={one.labelled.key: one.place or 0 for one in outcomes})

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Raises ``InvalidInput`` when the file is none or not to be read."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InvalidInput(
                f"{path} is not a baseline", field="baseline", remedy="Write one with --save-baseline."
            ) from error


class Change(BaseModel):
    """Queries of a group that were right among the first ``depth`` and no longer are, and the other way round.

    ``chance``: how likely so many losses or more are among as many changes if losses and gains are equally likely
    (exact sign test, one-sided). ``loss``: it is less likely than chance explains.
    """

    group: str
    depth: int
    lost: int
    gained: int
    chance: float
    loss: bool


def compare(baseline: Baseline, outcomes: Sequence[Outcome]) -> list[Change]:
    """What changed for queries that both know, all together and by kind, among the first and the first five."""
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in outcomes:
        then = baseline.places.get(one.labelled.key)
        if then is not None:
            pair = (then or math.inf, one.place or math.inf)
            groups["all"].append(pair)
            groups[one.labelled.kind or "none"].append(pair)
    allowed = _CHANCE / max(1, len(groups) * len(_DEPTHS))
    return [_change(name, depth, pairs, allowed) for name, pairs in groups.items() for depth in _DEPTHS]


def _change(group: str, depth: int, pairs: Sequence[tuple[float, float]], allowed: float) -> Change:
    lost = sum(then <= depth < now for then, now in pairs)
    gained = sum(now <= depth < then for then, now in pairs)
    chance = _at_least(lost, lost + gained)
    return Change(group=group, depth=depth, lost=lost, gained=gained, chance=chance, loss=chance < allowed)


def _at_least(successes: int, tosses: int) -> float:
    """The chance of so many heads or more with a fair coin."""
    return float(sum(math.comb(tosses, number) for number in range(successes, tosses + 1)) / 2**tosses)
