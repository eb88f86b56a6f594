"""Laws of the words that our lexicon gives a line."""

from __future__ import annotations

from sicargabox_core.catalogue.generated_keywords import words_for
from sicargabox_core.lexicon.loader import Lexicon, Term

LEXICON = Lexicon(
    by_code={
        "8517": [Term("teléfono", "es", "8517"), Term("phone", "en", "8517")],
        "851713": [
            Term("celular", "es", "851713"),
            Term("Célular", "es", "851713"),
            Term("smartphone", "es", "851713"),
        ],
    }
)


def test_the_nearest_code_with_words_in_the_language_speaks() -> None:
    assert [(word.language, word.text) for word in words_for("8517130000", LEXICON, ["es", "en"])] == [
        ("es", "celular"),
        ("es", "smartphone"),
        ("en", "phone"),
    ]
    assert [word.text for word in words_for("8517180000", LEXICON, ["es"])] == ["teléfono"]
    assert list(words_for("0101210000", LEXICON, ["es", "en"])) == []


def test_each_word_says_where_it_came_from() -> None:
    assert [word.evidence for word in words_for("8517130000", LEXICON, ["en"])] == [{"model": "lexicon", "of": "8517"}]
