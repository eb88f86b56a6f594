"""Made-up documents that are like those of the official tariff: as long, as deep, with as many terms, as often shared.

They come one after the other from a seed, in order of code, and nothing of them is kept. What is alike was counted on
the real tariff: a line has six words of its own and fifteen English ones, each of three steps above it ten, three
headings of four some thirteen terms; few words are frequent and most seldom. Their evidence is a
tenth longer than there (3.2 kB a line for 2.8). The vocabulary does not grow with the length.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from sicargabox_core.search.document import Step, TariffDocument, Term, TermGroup

_SEED = "sicargabox"
_LINES_OF_A_HEADING, _LINES_OF_A_SUBHEADING = 6, 2
_CHAPTERS, _HEADINGS_OF_A_CHAPTER = 97, 99
_WORDS = {"es": 12_000, "en": 8_000}
_SYLLABLES = {
    "es": ("ca", "ri", "to", "men", "ba", "lo", "sa", "dor", "pe", "gui", "ta", "no", "vel", "mo", "ra", "que", "fi"),
    "en": ("ham", "ter", "wood", "ing", "sel", "brick", "ow", "per", "lid", "mesh", "ton", "ar", "flip", "ne", "stock"),
}
# A third of any text are words that no index keeps.
_BETWEEN = {"es": ("de", "los", "y", "para", "con"), "en": ("of", "the", "and", "for", "with")}
_BETWEEN_SHARE = 0.35
_CLAUSE = 5
_LONGEST = 30
_TERMED = 0.75
_BRANDED = 0.1
_CATEGORIES = ("ALLOWED", "ALLOWED", "ALLOWED", "RESTRICTED", "PROHIBITED")


def documents(lines: int) -> Iterator[TariffDocument]:
    """Exactly so many."""
    words = _vocabulary()
    each = max(_LINES_OF_A_HEADING, -(-lines // (_CHAPTERS * _HEADINGS_OF_A_CHAPTER)))
    headings = -(-lines // each)
    left = lines
    for number in range(headings):
        # Spread over the chapters as evenly as may be, in order of code.
        chapter, place = divmod(number, -(-headings // _CHAPTERS))
        yield from _heading(f"{chapter + 1:02}{place + 1:02}", min(each, left), words)
        left -= each


def queries(count: int) -> list[str]:
    """Of one to three words that such a tariff has, the frequent ones most often."""
    words = _vocabulary()
    rng = random.Random(f"{_SEED}:queries")
    return [_wording(rng, words[rng.choice(("es", "es", "en"))], rng.randint(1, 3)) for _ in range(count)]


class _Words(NamedTuple):
    """Of one language."""

    telling: list[str]
    between: tuple[str, ...]


def _vocabulary() -> dict[str, _Words]:
    found: dict[str, _Words] = {}
    for language, size in _WORDS.items():
        rng = random.Random(f"{_SEED}:{language}")
        made: dict[str, None] = {}
        while len(made) < size:
            made["".join(rng.choices(_SYLLABLES[language], k=rng.randint(2, 4)))] = None
        found[language] = _Words(list(made), _BETWEEN[language])
    return found


def _heading(code: str, lines: int, words: dict[str, _Words]) -> Iterator[TariffDocument]:
    # Chapters have their own seed: all headings of one show the same words above them.
    above = random.Random(f"{_SEED}:{code[:2]}")
    rng = random.Random(f"{_SEED}:{code}")
    path = (_step(above, code[:2], words), _step(rng, code, words))
    terms = (_terms(rng, code, words),) if rng.random() < _TERMED else ()
    for first in range(0, lines, _LINES_OF_A_SUBHEADING):
        subheading = _step(rng, f"{code}{first // _LINES_OF_A_SUBHEADING:02}", words)
        for line in range(min(_LINES_OF_A_SUBHEADING, lines - first)):
            yield TariffDocument(
                code=f"{subheading.code}{line:04}",
                description_es=_wording(rng, words["es"], _length(rng, 4, 0.9)),
                description_en=_wording(rng, words["en"], _length(rng, 14, 0.6)),
                path=(*path, subheading),
                terms=terms,
                courier_category=rng.choice(_CATEGORIES),
            )


def _step(rng: random.Random, code: str, words: dict[str, _Words]) -> Step:
    return Step(
        code=code,
        es=_wording(rng, words["es"], _length(rng, 7, 0.9)),
        en=_wording(rng, words["en"], _length(rng, 6, 0.9)),
    )


def _terms(rng: random.Random, code: str, words: dict[str, _Words]) -> TermGroup:
    made = [
        Term(text=_wording(rng, words[language], _length(rng, 2, 0.4)), language=language, source="lexicon")
        for language in rng.choices(("es", "en"), k=rng.randint(6, 20))
    ]
    if rng.random() < _BRANDED:
        name = rng.choice(words["en"].telling).capitalize()
        made.append(Term(text=name, language="", source="brand", note="mercancías|goods"))
    return TermGroup(code=code, terms=tuple(made))


def _length(rng: random.Random, median: float, spread: float) -> int:
    return min(_LONGEST, max(1, round(median * rng.lognormvariate(0, spread))))


def _wording(rng: random.Random, words: _Words, size: int) -> str:
    # The n-th word is n times as seldom as the first, roughly as in any text.
    chosen = [
        rng.choice(words.between)
        if at and rng.random() < _BETWEEN_SHARE
        else words.telling[int(len(words.telling) ** rng.random()) - 1]
        for at in range(size)
    ]
    return ", ".join(" ".join(chosen[start : start + _CLAUSE]) for start in range(0, size, _CLAUSE)).capitalize()
