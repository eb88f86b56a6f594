"""Brands whose names are everyday words, on the official tariff: alone they lead to their goods, beside others not."""

from __future__ import annotations

import pytest

from sicargabox_core.search.service import SearchService


@pytest.fixture(autouse=True)
def lexicon() -> None:
    """These laws are about the real vocabulary, not the few words of the other tests."""


def _headings(official: SearchService, query: str, most: int) -> list[str]:
    return list(dict.fromkeys(result["code"][:4] for result in official.search(query)["results"]))[:most]


@pytest.mark.parametrize(
    ("brand", "heading"),
    [
        ("poco", "8517"),
        ("fossil", "9102"),
        ("vans", "6404"),
        ("galaxy", "8517"),
        ("puma", "6404"),
        ("dove", "3401"),
        ("tide", "3402"),
        ("gap", "6109"),
        ("coach", "4202"),
        ("apple", "8517"),
        ("off", "3808"),
    ],
)
def test_a_brand_alone_leads_to_its_goods(official: SearchService, brand: str, heading: str) -> None:
    assert heading in _headings(official, brand, 5)


@pytest.mark.parametrize(
    ("query", "heading"),
    [
        ("un poco de azúcar", "1701"),
        ("un poco de café molido", "0901"),
        ("crema con un poco de perfume", "3304"),
        ("fossil tooth", "9705"),
        ("delivery vans", "8704"),
        ("galaxy lamp", "9405"),
        ("lámpara galaxia", "9405"),
        ("galaxy tablecloth", "6302"),
        ("peluche de puma", "9503"),
        ("dove bird cage", "7326"),
        ("tide pool toy", "9503"),
        ("gap filler", "3214"),
        ("spark plug gap tool", "8205"),
        ("coach whistle", "9208"),
        ("apple juice", "2009"),
        ("dried apple", "0813"),
        ("on off switch", "8536"),
        ("off road tires", "4011"),
        ("50% off camiseta", "6109"),
    ],
)
def test_beside_other_words_the_goods_are_what_is_meant(official: SearchService, query: str, heading: str) -> None:
    assert heading in _headings(official, query, 3)


@pytest.mark.parametrize(
    ("query", "heading"),
    [
        ("fossil watch", "9102"),
        ("vans shoes", "6404"),
        ("puma shoes", "6404"),
        ("dove soap", "3401"),
        ("tide detergent", "3402"),
        ("camiseta gap", "6109"),
        ("coach bag", "4202"),
        ("off repelente", "3808"),
        ("apple watch band", "9113"),
    ],
)
def test_a_brand_beside_its_goods_leads_to_them(official: SearchService, query: str, heading: str) -> None:
    assert _headings(official, query, 1) == [heading]
