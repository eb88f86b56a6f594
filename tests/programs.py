"""Finds the programs that tests of the chart and on a cluster run. It starts none of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from tests.settings import absent, machine


def program(name: Literal["helm", "kubectl", "promtool", "kubeconform"]) -> Path:
    """The program: where the settings say, else on PATH. Skips the test (or fails it) when it is not there."""
    configured: Path | None = getattr(machine(), name)
    found = configured or shutil.which(name)
    if found is None or not Path(found).is_file():
        absent(f"the program {name}", f"put it on PATH, or set SICARGABOX_TEST_{name.upper()} to it.")
    return Path(found)
