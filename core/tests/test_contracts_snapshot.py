"""Payloads and results are wire format: rows written by one release are read by another.

A changed schema fails here until its task's ``version`` is raised (or the task has a new name) and the snapshot is
written anew: ``python core/tests/test_contracts_snapshot.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sicargabox_core.tasks.contracts import TASKS

SNAPSHOT = Path(__file__).with_name("contracts.snapshot.json")


def contracts() -> dict[str, Any]:
    """What crosses the queue, by task name. Documentation may change freely."""
    return {
        name: {
            "queue": spec.queue.value,
            "version": spec.version,
            "payload": _without_words(spec.payload.model_json_schema()),
            "result": _without_words(spec.result.model_json_schema()),
        }
        for name, spec in sorted(TASKS.items())
    }


def _without_words(schema: Any) -> Any:
    if isinstance(schema, dict):
        # A property may be called "title": only keywords are left out, which hold texts and not schemas.
        return {
            key: _without_words(value)
            for key, value in schema.items()
            if not (key in ("title", "description") and isinstance(value, str))
        }
    return [_without_words(one) for one in schema] if isinstance(schema, list) else schema


def test_no_contract_changes_without_a_new_version() -> None:
    known: dict[str, Any] = json.loads(SNAPSHOT.read_text())
    now = contracts()
    assert set(known) <= set(now), "a task's name is never dropped while rows may carry it"
    changed = [
        name
        for name, was in known.items()
        if now[name]["version"] <= was["version"] and {**now[name], "version": 0} != {**was, "version": 0}
    ]
    assert changed == [], "raise the version of these tasks, or give the incompatible one a new name"


def test_the_snapshot_is_the_present_contracts() -> None:
    assert json.loads(SNAPSHOT.read_text()) == contracts(), "write it anew, as above"


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(contracts(), indent=2, ensure_ascii=False) + "\n")
