"""How long a new user waits: from an empty virtual environment (warm package cache) to the first answer.

Run it from the repository's root: ``python -m benchmarks.start_up``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import Figure, show, within
from tests.laptop.product import Product
from tests.servers.ports import wait_until
from tests.settings import REPOSITORY

GOAL_SECONDS = 60
STOP_GOAL_SECONDS = 10


def _timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def _install(folder: Path) -> None:
    stamp = folder / "venv" / "run.stamp"
    subprocess.run(
        ["make", "--quiet", f"VENV={folder / 'venv'}", f"PYTHON={sys.executable}", str(stamp)],
        cwd=REPOSITORY,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def measure() -> list[Figure]:
    """Installs, starts, stops and starts again; about a minute and a half."""
    with tempfile.TemporaryDirectory(prefix="sicargabox-bench-") as name:
        folder = Path(name)
        _install(folder)  # fills the package cache
        subprocess.run(["rm", "-rf", str(folder / "venv")], check=True)
        install = _timed(lambda: _install(folder))
        empty = _timed(lambda: subprocess.run([sys.executable, "-m", "venv", str(folder / "empty")], check=True))
        product = Product(folder)
        try:
            first = _timed(product.start)
            indexed = first + _timed(
                lambda: wait_until(
                    lambda: '"degraded":false' in product.get("PORT", "/api/v1/search?q=celular")[1],
                    seconds=60,
                    what="the first answer of the index",
                )
            )
            stop = _timed(product.stop)
            second = _timed(product.start)
        finally:
            product.stop()
    return [
        Figure("install into an empty .venv (warm package cache)", f"{install:.1f} s"),
        Figure("`make run`: first start until every page answers", f"{first:.1f} s"),
        Figure("`make run`: first start until the index answers", f"{indexed:.1f} s"),
        Figure(
            "`make run`: install and first start, until the first answer",
            f"{install + indexed:.1f} s, {(install + indexed) / empty:.1f} × an empty virtual environment",
            f"≤ {GOAL_SECONDS} s",
            within(install + indexed, most=GOAL_SECONDS),
        ),
        Figure("second start until every page answers", f"{second:.1f} s"),
        Figure(
            "Ctrl-C until every process has ended",
            f"{stop:.1f} s",
            f"≤ {STOP_GOAL_SECONDS} s",
            within(stop, most=STOP_GOAL_SECONDS),
        ),
    ]


if __name__ == "__main__":
    show("From one command to the first answer", measure())
