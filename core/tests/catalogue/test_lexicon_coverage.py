"""What the coverage report calls a fault of the vocabulary, on the small tariff."""

from __future__ import annotations

import pytest
from core.tests.search.tariff import fill

from sicargabox_core.catalogue.lexicon_coverage import LexiconReport, check_lexicon
from sicargabox_core.db import Database
from sicargabox_core.lexicon.loader import Lexicon, Term


@pytest.fixture
def catalogue(sqlite_url: str) -> Database:
    database = Database(sqlite_url)
    fill(database)
    return database


def report(catalogue: Database, *terms: Term) -> LexiconReport:
    lexicon = Lexicon()
    for term in terms:
        lexicon.by_code.setdefault(term.code, []).append(term)
    with catalogue.read() as session:
        return check_lexicon(session, lexicon)


def test_a_heading_without_a_word_is_a_fault_and_one_with_few_is_told(catalogue: Database) -> None:
    terms = [Term("bocina", "es", "8518"), Term("celular", "es", "8517")]
    terms += [Term(f"zapato {number}", "es", "640411") for number in range(4)]
    terms += [Term(f"shoe {number}", "en", "6404") for number in range(4)]
    found = report(catalogue, *terms)
    assert [one[:4] for one in found.without_words] == ["3921", "6403", "9021"]
    assert [one[:4] for one in found.thin] == ["8517", "8518"]
    assert found.faulty
    assert (found.headings, found.terms_es, found.terms_en) == (6, 6, 4)


def test_a_code_the_tariff_lacks_is_named_with_its_word(catalogue: Database) -> None:
    assert report(catalogue, Term("avión", "es", "8802")).unknown_codes == ["8802 of avión"]


def test_a_word_that_surely_means_many_chapters_is_named_unless_it_is_called_generic(catalogue: Database) -> None:
    codes = ("3921", "6403", "8517", "9021")
    surely = report(catalogue, *(Term("cosa", "es", code) for code in codes))
    assert surely.scattered == ["cosa (es): chapters 39, 64, 85, 90"]
    weighed = [Term("cosa", "es", code, weight=1 if code == "8517" else 0.5) for code in codes]
    assert report(catalogue, *weighed).scattered == []
    assert report(catalogue, *(Term("cosa", "es", code, kind="generic") for code in codes)).scattered == []


def test_a_word_of_a_named_line_may_not_hang_on_the_others_beside_it(catalogue: Database) -> None:
    apart = [Term("espuma", "es", "392111"), Term("lámina", "es", "392190")]
    assert report(catalogue, *apart).shared_with_others == []
    shared = report(catalogue, *apart, Term("espuma", "es", "392190"))
    assert shared.shared_with_others == ["espuma: 3921900000 and 3921110000"]


def test_a_word_spelled_twice_for_one_code_is_named(catalogue: Database) -> None:
    found = report(catalogue, Term("audífonos", "es", "8518"), Term("audifonos", "es", "8518"))
    assert found.repeated == ["8518: audífonos / audifonos (es)"]
