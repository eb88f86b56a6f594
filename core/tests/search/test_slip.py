"""Which differences between two words are slips of a hand or an ear."""

from __future__ import annotations

import pytest

from sicargabox_core.search.slip import by_hand_or_ear


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("zapto", "zapato"),  # dropped
        ("zapaot", "zapato"),  # swapped
        ("zaapto", "zapato"),
        ("zapatp", "zapato"),  # the key beside
        ("szapato", "zapato"),
        ("zappato", "zapato"),  # twice
        ("zapeto", "zapato"),  # another vowel
        ("sapato", "zapato"),  # by ear
        ("espego", "espejo"),
        ("drown", "dron"),
        ("hacha", "acha"),
        ("zpatp", "zapato"),  # two of them
        ("zapato", "zapato"),
    ],
)
def test_dropped_swapped_doubled_neighbouring_and_alike_letters_are_slips(typed: str, known: str) -> None:
    assert by_hand_or_ear(typed, known)
    assert by_hand_or_ear(typed.upper(), known)


@pytest.mark.parametrize(
    ("typed", "known"),
    [("zaqato", "zapato"), ("zapatom", "zapato"), ("mtood", "mood"), ("zapqto", "zapeto"), ("zlpeto", "zapato")],
)
def test_letters_from_nowhere_are_none(typed: str, known: str) -> None:
    assert not by_hand_or_ear(typed, known)
