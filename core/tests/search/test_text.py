from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sicargabox_core.search.text import fold, joined_words, marked_stems, other_number, stem, tokenize, words_of


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("celular", "celulares"),
        ("zapato", "zapatos"),
        ("gafa", "gafas"),
        ("luz", "luces"),
        ("dulce", "dulces"),
        ("reloj", "relojes"),
        ("llave", "llaves"),
        ("jabon", "jabones"),
        ("pie", "pies"),
        ("bolso", "bolsa"),
    ],
)
def test_spanish_plural_and_gender_meet(one: str, many: str) -> None:
    assert stem(one, "es") == stem(many, "es")


@pytest.mark.parametrize(
    ("one", "many"), [("shoe", "shoes"), ("dress", "dresses"), ("battery", "batteries"), ("watch", "watches")]
)
def test_english_plurals_meet(one: str, many: str) -> None:
    assert stem(one, "en") == stem(many, "en")


@pytest.mark.parametrize(
    ("one", "many"),
    [("zapato", "zapatos"), ("pantalon", "pantalones"), ("luz", "luces"), ("battery", "batteries"), ("shoe", "shoes")],
)
def test_a_number_leads_to_the_other(one: str, many: str) -> None:
    assert many in other_number(one)
    assert one in other_number(many)


@pytest.mark.parametrize(("first", "second"), [("celular", "celula"), ("organizador", "organo"), ("piano", "pia")])
def test_words_for_different_goods_stay_apart(first: str, second: str) -> None:
    assert stem(first, "es") != stem(second, "es")


def test_stems_of_two_languages_never_meet() -> None:
    assert stem("lego", "es") == stem("legs", "en")
    assert not set(marked_stems("lego", "es")) & set(marked_stems("legs", "en"))


def test_case_accents_and_possessives_are_folded_and_digits_kept() -> None:
    assert fold("  Audífonos  BLUETOOTH 5.3, Women’s ñandú") == "audifonos bluetooth 5 3 women nandu"


def test_hyphenated_words_are_found_written_together() -> None:
    assert joined_words("cargador USB-C, t-shirt") == ["usbc", "tshirt"]


@given(st.text(max_size=80))
def test_both_ways_to_find_words_agree(text: str) -> None:
    """The fast way serves documents and the exact one serves queries: they must read alike."""
    latin = "".join(char for char in text if ord(char) < 0x250 and char not in "ªº²³¹¼½¾ŉĿŀßİǰ´`’'")
    assert [token.text for token in tokenize(latin)] == words_of(latin)


@given(st.text(max_size=80))
def test_a_token_stands_where_it_says(text: str) -> None:
    for token in tokenize(text):
        assert fold(text[token.start : token.end]).replace(" ", "") == token.text or not token.text.isascii()
