"""What people's choices teach: words that several different people used before choosing the same line.

Pure functions over choices; reading and writing them is the learning-worker's. The rules, each against a defect seen in
an earlier system:

- Counted over all time, so that two people tonight and one tomorrow make three.
- Counted by person: one person's ten clicks are one voice. A choice taken back is none.
- Digits and joined words stay (``iphone 15``, ``usb-c``).
- A word must point to the line: of all who used it, at least half chose that line. A word for everything is no keyword.
- Of words that the same people always used together only the longest phrase is proposed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from sicargabox_core.catalogue.keywords import Proposal, normalise
from sicargabox_core.catalogue.models import Language

# Half: a word that leads most of its users elsewhere would pull them here.
LEAST_SHARE = 0.5
MAX_PHRASE_WORDS = 4
# Words that carry no goods by themselves; inside a phrase they stay.
_EMPTY = """
    a al con de del e el en la las los mas no o para por si sin sobre un una uno y
    and for from in of on or the with
    color marca new nueva nuevo pcs pieza piezas size talla unidad unidades
"""
_EMPTY_WORDS = frozenset(_EMPTY.split())


@dataclass(frozen=True)
class Choice:
    """A line chosen after a query. ``person`` is a keyed hash."""

    line_code: str
    query: str
    person: str


@dataclass
class _Support:
    people: set[str] = field(default_factory=set)
    selections: int = 0
    spellings: Counter[str] = field(default_factory=Counter)


def propose_keywords(
    choices: Iterable[Choice], *, people: int, spanish: Set[str] = frozenset(), english: Set[str] = frozenset()
) -> list[Proposal]:
    """Proposals in the order of lines, best supported words first.

    ``people``: how many different people must have used the words before choosing the line. ``spanish`` and
    ``english``: known words in normal form, by which a proposal's language is guessed.
    """
    by_line: dict[str, dict[str, _Support]] = defaultdict(lambda: defaultdict(_Support))
    users: dict[str, set[str]] = defaultdict(set)
    for choice in choices:
        for phrase, spelling in phrases(choice.query):
            support = by_line[choice.line_code][phrase]
            support.people.add(choice.person)
            support.selections += 1
            support.spellings[spelling] += 1
            users[phrase].add(choice.person)
    proposals: list[Proposal] = []
    for line_code in sorted(by_line):
        supported = {
            phrase: support
            for phrase, support in by_line[line_code].items()
            if len(support.people) >= people and len(support.people) / len(users[phrase]) >= LEAST_SHARE
        }
        for phrase in _longest(supported):
            support = supported[phrase]
            spelling = _best_spelling(support.spellings)
            evidence: dict[str, Any] = {
                "people": len(support.people),
                "selections": support.selections,
                "share": round(len(support.people) / len(users[phrase]), 2),
            }
            proposals.append(Proposal(line_code, guess_language(spelling, spanish, english), spelling, evidence))
    return proposals


def phrases(query: str) -> Iterator[tuple[str, str]]:
    """(normal form, as written) of a query's phrases: the whole, every word, every two words side by side.

    Each once; bare numbers, single letters and words without goods of their own only inside a longer phrase.
    """
    words = [(normal, written) for written in query.split() if (normal := normalise(written))]
    spans = [(0, len(words))] if 1 <= len(words) <= MAX_PHRASE_WORDS else []
    spans += [(start, start + length) for length in (2, 1) for start in range(len(words) - length + 1)]
    seen: set[str] = set()
    for start, end in spans:
        # A phrase neither begins nor ends with a word that says nothing ("audífonos para").
        if words[start][0] in _EMPTY_WORDS or words[end - 1][0] in _EMPTY_WORDS:
            continue
        phrase = " ".join(normal for normal, _ in words[start:end])
        if phrase in seen or not any(len(part) > 1 and not part.isdecimal() for part in phrase.split()):
            continue
        seen.add(phrase)
        yield phrase, " ".join(written for _, written in words[start:end]).strip('.,;:!?¡¿"()').lower()


def _longest(supported: dict[str, _Support]) -> list[str]:
    kept: list[str] = []
    for phrase in sorted(supported, key=lambda text: (-len(text.split()), text)):
        covered = any(
            f" {phrase} " in f" {longer} " and supported[longer].people == supported[phrase].people for longer in kept
        )
        if not covered:
            kept.append(phrase)
    return sorted(kept, key=lambda text: (-len(supported[text].people), text))


def _best_spelling(spellings: Counter[str]) -> str:
    # People leave accents out far more often than they invent them: a spelling with them is the better one.
    return max(spellings, key=lambda text: (not text.isascii(), spellings[text], text))


def guess_language(text: str, spanish: Set[str], english: Set[str]) -> Language:
    """Spanish, unless more of the words are known as English; letters that only Spanish has decide at once."""
    if any(letter in "áéíóúüñ" for letter in text.casefold()):
        return Language.SPANISH
    words = normalise(text).split()
    score = sum((word in english) - (word in spanish) for word in words)
    return Language.ENGLISH if score > 0 else Language.SPANISH
