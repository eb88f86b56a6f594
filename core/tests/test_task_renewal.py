"""How large a worker's child may become, from what its container allows."""

from __future__ import annotations

from pathlib import Path

from sicargabox_core.tasks.renewal import WITHOUT_A_LIMIT_KB, container_memory_bytes, memory_per_child_kb

MEGABYTE_KB = 1024
HELD_KB = 110 * MEGABYTE_KB


def test_children_and_parent_fit_their_container_together() -> None:
    for children in (1, 2, 4):
        limit = memory_per_child_kb(0, children=children, held_kb=HELD_KB, container_bytes=1024 * 2**20)
        # What a child shares with its parent is there once, though the kernel counts it in the size of each.
        assert HELD_KB + children * (limit - HELD_KB) <= 1024 * MEGABYTE_KB * 0.9
        assert limit > HELD_KB


def test_a_container_that_is_too_small_does_not_have_a_child_renewed_after_every_task() -> None:
    assert memory_per_child_kb(0, children=4, held_kb=HELD_KB, container_bytes=128 * 2**20) > HELD_KB


def test_what_was_set_is_taken_and_without_a_limit_there_is_one() -> None:
    assert memory_per_child_kb(300_000, children=2, held_kb=HELD_KB, container_bytes=2**30) == 300_000
    assert memory_per_child_kb(0, children=2, held_kb=HELD_KB, container_bytes=None) == HELD_KB + WITHOUT_A_LIMIT_KB


def test_the_least_limit_of_either_version_of_control_groups_is_found(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/pod/container\n5:memory:/old\n")
    assert container_memory_bytes(tmp_path, own) is None
    _limit(tmp_path / "pod/container/memory.max", "max")
    _limit(tmp_path / "memory/old/memory.limit_in_bytes", "9223372036854771712")
    assert container_memory_bytes(tmp_path, own) is None
    _limit(tmp_path / "pod/container/memory.max", "536870912")
    _limit(tmp_path / "memory.max", "1073741824")
    assert container_memory_bytes(tmp_path, own) == 512 * 2**20


def _limit(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")
