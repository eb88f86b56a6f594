"""What our vocabulary covers of the imported tariff, and where it contradicts itself. Reads only."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from sicargabox_core.catalogue.keywords import normalise
from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.lexicon.loader import Lexicon

FEW = 4
"""A heading with fewer terms in a language is told as thin."""

_HEADING = 4
# A word that surely means goods of more chapters tells nothing: it wants weights, or the kind generic.
_MOST_CHAPTERS = 3
_SURE = 0.95
_CATCH_ALL = re.compile(r"^[\s\-–—]*(l[ao]s demás|otr[ao]s)\b[\s:.]*$", re.IGNORECASE)


@dataclass(frozen=True)
class LexiconReport:
    """Counts, and what was found. Each finding is a sentence beginning with the code or the term it is about.

    ``thin`` is told; the rest are faults of the data. ``guidance`` is filled in by whoever can search.
    """

    headings: int
    terms_es: int
    terms_en: int
    brands: int
    without_words: list[str] = field(default_factory=list)
    thin: list[str] = field(default_factory=list)
    unknown_codes: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    scattered: list[str] = field(default_factory=list)
    shared_with_others: list[str] = field(default_factory=list)
    guidance: list[str] = field(default_factory=list)

    @property
    def faulty(self) -> bool:
        """Whether anything has to be mended."""
        return bool(
            self.without_words
            or self.unknown_codes
            or self.repeated
            or self.scattered
            or self.shared_with_others
            or self.guidance
        )

    def findings(self) -> Iterator[tuple[str, list[str]]]:
        """Each kind of finding under its title."""
        yield "headings without any word", self.without_words
        yield f"headings with fewer than {FEW} terms in a language", self.thin
        yield "codes that lead to no line of the catalogue", self.unknown_codes
        yield "terms written twice for one code, with different weights or spellings of one word", self.repeated
        yield (
            f"words that surely mean goods of more than {_MOST_CHAPTERS} chapters, and are not called generic",
            self.scattered,
        )
        yield 'words shared by "Los demás" and a named sibling', self.shared_with_others
        yield "choices of questions about vague words that do not lead where they say", self.guidance


def check_lexicon(session: Session, lexicon: Lexicon) -> LexiconReport:
    """The report for the tariff in the database. A starter catalogue has few headings: import the whole one first."""
    rows = [
        (code, parent, description or "")
        for code, parent, description in session.execute(
            select(TariffLine.code, TariffLine.parent_code, TariffLine.description_es).where(
                TariffLine.retired_at.is_(None)
            )
        )
    ]
    descriptions = {code: description for code, _, description in rows}
    headings = sorted(code for code in descriptions if len(code) == _HEADING)
    beginnings = {code[:length] for code in descriptions for length in range(2, len(code) + 1)}
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    written: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    meant: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    generic: set[tuple[str, str]] = set()
    distinct: set[tuple[str, str]] = set()
    unknown: dict[str, str] = {}
    for code, terms in lexicon.by_code.items():
        if code not in beginnings:
            unknown.setdefault(code, terms[0].text)
        for term in terms:
            word = normalise(term.text)
            distinct.add((term.language, term.text))
            counts[code[:_HEADING]][term.language] += 1
            written[term.language, word, code].append(term.text)
            chapters = meant[term.language, word]
            chapters[code[:2]] = max(chapters.get(code[:2], 0.0), term.weight)
            if term.kind == "generic":
                generic.add((term.language, word))
    for code, brands in lexicon.brands_by_code.items():
        if code not in beginnings:
            unknown.setdefault(code, brands[0].name)
    return LexiconReport(
        headings=len(headings),
        terms_es=sum(language == "es" for language, _ in distinct),
        terms_en=sum(language == "en" for language, _ in distinct),
        brands=len(lexicon.brands),
        without_words=[_heading(code, descriptions) for code in headings if not counts.get(code)],
        thin=[
            f"{_heading(code, descriptions)}: {counts[code]['es']} Spanish, {counts[code]['en']} English"
            for code in headings
            if counts.get(code) and min(counts[code]["es"], counts[code]["en"]) < FEW
        ],
        unknown_codes=sorted(f"{code} of {text}" for code, text in unknown.items()),
        repeated=sorted(
            f"{code}: {' / '.join(texts)} ({language})"
            for (language, _, code), texts in written.items()
            if len(texts) > 1
        ),
        scattered=sorted(
            f"{word} ({language}): chapters {', '.join(sorted(sure))}"
            for (language, word), chapters in meant.items()
            if (language, word) not in generic
            and len(sure := [chapter for chapter, weight in chapters.items() if weight >= _SURE]) > _MOST_CHAPTERS
        ),
        shared_with_others=sorted(_shared_with_others(rows, lexicon)),
    )


def _heading(code: str, descriptions: dict[str, str]) -> str:
    return f"{code} {' '.join(descriptions[code].split())[:80]}"


def _shared_with_others(rows: Iterable[tuple[str, str | None, str]], lexicon: Lexicon) -> Iterator[str]:
    """A word of a named line that the "Los demás" beside it has too would lead to either."""
    siblings: dict[str | None, list[tuple[str, str]]] = defaultdict(list)
    for code, parent, description in rows:
        siblings[parent].append((code, description))
    for group in siblings.values():
        words = {code: _own_words(code, lexicon) for code, _ in group}
        for other in (code for code, description in group if _CATCH_ALL.match(description)):
            for code, _ in group:
                for word in words[other] & words[code] if code != other else ():
                    yield f"{word}: {other} and {code}"


def _own_words(code: str, lexicon: Lexicon) -> set[str]:
    """Words that hang on this node, or on the code that it fills with zeros to a line."""
    short = code.rstrip("0")
    names = {code, *(code[:length] for length in range(len(short), len(code)) if length > _HEADING)}
    return {normalise(term.text) for name in names for term in lexicon.by_code.get(name, ())}
