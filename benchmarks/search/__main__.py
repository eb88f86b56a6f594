"""``python -m benchmarks.search [SECTION …] [--rounds N] [--engines A,B] [--million] [--out FILE]``.

Prints a table that a document can take as it is; ``python -m benchmarks.search.report FILE`` puts that of a run's file
into docs/search-engines.md.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from benchmarks.report import machine
from benchmarks.search.measured import Measured, Run
from benchmarks.search.options import ENGINES, Options
from benchmarks.search.report import table
from benchmarks.search.stage import HEAP, Stage

SECTIONS = {
    "rebuild": "rebuild",
    "made-up": "made_up",
    "http": "over_http",
    "during-rebuild": "during_rebuild",
    "ranker": "ranker",
    "degraded": "degraded",
}


def main() -> None:
    """Measures what was asked for and prints it; the file is written anew after each section."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=Options.rounds, help="times each figure is measured")
    parser.add_argument("--engines", default=",".join(ENGINES), help="with commas between them")
    parser.add_argument("--million", action="store_true", help="a tariff of a million lines too (half an hour more)")
    parser.add_argument("--out", type=Path, help="file for benchmarks.search.report")
    asked = parser.parse_args()
    engines = tuple(asked.engines.split(","))
    if unknown := {*asked.sections} - {*SECTIONS} | {*engines} - {*ENGINES}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if asked.rounds < 1:
        parser.error("--rounds must be 1 or more")
    options = Options(rounds=asked.rounds, engines=engines, million=asked.million)
    figures: list[Measured] = []
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="sicargabox-bench-") as name, Stage(options, Path(name)) as stage:
        run = Run(
            machine=machine(),
            when=datetime.now(UTC).isoformat(timespec="minutes"),
            rounds=options.rounds,
            versions=_versions(stage),
            catalogue=stage.catalogue,
            seconds=seconds,
            figures=figures,
        )
        for section in asked.sections or SECTIONS:
            began = time.monotonic()
            found: list[Measured] = importlib.import_module(f"benchmarks.search.{SECTIONS[section]}").measure(stage)
            figures += found
            seconds[section] = round(time.monotonic() - began)
            print(f"{section}, {seconds[section]:.0f} s", *found, sep="\n  ", file=sys.stderr)
            if asked.out:
                run.write(asked.out)
    print(table([run]))


def _versions(stage: Stage) -> dict[str, str]:
    versions = {"tantivy": metadata.version("tantivy")}
    if "elasticsearch" in stage.options.engines:
        with stage.engine("elasticsearch") as engine:
            version = engine.status().version
        versions["elasticsearch"] = f"{version}, one node, heap {HEAP}"
    return {name: versions[name] for name in stage.options.engines}


if __name__ == "__main__":
    main()
