"""Where tests leave the lines that the end of the run shows."""

from __future__ import annotations

import pytest

TOLD = pytest.StashKey[list[str]]()
