"""What a run is asked for; every section takes it."""

from __future__ import annotations

from dataclasses import dataclass

ENGINES = ("tantivy", "elasticsearch")


@dataclass(frozen=True)
class Options:
    """``rounds``: how often each figure is measured; median and spread are told. ``million``: that many lines too."""

    rounds: int = 3
    engines: tuple[str, ...] = ENGINES
    million: bool = False
