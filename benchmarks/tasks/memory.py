"""What a waiting task costs Redis: the server's memory with 10,000 of them less that without, and its own estimate."""

from __future__ import annotations

from typing import Any

from benchmarks.report import Figure, spread
from benchmarks.tasks.options import Options
from benchmarks.tasks.servers import Servers, servers
from benchmarks.tasks.throughput import CELERY, PEERS, Peer, fill_peer, peer_environment, submit
from sicargabox_core.tasks.contracts import NO_OP

TASKS = 10_000
QUEUE = NO_OP.queue.value
MAXIMUM_BYTES = 256 * 2**20
# The server evicts results before it is full, and needs room for buffers.
USABLE = 0.9


def measure(options: Options) -> list[Figure]:
    """Bytes per waiting task, ours and of the peers that keep tasks in Redis."""
    ours: list[float] = []
    listed: list[float] = []
    peers: dict[str, list[float]] = {}
    with servers() as running:
        for _ in range(options.rounds):
            with running.installation() as site:
                before = _used(running)
                submit(site, TASKS)
                ours.append((_used(running) - before) / TASKS)
                with running.redis.client() as client:
                    usage: Any = client.memory_usage(QUEUE, samples=0)
                    listed.append(usage / TASKS)
            for peer in _in_redis():
                peers.setdefault(peer.name, []).append(_of_peer(running, peer))
    fits = int(MAXIMUM_BYTES * USABLE / max(ours))
    return [
        Figure(
            f"Redis memory per waiting task, {TASKS:,} of them",
            f"{spread(ours, ' bytes')}; {spread(listed, ' bytes')} by MEMORY USAGE; {fits:,} fit in 90 % of 256 MB",
        ),
        *(Figure(f"the same, {name}", spread(values, " bytes")) for name, values in peers.items()),
    ]


def _in_redis() -> list[Peer]:
    modules = {CELERY.module, "dramatiq_task", "rq_task"}
    return [next(peer for peer in PEERS if peer.module == module) for module in sorted(modules)]


def _of_peer(running: Servers, peer: Peer) -> float:
    running.empty_redis()
    before = _used(running)
    fill_peer(peer, peer_environment(running, "", running.folder / "no-marks"), TASKS)
    return (_used(running) - before) / TASKS


def _used(running: Servers) -> int:
    with running.redis.client() as client:
        # What the buffer of the append-only file holds at this moment is no task's.
        client.execute_command("MEMORY PURGE")
        facts: Any = client.info("memory")
        return int(facts["used_memory"]) - int(facts["mem_not_counted_for_evict"])
