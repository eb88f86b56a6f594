"""How much memory a worker's child may come to hold before it is replaced, between two tasks, by a fresh one.

Python gives little memory back, so a child is as large as its largest task ever was. A container that reaches its
limit kills whichever process it likes, in the middle of a task; a child that is renewed loses nothing. It only
calculates: Celery looks after each task and forks the new child.
"""

from __future__ import annotations

from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

WITHOUT_A_LIMIT_KB = 512 * 1024
# The rest of the container's memory: the parent's growth, page tables, files in tmpfs.
_USABLE = 0.9
# Less than any task needs; a child that starts above its limit would be renewed after every task.
_LEAST_ROOM_KB = 32 * 1024
_UNLIMITED_BYTES = 1 << 50


def memory_per_child_kb(configured: int, *, children: int, held_kb: int, container_bytes: int | None) -> int:
    """The resident size in kB at which a child is replaced: ``configured``, or when that is 0 what fits the container.

    ``held_kb`` is what the parent holds before it forks: children share it, so it is there once, but the kernel counts
    it in the size of each. ``container_bytes`` none: there is no limit to fit into.
    """
    if configured:
        return configured
    if container_bytes is None:
        return held_kb + WITHOUT_A_LIMIT_KB
    room = (container_bytes / 1024 * _USABLE - held_kb) / max(1, children)
    if room < _LEAST_ROOM_KB:
        log.warning(
            "the container's memory is too small for that many children",
            container_mb=container_bytes // 2**20,
            children=children,
            remedy="Raise its limit or start the worker with a smaller --concurrency.",
        )
    return held_kb + max(_LEAST_ROOM_KB, int(room))


def container_memory_bytes(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The least memory limit of the control groups this process is in, of either version; none without one."""
    limits = [root / "memory.max", root / "memory" / "memory.limit_in_bytes"]
    try:
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                limits.append(root / path.lstrip("/") / "memory.max")
            elif "memory" in controllers.split(","):
                limits.append(root / "memory" / path.lstrip("/") / "memory.limit_in_bytes")
    except (OSError, ValueError):
        pass  # another system than Linux, or one without control groups: only its root can tell
    found = [limit for file in limits if (limit := _read(file)) is not None]
    return min(found, default=None)


def _read(file: Path) -> int | None:
    try:
        limit = int(file.read_text())
    except (OSError, ValueError):
        return None  # not there, or "max"
    return limit if limit < _UNLIMITED_BYTES else None
