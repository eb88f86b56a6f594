from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sicargabox_core.search.query import Query, interpret, parse
from sicargabox_core.search.text import fold
from sicargabox_core.search.vocabulary import Vocabulary


def vocabulary(*words: str) -> Vocabulary:
    from sicargabox_core.search.text import marked_stems

    stems = {form: 2 for word in words for form in marked_stems(word)}
    return Vocabulary(dict.fromkeys(words, 2), stems, headings=100)


def weights(query: Query) -> dict[str, float]:
    return {word.folded: word.weight for word in query.words}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("8517", "8517"),
        ("8517.13", "8517.13"),
        ("851713", "851713"),
        ("8517.13.00.00", "8517130000"),
        ("8517 13 00 00", "8517130000"),
        ("8517-13-00-00", "8517130000"),
        ("partida 8517.13", "851713"),
        ("HS code 8517", "8517"),
        ("código 85", "85"),
        ("2106.90.91.00.10", "210690910010"),
    ],
)
def test_a_code_is_read_in_any_dots_spaces_and_length(text: str, code: str) -> None:
    assert (parse(text).code, parse(text).words) == (code.replace(".", ""), ())


@pytest.mark.parametrize("text", ["9", "1234567890123", "iphone 13", "64 gb", "٨٥١٧"])
def test_what_is_not_a_code_is_words(text: str) -> None:
    assert parse(text).code is None


def test_a_dotted_code_among_words_narrows_them() -> None:
    query = parse("audífonos 8518.30 bluetooth")
    assert query.code == "851830"
    assert [word.folded for word in query.words] == ["audifonos", "bluetooth"]


@given(st.text(max_size=300))
def test_no_text_is_too_strange(text: str) -> None:
    query = interpret(parse(text), vocabulary("celular", "funda"))
    assert len(query.words) <= 24


def test_what_something_is_for_weighs_less_than_what_it_is() -> None:
    found = weights(parse("funda para celular"))
    assert found["funda"] > found["celular"]
    found = weights(parse("case for phone"))
    assert found["case"] > found["phone"]


def test_sizes_colours_and_filler_weigh_little_beside_goods() -> None:
    found = weights(parse("tenis negro talla 9 nuevo 64gb"))
    assert all(found[word] < found["tenis"] / 4 for word in ("negro", "talla", "9", "nuevo", "64gb"))


@pytest.mark.parametrize("text", ["uñas", "unas", "uñas postizas", "tijeras para unas"])
def test_nails_are_goods_however_they_are_spelled(text: str) -> None:
    assert "unas" in {word.folded for word in parse(text).words if not word.weak}


def test_the_article_that_is_spelled_like_nails_weighs_little() -> None:
    article, scissors = parse("unas tijeras").words
    assert article.weight < scissors.weight / 2


def test_a_colour_alone_is_what_is_meant() -> None:
    assert weights(parse("naranja")) == {"naranja": 1.0}


def test_rare_words_weigh_more_than_common_ones() -> None:
    known = vocabulary("audifonos", "partes")
    known.words["partes"] = 90
    known.stems["~part"] = 90
    found = weights(interpret(parse("audifonos partes"), known))
    assert found["audifonos"] > found["partes"]


def test_a_known_word_is_never_read_as_another() -> None:
    (word,) = interpret(parse("cama"), vocabulary("cama", "camas", "camara", "capa")).words
    assert [form.word for form in word.forms] == ["cama"]


def test_another_form_of_a_known_word_is_known() -> None:
    (word,) = interpret(parse("zapatos"), vocabulary("zapato", "zapatas")).words
    assert [(form.word, form.quality) for form in word.forms] == [("zapatos", 1.0)]


@pytest.mark.parametrize(
    ("typed", "meant"), [("licuadorra", "licuadora"), ("telefno", "telefono"), ("mochilla", "mochila")]
)
def test_an_unknown_word_is_read_as_its_nearest(typed: str, meant: str) -> None:
    (word,) = interpret(parse(typed), vocabulary("licuadora", "telefono", "mochila", "bocina")).words
    assert word.forms[0].word == meant
    assert word.forms[0].quality < 1


@pytest.mark.parametrize(
    ("typed", "meant"), [("vaño", "baño"), ("yins", "jeans"), ("martiyo", "martillo"), ("bycicle", "bicycle")]
)
def test_a_word_that_sounds_alike_is_nearer_than_one_that_is_written_alike(typed: str, meant: str) -> None:
    folded = fold(meant)
    (word,) = interpret(parse(typed), vocabulary(folded, "vino", "pins", "martino", "bycircle")).words
    assert word.forms[0].word == folded
    assert word.forms[0].quality > 0.8


def test_a_word_of_which_only_the_stem_is_known_may_also_be_one_that_sounds_alike() -> None:
    (word,) = interpret(parse("basos"), vocabulary("base", "vasos")).words
    assert [form.word for form in word.forms] == ["basos", "vasos"]


def test_a_diminutive_is_read_as_the_word_it_is_made_from() -> None:
    known = vocabulary("bolsa", "taza", "mango", "coche", "cajon")
    for typed, meant in [
        ("bolsitas", "bolsas"),
        ("tacita", "taza"),
        ("manguito", "mango"),
        ("cochecito", "coche"),
        ("cajoncito", "cajon"),
    ]:
        (word,) = interpret(parse(typed), known).words
        assert meant in {form.word for form in word.forms}


def test_a_known_diminutive_is_not_taken_apart() -> None:
    (word,) = interpret(parse("carrito"), vocabulary("carrito", "carro")).words
    assert [form.word for form in word.forms] == ["carrito"]


def test_random_letters_are_read_as_nothing() -> None:
    assert interpret(parse("xqzzk qwrtp"), vocabulary("celular", "quart", "bocina")).empty


def test_words_split_or_joined_by_the_typist_are_tried_the_other_way() -> None:
    joined = interpret(parse("para brisas"), vocabulary("parabrisas", "brisas"))
    assert "parabrisas" in {form.word for word in joined.words for form in word.forms}
    split = interpret(parse("airfryer"), vocabulary("air", "fryer")).words
    assert [word.forms[0].word for word in split] == ["air", "fryer"]


def test_without_a_vocabulary_every_word_is_taken_as_it_is() -> None:
    words = interpret(parse("celular nuevo"), Vocabulary.empty()).words
    assert [[form.word for form in word.forms] for word in words] == [["celular"], ["nuevo"]]


@pytest.mark.parametrize(
    ("text", "language"), [("funda para celular", "es"), ("case for the phone", "en"), ("nike", None), ("piña", "es")]
)
def test_signs_of_a_language_are_noticed(text: str, language: str | None) -> None:
    assert parse(text).language == language
