"""What is asked of Elasticsearch, in its query language. Knows no client."""

from __future__ import annotations

import re
from typing import Any

from sicargabox_core.search.completions import MOST_COMPLETIONS, term_prefix
from sicargabox_core.search.elasticsearch_mapping import FIELD_OF, LONGEST_BEGINNING
from sicargabox_core.search.engine import (
    OWN_WEIGHT,
    PARENT_WEIGHT,
    PHRASE_WEIGHT,
    TERM_WEIGHT,
    Filters,
    Lookup,
)
from sicargabox_core.search.evidence import OWN, PARENT, TERM

_WEIGHTS = {FIELD_OF[TERM]: TERM_WEIGHT, FIELD_OF[OWN]: OWN_WEIGHT, FIELD_OF[PARENT]: PARENT_WEIGHT}
_MEANT_BY_PATTERNS = re.compile(r'([.?+*|{}\[\]()"\\#@&<>~^$-])')


def candidates_body(lookup: Lookup, limit: int, filters: Filters) -> dict[str, Any] | None:
    """The search for candidates: codes and hashes alone. None when nothing is looked for."""
    wanted = [
        {"term": {"phrases": {"value": phrase, "boost": PHRASE_WEIGHT * (1 + phrase.count("_"))}}}
        for phrase in lookup.phrases
    ]
    for stemmed, weight in lookup.stems:
        wanted += [{"term": {name: {"value": stemmed, "boost": factor * weight}}} for name, factor in _WEIGHTS.items()]
    if not wanted and not lookup.code:
        return None
    kept = [("above", lookup.code), ("category", filters.category), ("above", filters.chapter)]
    query: dict[str, Any] = {"filter": [{"term": {name: value}} for name, value in kept if value]}
    if wanted:
        query["must"] = [{"bool": {"should": wanted}}]
    body: dict[str, Any] = {
        "query": {"bool": query},
        "size": limit,
        "track_total_hits": False,
        # Stored text is not touched: what a line's evidence is, this process mostly knows already by the hash.
        "stored_fields": "_none_",
        "docvalue_fields": ["code", "hash"],
    }
    if not wanted:
        # All score the same, and of a long chapter not all fit.
        body["sort"] = [{"code": "asc"}]
    return body


def completions_body(typed: str) -> dict[str, Any]:
    """The search for phrases that begin with ``typed`` (folded), each with its number of lines."""
    pattern = _MEANT_BY_PATTERNS.sub(r"\\\1", term_prefix(typed))
    beginning = {"completions.begins": term_prefix(typed)[:LONGEST_BEGINNING]}
    return {
        "size": 0,
        "track_total_hits": False,
        "query": {"bool": {"filter": [{"term": beginning}]}},
        "aggs": {"phrases": {"terms": {"field": "completions", "include": pattern + ".*", "size": MOST_COMPLETIONS}}},
    }


def below(codes: list[str]) -> dict[str, Any]:
    """Every document at or below one of these codes."""
    return {"terms": {"above": codes}}
