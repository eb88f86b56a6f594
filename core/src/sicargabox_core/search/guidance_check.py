"""Tries every choice of the guidance: it must lead to the headings it names, on the index that is searched here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache

from sicargabox_core.lexicon.guidance import GuidanceQuestion, VagueTerm
from sicargabox_core.search.guidance import Book, narrowed

_FEWEST, _MOST = 3, 7
AMONG = 5
"""So many headings of an answer are looked at."""


def check_guidance(
    terms: Iterable[VagueTerm], headings: Collection[str], search: Callable[[str], list[str]]
) -> Iterator[str]:
    """The faults of the guidance, each a sentence. ``search``: the codes found, one of each heading before a second."""
    kept = list(terms)
    yield from _written_twice(kept)
    for question in dict.fromkeys(term.question for term in kept):
        yield from _malformed(question)
    known = {heading[:length] for heading in headings for length in (2, 4)}

    @cache
    def found(query: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(code[:4] for code in search(query)))[:AMONG]

    tried: set[tuple[str, tuple[str, ...]]] = set()
    for term in kept:
        for query, codes in narrowed(term):
            if (query, codes) in tried:
                continue
            tried.add((query, codes))
            where = f"{term.question.name}, {term.text} ({term.language}): {query}"
            for code in codes:
                if code not in known:
                    yield f"{where}: the catalogue has no {code}"
                elif not any(heading.startswith(code) for heading in found(query)):
                    yield f"{where}: {code} is not among {', '.join(found(query)) or 'nothing'}"


def _written_twice(terms: Iterable[VagueTerm]) -> Iterator[str]:
    """One word in two questions would be asked either; in one number and in the other it is one word."""
    book = Book(())
    first: dict[tuple[str, tuple[str, ...]], VagueTerm] = {}
    for term in terms:
        known = first.setdefault((term.language, book.key(term, learn=True)), term)
        if known is not term and (known.question is not term.question or known.text == term.text):
            yield f"{term.text} ({term.language}) is in {known.question.name} and in {term.question.name}"


def _malformed(question: GuidanceQuestion) -> Iterator[str]:
    count = len(question.choices)
    if not _FEWEST <= count <= _MOST:
        yield f"{question.name} has {count} choices, not {_FEWEST} to {_MOST}"
    for language in ("es", "en"):
        said = [text for one in question.choices for text in {one.label(language), one.words(language, "…")}]
        for text in sorted({text for text in said if said.count(text) > 1}):
            yield f"{question.name} ({language}): two choices are {text}"
