"""Compares how labelled queries do with how they did: is what was lost more than chance?

Where both measurements know each query's place, they are compared query by query, which sees smaller losses. Against
published counts alone only the shares can be.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from pydantic import BaseModel

from sicargabox_core.search.evaluate import Outcome, Tally
from sicargabox_core.search.quality_report import Report, place_key

# One chance in twenty that anything is called a loss while nothing has changed, over all comparisons together.
_CHANCE = 0.05
_DEPTHS: Mapping[int, Callable[[Tally], int]] = {1: lambda tally: tally.first, 5: lambda tally: tally.among5}
_ALL = "all"


class Change(BaseModel):
    """Queries of a group that were right among the first ``depth`` and no longer are, and the other way round.

    ``chance``: how likely so many losses or more are if nothing has changed: among as many changes by an exact sign
    test, or, where only counts are known, by Fisher's exact test of the two shares (then one of ``lost`` and
    ``gained`` is the difference of the counts, the other 0). ``loss``: it is less likely than chance explains.
    """

    group: str
    depth: int
    lost: int
    gained: int
    chance: float
    loss: bool


def compare(before: Report, outcomes: Sequence[Outcome]) -> list[Change]:
    """What changed, all together and by kind, among the first and the first five.

    Query by query for those that both know, if ``before`` has their places; else by the counts of the same halves.
    """
    if before.places is None:
        return _by_counts(before, Report.of("", outcomes))
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in outcomes:
        then = before.places.get(place_key(one.labelled))
        if then is not None:
            pair = (then or math.inf, one.place or math.inf)
            groups[_ALL].append(pair)
            groups[one.labelled.kind or "none"].append(pair)
    allowed = _allowed(len(groups))
    return [_change(name, depth, pairs, allowed) for name, pairs in groups.items() for depth in _DEPTHS]


def _by_counts(before: Report, now: Report) -> list[Change]:
    halves = {cell.half for cell in now.cells}
    cells = [cell for cell in before.cells if cell.half in halves]
    kinds = [kind for kind in now.kinds() if any(cell.kind == kind for cell in cells)]
    allowed = _allowed(len(kinds) + 1)
    changes = []
    for kind in (None, *kinds) if kinds else ():
        then = Tally.sum(cell for cell in cells if kind in (None, cell.kind))
        tally = now.tally(kind=kind)
        for depth, right in _DEPTHS.items():
            share = right(then) / then.queries
            difference = round(share * tally.queries) - right(tally)
            chance = _at_most(right(tally), tally.queries, right(then), then.queries)
            changes.append(
                Change(
                    group=_ALL if kind is None else kind or "none",
                    depth=depth,
                    lost=max(0, difference),
                    gained=max(0, -difference),
                    chance=chance,
                    loss=chance < allowed,
                )
            )
    return changes


def _allowed(groups: int) -> float:
    return _CHANCE / max(1, groups * len(_DEPTHS))


def _change(group: str, depth: int, pairs: Sequence[tuple[float, float]], allowed: float) -> Change:
    lost = sum(then <= depth < now for then, now in pairs)
    gained = sum(now <= depth < then for then, now in pairs)
    chance = _at_least(lost, lost + gained)
    return Change(group=group, depth=depth, lost=lost, gained=gained, chance=chance, loss=chance < allowed)


def _at_least(successes: int, tosses: int) -> float:
    """The chance of so many heads or more with a fair coin."""
    return float(sum(math.comb(tosses, number) for number in range(successes, tosses + 1)) / 2**tosses)


def _at_most(right: int, queries: int, right_before: int, queries_before: int) -> float:
    """The chance of so few right ones or fewer, if both measurements are of one and the same share."""
    total, hits = queries + queries_before, right + right_before
    fewest = max(0, hits - queries_before)
    ways = sum(math.comb(queries, one) * math.comb(queries_before, hits - one) for one in range(fewest, right + 1))
    return ways / math.comb(total, hits)
