"""The laws of how words sound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sicargabox_core.search.sound import sounds


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("vano", "bano"),
        ("sapato", "zapato"),
        ("dulses", "dulces"),
        ("chaketa", "chaqueta"),
        ("martiyo", "martillo"),
        ("uebos", "huevos"),
        ("orno", "horno"),
        ("gora", "gorra"),
        ("jirafa", "girafa"),
        ("canbio", "cambio"),
        ("estension", "extension"),
        ("tualla", "toalla"),
        ("almuada", "almohada"),
        ("yelo", "hielo"),
    ],
)
def test_spanish_words_that_are_heard_alike_have_one_key(written: str, meant: str) -> None:
    assert sounds([written]) == sounds([meant])


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("yins", "jeans"),
        ("esniker", "sneaker"),
        ("esprei", "spray"),
        ("champu", "shampoo"),
        ("lich", "leash"),
        ("brum", "broom"),
        ("lait", "light"),
        ("termometer", "thermometer"),
    ],
)
def test_english_words_written_by_a_spanish_ear_have_the_key_of_their_english_reading(written: str, meant: str) -> None:
    assert set(sounds([written])) <= set(sounds([meant], english=True))


@pytest.mark.parametrize(("one", "another"), [("cama", "gama"), ("pera", "pelo"), ("casa", "cosa"), ("jabon", "jamon")])
def test_words_that_are_heard_differently_have_different_keys(one: str, another: str) -> None:
    assert sounds([one]) != sounds([another])


@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1), max_size=20), st.booleans())
def test_a_word_has_the_same_key_alone_and_among_others(words: list[str], english: bool) -> None:
    assert sounds(words, english=english) == [sounds([word], english=english)[0] for word in words]
