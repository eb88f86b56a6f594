"""What waiting costs: processor time of a worker and of a scheduler with nothing to do, on PostgreSQL."""

from __future__ import annotations

import subprocess
import time

import psutil

from benchmarks.report import Figure, within
from benchmarks.tasks.options import Options
from benchmarks.tasks.servers import servers
from benchmarks.tasks.throughput import submit

GOAL_PERCENT = 2.0
SETTLE_SECONDS, SECONDS = 8.0, 60.0


def measure(_options: Options) -> list[Figure]:
    """Over a minute, once: what repeats every few seconds averages out within it."""
    with servers() as running, running.installation() as site:
        processes = {
            "scheduler": site.start_scheduler(),
            "worker (parent and one child)": site.start_worker("indexer-worker", running.redis),
        }
        # Once through everything: what is made at the first task is not idling.
        submit(site, 10)
        time.sleep(SETTLE_SECONDS)
        before = {name: _seconds(process) for name, process in processes.items()}
        began = time.monotonic()
        time.sleep(SECONDS)
        took = time.monotonic() - began
        percents = {name: (_seconds(process) - before[name]) / took * 100 for name, process in processes.items()}
    return [
        Figure(
            f"idle CPU of the {name}, {SECONDS:.0f} s",
            f"{percent:.2f} % of a core",
            f"≤ {GOAL_PERCENT:g} %",
            within(percent, most=GOAL_PERCENT),
        )
        for name, percent in percents.items()
    ]


def _seconds(process: subprocess.Popen[bytes]) -> float:
    parent = psutil.Process(process.pid)
    times = [one.cpu_times() for one in [parent, *parent.children(recursive=True)]]
    return sum(float(one.user + one.system) for one in times)
