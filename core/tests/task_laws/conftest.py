"""The world of the task laws, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
from core.tests.task_laws.world import World

from sicargabox_core.db import Database


@pytest.fixture
def world(database: Database) -> World:
    return World(database)
