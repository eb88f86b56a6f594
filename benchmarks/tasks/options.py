"""What a run is asked for; every section takes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """``rounds``: how often each figure is measured; its median and its spread are printed."""

    rounds: int = 3
