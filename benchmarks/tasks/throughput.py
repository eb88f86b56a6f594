"""How many tasks that do nothing go through two worker processes in a second, beside other task queues.

Each contestant finds its backlog waiting and starts its workers; what it did while they were starting is not counted.
Ours needs its scheduler as well, which runs beside it. Contestants take turns, round by round, on the same servers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sqlalchemy import text

from benchmarks.installation import Installation
from benchmarks.processes import Processes
from benchmarks.report import Figure, spread, within
from benchmarks.tasks.options import Options
from benchmarks.tasks.peers.surroundings import MARKS, POSTGRES_URL, REDIS_URL, rate, read_marks
from benchmarks.tasks.servers import Servers, servers
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import NO_OP, NoOp
from tests.servers.ports import wait_until

WORKERS = 2
OUR_TASKS = 2500
PATIENCE_SECONDS = 120
# A backlog is what a contestant does in some seconds; on a machine that is busy otherwise it need not reach its end.
LONGEST_SECONDS = 6.0
_HERE = "benchmarks.tasks.peers"
_RQ = ("rq.cli", "worker", "--quiet", "--url", "{redis}/0")
_PROCRASTINATE = ("procrastinate", f"--app={_HERE}.procrastinate_task.app", "worker")


@dataclass(frozen=True)
class Peer:
    """Another task queue: the module of its task, its backlog, and the command of a worker (``together``: of all).

    ``goal``: the least ratio of ours to it; none where there is none.
    """

    name: str
    module: str
    tasks: int
    command: tuple[str, ...]
    goal: float | None = None
    together: bool = False

    def commands(self, workers: int, redis: str) -> list[tuple[str, ...]]:
        """What is to be started."""
        return [
            tuple(part.format(redis=redis, workers=workers, number=number) for part in self.command)
            for number in range(1 if self.together else workers)
        ]


CELERY = Peer(
    "Celery",
    "celery_task",
    5000,
    (
        *("celery", "-A", f"{_HERE}.celery_task", "worker", "-Q", "bare", "-c", "1", "-n", "bare{number}@%h"),
        *("--without-gossip", "--without-mingle"),
    ),
    goal=0.4,
)
PEERS = (
    CELERY,
    Peer(
        "Dramatiq, one thread each",
        "dramatiq_task",
        5000,
        ("dramatiq", "-p", "{workers}", "-t", "1", f"{_HERE}.dramatiq_task"),
        together=True,
    ),
    Peer("RQ, SimpleWorker", "rq_task", 3000, (*_RQ, "--worker-class", "rq.SimpleWorker"), goal=1.0),
    Peer("RQ, its default worker (a fork per job)", "rq_task", 600, _RQ, goal=1.0),
    Peer(
        "Procrastinate, one task at a time each",
        "procrastinate_task",
        1500,
        (*_PROCRASTINATE, "--concurrency=1"),
        goal=1.0,
    ),
    Peer(
        "Procrastinate, ten at a time each", "procrastinate_task", 1500, (*_PROCRASTINATE, "--concurrency=10"), goal=1.0
    ),
)


def measure(options: Options) -> list[Figure]:
    """Ours and every peer, tasks a second."""
    return _measure(options, PEERS)


def measure_against_celery(options: Options) -> list[Figure]:
    """Ours and bare Celery alone, for which nothing need be installed."""
    return _measure(options, [CELERY])


def _measure(options: Options, peers: Sequence[Peer]) -> list[Figure]:
    contestants: dict[str, Callable[[Servers], float]] = {"ours": lambda all_: ours(all_, WORKERS)}
    for peer in peers:
        contestants[peer.name] = lambda all_, peer=peer: run_peer(all_, peer, WORKERS)  # type: ignore[misc]  # bound early
    with servers() as running:
        rates = in_turn(running, contestants, options.rounds)
    return [
        compared(
            f"no-op tasks through two worker processes, against {peer.name}", rates["ours"], rates[peer.name], peer.goal
        )
        for peer in peers
    ]


def in_turn(
    running: Servers, contestants: dict[str, Callable[[Servers], float]], rounds: int
) -> dict[str, list[float]]:
    """Tasks a second of each contestant in each round."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            rates[name].append(run(running))
    return rates


def compared(what: str, ours: Sequence[float], theirs: Sequence[float], goal: float | None) -> Figure:
    """Both rates, and the ratio of each round's pair: its median is what the goal is about."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    value = f"{spread(ours, '/s')} against {spread(theirs, '/s')}: ratio {spread(ratios, digits=2)}"
    if goal is None:
        return Figure(what, value)
    return Figure(what, value, f"ratio ≥ {goal:g}", within(median(ratios), least=goal))


# --- ours ------------------------------------------------------------------------------------------------------------
def ours(running: Servers, workers: int) -> float:
    """Tasks a second of our indexer-workers, one child each, with a scheduler."""
    with running.installation() as site:
        submit(site, OUR_TASKS)
        site.start_scheduler()
        for number in range(workers):
            site.launch_worker("indexer-worker", name=f"indexer-{number}")
        return drained(site)


def submit(site: Installation, count: int) -> None:
    """Accepts and publishes as the API does, in one transaction."""
    with site.database.write() as session:
        ids = [store.submit(session, NO_OP, NoOp(), initiated_by="benchmark").task.id for _ in range(count)]
    with site.database.read() as session:
        site.publisher.publish(store.hints(session, ids))
    assert site.publisher.flush(PATIENCE_SECONDS)


def drained(site: Installation) -> float:
    """Waits until nothing is left, or long enough; tasks a second by the times of their ends in SQL, all SUCCESS."""
    progress = text("SELECT count(*), max(finished_at) - min(finished_at) FROM tasks WHERE finished_at IS NOT NULL")
    every = text("SELECT count(*) FROM tasks")

    def enough() -> bool:
        with site.database.read() as session:
            done, took = session.execute(progress).one()
            return bool(done == session.scalar(every) or (took and took.total_seconds() >= LONGEST_SECONDS))

    wait_until(enough, seconds=PATIENCE_SECONDS, what="tasks have ended", interval=0.25)
    with site.database.read() as session:
        ends = session.execute(
            text("SELECT finished_at, state FROM tasks WHERE finished_at IS NOT NULL ORDER BY finished_at")
        ).all()
    assert {state for _, state in ends} == {"SUCCESS"}
    return rate([(number, end.timestamp()) for number, (end, _) in enumerate(ends)])


# --- peers -----------------------------------------------------------------------------------------------------------
def run_peer(running: Servers, peer: Peer, workers: int) -> float:
    """Tasks a second of a peer's workers."""
    folder, database = running.new_folder(), running.cluster.create(migrated=False)
    marks = folder / "marks"
    environment = peer_environment(running, database, marks)
    running.empty_redis()
    with Processes(folder) as processes:
        fill_peer(peer, environment)
        started = [
            processes.start(f"{peer.module}-{number}", sys.executable, "-m", *command, environment=environment)
            for number, command in enumerate(peer.commands(workers, running.redis.url))
        ]
        wait_until(
            lambda: _ended(started, folder) or _enough(read_marks(marks), peer.tasks),
            seconds=PATIENCE_SECONDS,
            what=f"{peer.name} has done its tasks",
            interval=0.25,
        )
    running.cluster.drop(database)
    return rate(read_marks(marks))


def peer_environment(running: Servers, database: str, marks: Path) -> dict[str, str]:
    """Where a peer's processes find everything."""
    return {REDIS_URL: running.redis.url, POSTGRES_URL: database, MARKS: str(marks)}


def fill_peer(peer: Peer, environment: dict[str, str], count: int | None = None) -> None:
    """Puts its backlog, or ``count`` tasks, into a peer's queue."""
    command = [sys.executable, "-m", f"{_HERE}.fill", peer.module, str(count or peer.tasks)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{peer.name} could not be filled: {done.stderr[-2000:]}")


def _enough(marks: Sequence[tuple[int, float]], tasks: int) -> bool:
    return bool(marks) and (marks[-1][0] == tasks or marks[-1][1] - marks[0][1] >= LONGEST_SECONDS)


def _ended(started: Sequence[subprocess.Popen[bytes]], folder: Path) -> bool:
    for process in started:
        if process.poll() is not None:
            logs = "".join(path.read_text(errors="replace")[-1500:] for path in folder.glob("*.log"))
            raise AssertionError(f"a worker ended with {process.returncode}: {logs}")
    return False
