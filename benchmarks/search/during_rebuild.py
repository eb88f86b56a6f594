"""Searches at a steady rate while one rebuild after another runs, beside the same before.

The rebuilds are tasks, done by the real worker; API, worker, engine and client share the machine. Only queries are
asked that find something, so an empty answer is a moment without an index.
"""

from __future__ import annotations

import threading

from benchmarks.installation import Installation
from benchmarks.load import Outcome, closed_loop, open_loop
from benchmarks.report import spread
from benchmarks.search.asking import Asked, Watch, quantiles, with_results
from benchmarks.search.measured import Measured
from benchmarks.search.stage import Stage
from sicargabox_core.tasks.contracts import REBUILD_INDEX, RebuildIndex, RebuildIndexResult
from tests.servers.valkey import ValkeyServer

SECTION = "during-rebuild"
RATE, SECONDS = 20.0, 15.0
WARM_UP = 1000
TASK_SECONDS = 120.0


def measure(stage: Stage) -> list[Measured]:
    """Latencies and what went wrong for each engine."""
    return [figure for name in stage.options.engines for figure in _of(stage, name)]


def _of(stage: Stage, name: str) -> list[Measured]:
    before: list[Outcome] = []
    during: list[Outcome] = []
    rebuilds: list[float] = []
    valkey = ValkeyServer()
    try:
        valkey.start()
        with stage.installation(name, valkey.url) as site:
            site.start_api()
            site.start_scheduler()
            site.start_worker("indexer-worker", valkey)
            asked = Asked(with_results(site.port, [one.query for one in stage.everyday]))
            closed_loop(site.port, asked, clients=1, most=WARM_UP)
            calm, watch = Watch(), Watch()
            for _ in range(stage.options.rounds):
                before.append(open_loop(site.port, asked, rate=RATE, seconds=SECONDS, hoped=calm))
                with _Rebuilds(site) as running:
                    during.append(open_loop(site.port, asked, rate=RATE, seconds=SECONDS, hoped=watch))
                rebuilds += running.seconds
    finally:
        valkey.stop()
    ratios = [after.quantile(0.95) / calm.quantile(0.95) for after, calm in zip(during, before, strict=True)]
    failed = sum(one.failed for one in during)

    def figure(what: str, value: str, goal: str = "", met: bool | None = None) -> Measured:
        return Measured(SECTION, name, what, value, goal, met)

    return [
        figure(f"search before, {RATE:.0f} requests a second for {SECONDS:.0f} s", quantiles(before)),
        figure("search while rebuilds run, the same rate and time", quantiles(during)),
        figure("p95 during ÷ before", spread(ratios, " ×", digits=2)),
        figure("rebuilds in that time, each", f"{len(rebuilds)}, {spread(rebuilds, ' s', digits=1)}"),
        figure(
            "searches that failed, found nothing; that SQL answered",
            f"{failed}, {watch.empty}; {watch.from_sql} of {watch.answers} (before: {calm.from_sql})",
            "0, 0",
            failed == 0 and watch.empty == 0,
        ),
    ]


class _Rebuilds:
    """One after the other, from entering until leaving; the last one is waited for."""

    def __init__(self, site: Installation) -> None:
        self._site = site
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rebuilds")
        self._fault: Exception | None = None
        self.seconds: list[float] = []

    def __enter__(self) -> _Rebuilds:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._enough.set()
        self._thread.join()
        if self._fault is not None:
            raise AssertionError("a rebuild did not end well") from self._fault

    def _run(self) -> None:
        try:
            while not self._enough.is_set():
                task = self._site.tasks.submit(REBUILD_INDEX, RebuildIndex(), initiated_by="benchmark").task
                result = self._site.tasks.result(REBUILD_INDEX, self._site.tasks.wait(task.id, TASK_SECONDS))
                assert isinstance(result, RebuildIndexResult)
                self.seconds.append(result.seconds)
        except Exception as error:  # noqa: BLE001  # raised again where the benchmark waits for this thread
            self._fault = error
