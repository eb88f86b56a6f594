"""Laws of learning from choices."""

from __future__ import annotations

from sicargabox_core.catalogue.keywords import Proposal
from sicargabox_core.catalogue.learning import Choice, guess_language, phrases, propose_keywords
from sicargabox_core.catalogue.models import Language

PHONE, CASE = "8517130000", "4202320000"


def _choices(query: str, *people: str, line: str = PHONE) -> list[Choice]:
    return [Choice(line, query, person) for person in people]


def _texts(proposals: list[Proposal]) -> list[str]:
    return [proposal.text for proposal in proposals]


def test_words_of_three_different_people_are_proposed() -> None:
    assert _texts(propose_keywords(_choices("celular", "ana", "bea"), people=3)) == []
    (proposal,) = propose_keywords(_choices("celular", "ana", "bea", "eva"), people=3)
    assert (proposal.line_code, proposal.text, proposal.language) == (PHONE, "celular", Language.SPANISH)
    assert proposal.evidence == {"people": 3, "selections": 3, "share": 1.0}


def test_ten_clicks_of_one_person_are_one_voice() -> None:
    assert propose_keywords(_choices("celular", *["ana"] * 10, "bea"), people=3) == []


def test_the_common_word_of_different_queries_is_found() -> None:
    choices = [*_choices("iphone 15 pro", "ana"), *_choices("funda iphone", "bea"), *_choices("iphone negro", "eva")]
    assert _texts(propose_keywords(choices, people=3)) == ["iphone"]


def test_digits_and_joined_words_stay() -> None:
    assert _texts(propose_keywords(_choices("iPhone 15", "ana", "bea", "eva"), people=3)) == ["iphone 15"]
    assert _texts(propose_keywords(_choices("USB-C", "ana", "bea", "eva"), people=3)) == ["usb-c"]


def test_words_always_used_together_give_the_longest_phrase_only() -> None:
    choices = _choices("audifonos bluetooth", "ana", "bea", "eva")
    assert _texts(propose_keywords(choices, people=3)) == ["audifonos bluetooth"]
    choices += _choices("audifonos", "ina")
    assert _texts(propose_keywords(choices, people=3)) == ["audifonos", "audifonos bluetooth"]


def test_a_word_that_leads_most_people_elsewhere_is_not_proposed() -> None:
    choices = [
        *_choices("negro", "ana", "bea", "eva"),
        *_choices("negro", "p1", "p2", "p3", "p4", line=CASE),
    ]
    assert [(p.line_code, p.text) for p in propose_keywords(choices, people=3)] == [(CASE, "negro")]


def test_bare_numbers_and_words_without_goods_are_no_keywords() -> None:
    assert list(phrases("para la 9")) == []
    assert [phrase for phrase, _ in phrases("talla 9 nike")] == ["9 nike", "nike"]
    assert "audifonos para" not in dict(phrases("audífonos para niño"))


def test_the_spelling_with_accents_wins() -> None:
    choices = [*_choices("audifonos", "ana", "bea"), *_choices("Audífonos", "eva")]
    assert _texts(propose_keywords(choices, people=3)) == ["audífonos"]


def test_evidence_holds_no_person() -> None:
    (proposal,) = propose_keywords(_choices("celular", "secret-a", "secret-b", "secret-c"), people=3)
    assert "secret" not in str(proposal.evidence)


def test_the_language_follows_known_words_and_spanish_letters() -> None:
    spanish, english = frozenset({"zapato", "general"}), frozenset({"shoe", "general"})
    assert guess_language("running shoe", spanish, english) is Language.ENGLISH
    assert guess_language("zapato", spanish, english) is Language.SPANISH
    assert guess_language("niño shoe", spanish, english) is Language.SPANISH
    assert guess_language("general", spanish, english) is Language.SPANISH
