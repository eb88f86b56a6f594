"""``python -m benchmarks.tasks [SECTION …] [--rounds N]``; all but ``history`` and ``bloat``, which take longer.

Prints a table that a document can take as it is. Each section starts servers of its own; nothing is left behind.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from benchmarks.report import Figure, machine, markdown
from benchmarks.tasks.options import Options

SECTIONS = ("accept", "throughput", "scaling", "backlog", "latency", "interrupted", "memory", "idle")
LONG_SECTIONS = ("history", "bloat")


def main() -> None:
    """Measures what was asked for and prints it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS + LONG_SECTIONS))
    parser.add_argument("--rounds", type=int, default=Options.rounds, help="times each figure is measured")
    asked = parser.parse_args()
    if unknown := set(asked.sections) - {*SECTIONS, *LONG_SECTIONS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    options = Options(rounds=asked.rounds)
    print(machine())
    figures: list[Figure] = []
    whole = time.monotonic()
    for name in asked.sections or SECTIONS:
        began = time.monotonic()
        # Imported when it is asked for: a section may need what is not installed.
        found: list[Figure] = importlib.import_module(f"benchmarks.tasks.{name}").measure(options)
        figures += found
        print(f"{name}, {time.monotonic() - began:.0f} s", *found, sep="\n  ", file=sys.stderr)
    print(f"\nRounds: {options.rounds}; median (least to most). Run time: {time.monotonic() - whole:.0f} s.\n")
    print(markdown(figures))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
