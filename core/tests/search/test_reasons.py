"""Every hit says why, and what it says is so: on the official tariff, for the half of our queries that may be read."""

from __future__ import annotations

import re

import pytest

from sicargabox_core.lexicon.loader import Lexicon
from sicargabox_core.search.evaluate import OWN_SET, read_set
from sicargabox_core.search.service import SearchService
from sicargabox_core.search.text import fold, marked_stems

_EVERY = 5
_SAID = re.compile(
    r"«(?P<word>[^»]+)» (?:se leyó como «(?P<read>[^»]+)», «[^»]+» )?(?P<where>coincide|está|es una marca)"
)
_TERM = re.compile(r"coincide con «([^»]+)»")


@pytest.fixture(autouse=True)
def lexicon() -> None:
    """These laws are about the real vocabulary, not the few words of the other tests."""


def test_every_hit_of_our_readable_queries_names_a_word_of_the_query_and_a_text_that_holds_it(
    official: SearchService,
) -> None:
    vocabulary = official.engine.vocabulary()
    terms = {term.text for found in Lexicon.load().by_code.values() for term in found}
    asked = [one.query for one in read_set(OWN_SET) if not one.counted][::_EVERY]
    assert len(asked) > 300
    for query in asked:
        for result in official.search(query, lang="es")["results"]:
            why = result["reason"]
            said = list(_SAID.finditer(why))
            assert said, (query, result["code"], why)
            for one in said:
                assert fold(one["word"]) in fold(query), (query, why)
                # What a word was read as is known, and the word itself was not: or both are one with a neighbour.
                assert one["read"] is None or vocabulary.knows(one["read"]), (query, why)
                if one["read"] and one["read"] not in fold(query).replace(" ", ""):
                    assert fold(one["word"]) not in vocabulary.words, (query, why)
            for one in said:
                held = _TERM.match(why, one.start("where"))
                if held is None:
                    continue
                assert held[1] in terms, (query, why)
                wanted = {stem for word in (one["read"] or one["word"]).split() for stem in marked_stems(fold(word))}
                has = {
                    stem
                    for word in (*fold(held[1]).split(), "".join(fold(held[1]).split()))
                    for stem in marked_stems(word)
                }
                assert wanted & has, (query, why)
