"""Phrases made from two terms of our vocabulary, of which one names the goods and the other what they are for.

Whatever the two are, "X para Y" is an X and an English "Y X" is an X; a brand beside a thing leaves it what it is.
Phrases that the vocabulary knows itself are left out: a set phrase may mean other goods than its words.
"""

from __future__ import annotations

import random
from collections import defaultdict

from sicargabox_core.lexicon.loader import Lexicon
from sicargabox_core.search.evaluate import Labelled
from sicargabox_core.search.query import WEAK_WORDS
from sicargabox_core.search.text import fold

_SURE = 0.9
_SHORTEST = 4


def _names(lexicon: Lexicon, language: str) -> dict[str, frozenset[str]]:
    """Single words that name goods of few headings, with these."""
    headings: dict[str, set[str]] = defaultdict(set)
    unsure = set(WEAK_WORDS)
    for terms in lexicon.by_code.values():
        for term in terms:
            word = fold(term.text)
            if term.language != language or term.kind != "word" or term.weight < _SURE:
                unsure.add(word)
            headings[word].add(term.code[:4])
    return {
        word: frozenset(found)
        for word, found in headings.items()
        if word.isalpha() and len(word) >= _SHORTEST and len(found) == 1 and word not in unsure
    }


def phrases(lexicon: Lexicon, number: int, seed: int) -> list[Labelled]:
    """``number`` phrases of each way to say it, the way as their kind. Repeatable."""
    known = {fold(term.text) for terms in lexicon.by_code.values() for term in terms}
    made: list[Labelled] = []
    for kind, language, form in WAYS:
        chance = random.Random(f"{seed} {kind}")
        names = _names(lexicon, language)
        words = sorted(names)
        brands = sorted(name for name in lexicon.brands if fold(name) == name.lower() and name.lower() not in known)
        found = 0
        while found < number:
            thing, other = chance.choice(words), chance.choice(brands if "brand" in kind else words)
            text = form.format(thing=thing, other=other)
            if names[thing] != names.get(other) and fold(text) not in known:
                made.append(Labelled(text, names[thing], language, kind))
                found += 1
    return made


WAYS = (
    ("thing para other", "es", "{thing} para {other}"),
    ("thing de other", "es", "{thing} de {other}"),
    ("thing con other", "es", "{thing} con {other}"),
    ("thing for other", "en", "{thing} for {other}"),
    ("other thing", "en", "{other} {thing}"),
    ("thing brand", "es", "{thing} {other}"),
    ("thing para brand", "es", "{thing} para {other}"),
    ("brand thing", "en", "{other} {thing}"),
)
