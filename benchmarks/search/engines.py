"""An engine by its settings, filled and emptied without a task around it.

Imports little, since the process whose memory is measured imports it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

from sicargabox_core.db import Database
from sicargabox_core.search import indexing
from sicargabox_core.search.engine import SearchEngine
from sicargabox_core.search.service import make_engine
from sicargabox_core.settings import load_settings


def engine_of(variables: Mapping[str, str]) -> SearchEngine:
    """The engine that these settings choose."""
    return make_engine(load_settings(**{key.lower(): value for key, value in variables.items()}))


def build(database: Database, engine: SearchEngine, generation: str) -> indexing.Rebuilt:
    """A whole rebuild, without a task around it."""
    return indexing.rebuild(database, engine, generation=generation, on_step=lambda *_: None, publish=nullcontext)


def remove(engine: SearchEngine) -> None:
    """Deletes what the engine holds."""
    serving = engine.status().generation
    if serving is not None:
        engine.delete(serving, publish=nullcontext)
