"""How the index in Elasticsearch is, for the page, the API and the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from elasticsearch import Elasticsearch

from sicargabox_core.errors import Conflict, DataFault
from sicargabox_core.search.elasticsearch_errors import clear_errors
from sicargabox_core.search.elasticsearch_generations import NOTHING_KNOWN, OTHER_MAPPING, Generations, Stored
from sicargabox_core.search.elasticsearch_mapping import MAPPING_HASH
from sicargabox_core.search.elasticsearch_state import Record, State
from sicargabox_core.search.engine import EngineStatus, Fault, Generation, Health


def status_of(
    generations: Generations, state: State, client: Elasticsearch, *, name: str, version: str
) -> EngineStatus:
    """Health, generations, and what is known of the one that serves. Raises what ``clear_errors`` makes of a fault."""
    stored = generations.stored(client)
    sizes: dict[str, Any] = {}
    if stored:
        with clear_errors():
            told = client.indices.stats(index=[one.index for one in stored], metric=["docs", "store"])
        sizes = told["indices"]
    building = [one for one in stored if one.building and not one.serves]
    unfinished = [_generation(one, "building", sizes, None) for one in building]
    names = [one.generation for one in building]
    nothing = EngineStatus(name, ready=False, building=names, health="red", version=version, generations=unfinished)
    try:
        serving = generations.serving(stored)
    except DataFault as error:
        all_of_them = [_generation(one, "serving", sizes, None) for one in stored if one.serves]
        return replace(nothing, problem=str(error), fault="several_indexes", generations=[*all_of_them, *unfinished])
    if serving is None:
        problem, fault = _why_nothing_serves(generations, client)
        return replace(nothing, problem=problem, fault=fault)
    record = state.record(serving.index, client=client)
    health: Health = "red"
    why: tuple[str, Fault] | None = (f"{NOTHING_KNOWN}. Rebuild the index.", "unreadable")
    if record:
        with clear_errors():
            health = client.cluster.health(index=serving.index)["status"]
        why = None
        if health == "red":
            why = ("Elasticsearch has lost a part of the index. Look at its nodes, or rebuild the index.", "lost_part")
        elif serving.mapping != MAPPING_HASH:
            why = (f"{OTHER_MAPPING}. Rebuild the index.", "other_mapping")
    mine = _generation(serving, "serving", sizes, record)
    before = [
        _generation(one, "previous", sizes, state.record(one.index, client=client))
        for one in stored
        if record and one.generation == record.previous and not one.serves and not one.building
    ]
    return EngineStatus(
        name,
        ready=health != "red",
        documents=mine.documents or 0,
        size=mine.size or 0,
        generation=serving.generation,
        previous=record.previous if record else None,
        number=record.number if record else 0,
        built_at=record.built_at if record else None,
        seconds=record.seconds if record else None,
        proof=record.proof if record else None,
        building=names,
        problem=why[0] if why else None,
        fault=why[1] if why else None,
        health=health,
        version=version,
        generations=[mine, *before, *unfinished],
    )


def _why_nothing_serves(generations: Generations, client: Elasticsearch) -> tuple[str, Fault]:
    try:
        generations.check_alias_is_free(None, client)
    except Conflict as error:
        return str(error), "name_taken"
    return "there is no search index yet. Rebuild the index.", "no_index"


def _generation(one: Stored, role: Any, sizes: dict[str, Any], record: Record | None) -> Generation:
    told = sizes.get(one.index, {}).get("primaries", {})
    return Generation(
        one.generation,
        role,
        documents=told.get("docs", {}).get("count"),
        size=told.get("store", {}).get("size_in_bytes"),
        built_at=record.built_at if record else None,
    )
