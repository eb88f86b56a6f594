"""Points of a small line plot, for a template that draws it as SVG. Knows nothing of what is plotted.

The numbers themselves stand in a table beside it: nobody has to read them off a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 24
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
_MOST_LINES = 6
_EXACT = 1e-9


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its places for ``<polyline points>``, and each point alone with its value."""

    name: str
    points: str
    marks: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot of shares. ``grid``: height and share of each line across; ``band``: the first series' interval."""

    series: tuple[Series, ...]
    band: str
    grid: tuple[tuple[float, float], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


def trend(named: Sequence[tuple[str, Sequence[float]]], intervals: Sequence[tuple[float, float]]) -> Plot:
    """Shares from 0 to 1, oldest first, every series as long as ``intervals``, which are those of the first one."""
    values = [value for _, series in named for value in series] + [end for pair in intervals for end in pair]
    low, high, step = _range(min(values), max(values))
    lines = round((high - low) / step)

    def across(at: int) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (at / (len(intervals) - 1) if len(intervals) > 1 else 0.5), 1)

    def up(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low), 1)

    def path(places: Sequence[tuple[int, float]]) -> str:
        return " ".join(f"{across(at)},{up(value)}" for at, value in places)

    return Plot(
        series=tuple(
            Series(
                name,
                path(list(enumerate(series))),
                tuple((across(at), up(value), value) for at, value in enumerate(series)),
            )
            for name, series in named
        ),
        band=path(
            [
                *((at, upper) for at, (_, upper) in enumerate(intervals)),
                *reversed([(at, lower) for at, (lower, _) in enumerate(intervals)]),
            ]
        ),
        grid=tuple((up(low + step * line), low + step * line) for line in range(lines + 1)),
    )


def _range(least: float, most: float) -> tuple[float, float, float]:
    """The lowest and highest share drawn and the step between lines, which are few and round; all points within."""
    for step in _STEPS:
        # A little less than exact: 0.3 / 0.1 is 2.9999999999999996.
        low, high = math.floor(least / step + _EXACT), math.ceil(most / step - _EXACT)
        if high == low:
            low, high = (low, high + 1) if high * step < 1 else (low - 1, high)
        if high - low <= _MOST_LINES:
            return low * step, high * step, step
    return 0.0, 1.0, _STEPS[-1]
