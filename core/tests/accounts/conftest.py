"""Cheap password hashes: the real ones are meant to take their time, half a minute over these tests."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher

from sicargabox_core.accounts import passwords


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", hasher)
    monkeypatch.setattr(passwords, "_NOBODY", hasher.hash("nobody"))
