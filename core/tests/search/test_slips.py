"""Words as people misspell them, on the official tariff: made by rule from our vocabulary."""

from __future__ import annotations

import random

import pytest
from core.tests.search.slips import AS_IT_IS, RULES, slips

from sicargabox_core.lexicon.loader import Lexicon
from sicargabox_core.search.evaluate import Labelled, measure, score
from sicargabox_core.search.service import SearchService

# Of 60 each. Letters that are lost or exchanged often leave another word ("meon", "gata"): nothing brings those back.
_OF_EACH = 60
_LEAST, _LEAST_OF = 0.93, {"a letter dropped": 0.82, "another vowel": 0.85, "one instead of two letters": 0.87}


@pytest.fixture(autouse=True)
def lexicon() -> None:
    """These laws are about the real vocabulary, not the few words of the other tests."""


@pytest.fixture(scope="module")
def misspelled() -> list[Labelled]:
    return slips(Lexicon.load(), _OF_EACH, seed=2)


def test_every_class_of_slips_is_made_and_the_same_each_time(misspelled: list[Labelled]) -> None:
    assert {one.kind for one in misspelled} == set(RULES)
    assert len(misspelled) == _OF_EACH * len(RULES)
    assert misspelled[::50] == slips(Lexicon.load(), _OF_EACH, seed=2)[::50]
    terms = {one.query for one in slips(Lexicon.load(), _OF_EACH, seed=2) if one.kind == AS_IT_IS}
    assert terms.isdisjoint(one.query for one in misspelled if one.kind != AS_IT_IS)


@pytest.mark.parametrize("kind", RULES)
def test_a_misspelled_term_finds_the_headings_of_the_term(
    official: SearchService, misspelled: list[Labelled], kind: str
) -> None:
    outcomes = measure(
        [one for one in misspelled if one.kind == kind],
        lambda query: [result["code"] for result in official.search(query)["results"]],
    )
    missed = [one.labelled.query for one in outcomes if one.place is None or one.place > 5]
    assert score(outcomes).hit5.value >= _LEAST_OF.get(kind, _LEAST), missed


def _random_letters(chance: random.Random, letters: str, number: int) -> list[str]:
    lengths = (3, 4, 5, 6, 7, 8, 9, 10, 12, 15)
    return ["".join(chance.choices(letters, k=lengths[at % len(lengths)])) for at in range(number)]


def test_random_letters_find_nothing_but_a_few_that_happen_to_be_words(official: SearchService) -> None:
    """Three letters of a short alphabet are an abbreviation now and then ("usb", "pvc"), which is found as such."""
    chance = random.Random(3)
    consonants = _random_letters(chance, "bcdfghjklmnpqrstvwxyz", 250)
    any_letters = _random_letters(chance, "abcdefghijklmnopqrstuvwxyz", 250)
    known = official.engine.vocabulary().words
    for strings, most in ((consonants, 0.02), (any_letters, 0.05)):
        found = [text for text in strings if text not in known and official.search(text, limit=1)["total"]]
        assert len(found) <= most * len(strings), found


# By length: of random letters, and of those that can be spoken, the most that may be taken for some word. Of short ones
# nobody can tell all from slips: of four letters that can be spoken every third sounds like a word.
_TAKEN_FOR_A_WORD = {
    "letters": {4: 0.1, 5: 0.05, 6: 0.04, 7: 0.02},
    "syllables": {5: 0.18, 6: 0.23, 7: 0.07},
}


@pytest.mark.parametrize("made_of", _TAKEN_FOR_A_WORD)
def test_of_random_letters_few_are_taken_for_slips(official: SearchService, made_of: str) -> None:
    known = official.engine.vocabulary().words
    turns = ["abcdefghijklmnopqrstuvwxyz"] if made_of == "letters" else ["bcdfghjklmnprstvyz", "aeiou"]
    for length, most in _TAKEN_FOR_A_WORD[made_of].items():
        chance = random.Random(5 * length)
        made = ["".join(chance.choice(turns[at % len(turns)]) for at in range(length)) for _ in range(150)]
        found = [text for text in made if text not in known and official.search(text, limit=1)["total"]]
        assert len(found) <= most * len(made), (length, len(found), found)


def test_long_syllables_without_sense_find_nothing(official: SearchService) -> None:
    """Up to eight letters, one in ten is a letter or two from a word; those are read as it, and the hit says so."""
    chance = random.Random(4)
    made = [
        "".join(chance.choice("bdfglmnprst") + chance.choice("aeiou") for _ in range(5 + at % 3)) for at in range(250)
    ]
    found = [text for text in made if official.search(text, limit=1)["total"]]
    assert len(found) <= 0.02 * len(made), found
