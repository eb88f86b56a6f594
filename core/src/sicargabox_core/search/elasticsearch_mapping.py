"""What an index of Elasticsearch looks like, and a document in it. Knows no client.

What is searched are the stems that ``evidence`` makes, split at white space and nothing else: both engines then fetch
the same lines by the same words, and one ranker answers from them. ``begins`` holds edge n-grams of the phrases that
may be suggested. The official wording is there too, by Elasticsearch's own analysers (light Spanish stems, English
stems, folded), for people who look into the index; the product does not ask for it, since a line that only these stems
find has no evidence that could be shown as the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from sicargabox_core.search import evidence
from sicargabox_core.search.completions import completion_terms
from sicargabox_core.search.document import TariffDocument
from sicargabox_core.search.evidence import OWN, PARENT, TERM, Block

FIELD_OF = {TERM: "terms", OWN: "own", PARENT: "parents"}
LONGEST_BEGINNING = 8
_LONGEST_WORD = 8191

ANALYSIS: dict[str, Any] = {
    "tokenizer": {"words": {"type": "whitespace", "max_token_length": _LONGEST_WORD}},
    "char_filter": {"folded_phrase": {"type": "pattern_replace", "pattern": "\x1f.*", "replacement": ""}},
    "filter": {
        "beginnings": {"type": "edge_ngram", "min_gram": 1, "max_gram": LONGEST_BEGINNING},
        "light_spanish": {"type": "stemmer", "language": "light_spanish"},
        "english": {"type": "stemmer", "language": "english"},
        "of_someone": {"type": "stemmer", "language": "possessive_english"},
    },
    "analyzer": {
        "stems": {"type": "custom", "tokenizer": "words"},
        "beginnings": {
            "type": "custom",
            "tokenizer": "keyword",
            "char_filter": ["folded_phrase"],
            "filter": ["beginnings"],
        },
        "whole": {"type": "custom", "tokenizer": "keyword"},
        "es": {"type": "custom", "tokenizer": "standard", "filter": ["lowercase", "light_spanish", "asciifolding"]},
        "en": {
            "type": "custom",
            "tokenizer": "standard",
            "filter": ["of_someone", "lowercase", "english", "asciifolding"],
        },
    },
}
_TOLD_APART = {"type": "keyword"}
_FOUND_ONLY = {"type": "keyword", "doc_values": False}
_STEMS = {"type": "text", "analyzer": "stems", "index_options": "freqs"}

PROPERTIES: dict[str, Any] = {
    "code": _TOLD_APART,
    "hash": {"type": "keyword", "index": False},
    "category": _FOUND_ONLY,
    "above": _FOUND_ONLY,
    **dict.fromkeys(FIELD_OF.values(), _STEMS),
    "phrases": {"type": "text", "analyzer": "stems", "index_options": "docs"},
    "completions": {
        "type": "keyword",
        "fields": {
            "begins": {
                "type": "text",
                "analyzer": "beginnings",
                "search_analyzer": "whole",
                "index_options": "docs",
                "norms": False,
            }
        },
    },
    "es": {"type": "text", "analyzer": "es"},
    "en": {"type": "text", "analyzer": "en"},
    "evidence": {"type": "text", "index": False},
}
# What is only searched is not kept beside it: that would double the index.
_KEPT = ["code", "hash", "category", "es", "en", "evidence"]

# Two releases whose indexes look alike have the same; any other difference is for a rebuild to make good.
MAPPING_HASH = hashlib.blake2b(
    json.dumps([ANALYSIS, PROPERTIES, _KEPT], sort_keys=True).encode(), digest_size=8
).hexdigest()


def index_body(alias: str, generation: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and mapping of a new index, which is filled before anybody searches it."""
    settings = {
        "number_of_shards": 1,
        # Both are restored before it serves. Copies are then made of finished files instead of indexing twice.
        "number_of_replicas": 0,
        "refresh_interval": "-1",
        # How long it is remembered that a document was deleted, and by which writer: one that slept for less than
        # this cannot bring a deleted document back.
        "gc_deletes": "1h",
        "analysis": ANALYSIS,
    }
    mapping = {
        "dynamic": "strict",
        "_meta": {"alias": alias, "generation": generation, "mapping": MAPPING_HASH},
        "_source": {"includes": _KEPT},
        "properties": PROPERTIES,
    }
    return settings, mapping


def as_source(document: TariffDocument, parts: Sequence[Block]) -> dict[str, Any]:
    """A document as it is sent; ``parts`` are its ``evidence.blocks``."""
    return {
        "code": document.code,
        "hash": document.content_hash(),
        "category": document.courier_category,
        "above": [document.code[:length] for length in range(2, len(document.code) + 1)],
        **{
            name: " ".join([part.stems for part in parts if part.source == source]) for source, name in FIELD_OF.items()
        },
        "phrases": " ".join([part.phrases for part in parts]),
        "completions": [term for group in document.terms for term in completion_terms(group)],
        "es": document.description_es,
        "en": document.description_en,
        "evidence": evidence.stored(parts),
    }
