"""The one ranker: orders candidates by what their evidence and the query have in common, and says why.

It takes nothing from the engine but which lines to look at, so both engines answer alike. A word counts with its
rarity; it counts most when it, with the query's other words, is the whole of a keyword; official wording counts a
little less, the wording of parents less again; exact words beat other forms, other forms beat similar words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sicargabox_core.search.engine import Candidate
from sicargabox_core.search.evidence import CATCH_ALL, NAMES, OWN, PARENT, PARTS, TERM, Entry
from sicargabox_core.search.query import Query, Word
from sicargabox_core.search.text import other_number

_SOURCE_WEIGHT = {
    "staff": 1.0,
    "learned": 1.0,
    "starter": 0.98,
    "lexicon": 0.98,
    "generated": 0.9,
    OWN: 0.85,
    PARENT: 0.6,
    "brand": 0.55,
}
_CHAPTER_WEIGHT = 0.2
# How much of a word's value remains when it is a small part of the entry. Keywords are short and meant whole;
# official wording names many goods in one breath.
_PARTIAL_KEYWORD, _PARTIAL_WORDING = 0.3, 0.45
# "zapatos" for "zapato", and "zapatos" for "zapatas" (brake shoes): stems do not tell a plural from another word.
_OTHER_NUMBER, _OTHER_FORM = 0.96, 0.9
_OTHER_LANGUAGE = 0.95
_WHOLE_PHRASE = 0.12
_NOT_THE_HEAD = 0.8
_LIKELY = 0.01
_NOT_PARTS = 0.85
_PART_WORDS = frozenset(
    ["parte", "partes", "part", "parts", "repuesto", "repuestos", "refaccion", "accesorio", "accesorios", "accessories"]
)
_HEADING = 4
# Words met below the heading tell its lines apart; small, so that they do not outweigh another heading's better words.
_BELOW_HEADING = 0.06
# Nothing can have more than every word, in one phrase, below the heading.
_MOST = 1 + _WHOLE_PHRASE + _BELOW_HEADING
# Below a quarter of the best hit, or of what a full match would have, a line answers another question.
_LEAST_OF_BEST = 0.25
_LEAST = 0.1


class Match(NamedTuple):
    """A word of the query that met an entry. ``read_as`` is the known word it was taken for, if not itself."""

    word: Word
    entry: Entry
    value: float
    read_as: str | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A line that answers. ``score`` is between 0 and 1; ``matches`` are the best first."""

    code: str
    score: float
    matches: tuple[Match, ...] = ()


def rank(query: Query, candidates: Iterable[Candidate]) -> list[Hit]:
    """The candidates that answer an interpreted query, best first; one line of each heading before a second one."""
    if query.words:
        hits = _by_words(query, candidates)
        hits.sort(key=lambda hit: (-hit.score, hit.code))
        least = max(_LEAST, hits[0].score * _LEAST_OF_BEST) if hits else 0.0
        return headings_first([hit for hit in hits if hit.score >= least])
    if query.code is None:
        return []
    found = sorted({candidate.code for candidate in candidates})
    return headings_first([Hit(code, 1.0 if code == query.code else len(query.code) / len(code)) for code in found])


def headings_first(hits: Sequence[Hit]) -> list[Hit]:
    """The same hits with the best of each heading before any heading's second."""
    firsts: dict[str, Hit] = {}
    rest = [hit for hit in hits if firsts.setdefault(hit.code[:4], hit) is not hit]
    return [*firsts.values(), *rest]


def _by_words(query: Query, candidates: Iterable[Candidate]) -> list[Hit]:
    scorer = _Scorer(query)
    return [hit for candidate in candidates if (hit := scorer.score(candidate)) is not None]


class _Block(NamedTuple):
    """What the query meets in one block: the best match of each word, and the most that one entry gives alone."""

    matches: tuple[tuple[int, Match], ...]
    phrase: float
    own: bool
    says: str


_NOTHING = _Block((), 0.0, own=False, says=NAMES)


class _Scorer:
    """Scores candidates for one query; what a block is worth is worked out once, however many lines share it."""

    def __init__(self, query: Query) -> None:
        self._words = query.words
        self._language = query.language
        self._needles = [
            (number, f" {stemmed} ")
            for number, word in enumerate(query.words)
            for stemmed in dict.fromkeys(stemmed for form in word.forms for stemmed in form.stems)
        ]
        self._full = sum(word.weight for word in query.words) or 1.0
        self._wants_parts = any(word.folded in _PART_WORDS for word in query.words)
        self._blocks: dict[str, _Block] = {}

    def score(self, candidate: Candidate) -> Hit | None:
        """What the query and this line have in common; None when it is nothing."""
        best: dict[int, Match] = {}
        below: dict[int, float] = {}
        phrase = 0.0
        likely = parts = False
        for text in candidate.evidence:
            block = self._blocks.get(text)
            if block is None:
                block = self._blocks[text] = self._block(text)
            if block.own:
                # A line that says nothing of its own ("Los demás") is likelier than one that names something else.
                likely = bool(block.matches) or block.says == CATCH_ALL
            parts = parts or block.says == PARTS
            phrase = max(phrase, block.phrase)
            for number, match in block.matches:
                if number not in best or match.value > best[number].value:
                    best[number] = match
                if len(match.entry.code) > _HEADING:
                    below[number] = max(below.get(number, 0.0), match.value)
        if not best:
            return None
        words = self._words
        met = met_below = 0.0
        for number, match in best.items():
            met += words[number].weight * match.value
        for number, value in below.items():
            met_below += words[number].weight * value
        score = (met + _WHOLE_PHRASE * phrase + _BELOW_HEADING * met_below) / self._full / _MOST
        score += _LIKELY if likely else 0.0
        if parts and not self._wants_parts:
            score *= _NOT_PARTS
        ordered = sorted(best.items(), key=lambda item: -item[1].value * words[item[0]].weight)
        return Hit(candidate.code, min(score, 1.0), tuple(match for _, match in ordered))

    def _block(self, text: str) -> _Block:
        lines: dict[int, set[int]] = {}
        for number, needle in self._needles:
            at = text.find(needle)
            while at >= 0:
                start = text.rfind("\n", 0, at) + 1
                lines.setdefault(start, set()).add(number)
                at = text.find(needle, text.index("\n", at))
        if not lines and text.startswith(TERM):
            return _NOTHING
        kind, code, says = text[: text.index("\n")].split("\t")
        if says == PARTS and len(code) <= _HEADING:
            says = NAMES  # A whole heading of parts (8708) is no less likely; a line of parts among whole goods is.
        best: dict[int, Match] = {}
        phrase = 0.0
        for start, numbers in lines.items():
            entry = Entry.parse(text[start : text.index("\n", start)], code)
            total = 0.0
            for number, match in self._worth(entry, numbers):
                total += match.value * self._words[number].weight
                if number not in best or match.value > best[number].value:
                    best[number] = match
            if len(numbers) > 1:
                phrase = max(phrase, total)
        return _Block(tuple(best.items()), phrase, kind == OWN, says)

    def _worth(self, entry: Entry, numbers: set[int]) -> list[tuple[int, Match]]:
        wording = entry.source in (OWN, PARENT)
        coverage = min(1.0, len(numbers) / entry.size)
        partial = _PARTIAL_WORDING if wording else _PARTIAL_KEYWORD
        weight = _CHAPTER_WEIGHT if entry.source == PARENT and len(entry.code) == 2 else _SOURCE_WEIGHT[entry.source]
        weight *= entry.weight
        if self._language and entry.language and entry.language != self._language:
            weight *= _OTHER_LANGUAGE
        weight *= partial + (1 - partial) * coverage
        if entry.head and entry.size > 1 and not self._meets_head(entry, numbers):
            weight *= _NOT_THE_HEAD
        return [(number, self._match(self._words[number], entry, weight)) for number in sorted(numbers)]

    def _meets_head(self, entry: Entry, numbers: set[int]) -> bool:
        return any(entry.head in form.stems for number in numbers for form in self._words[number].forms)

    def _match(self, word: Word, entry: Entry, weight: float) -> Match:
        quality, read_as = 0.0, None
        for form in word.forms:
            if f" {form.word} " in entry.words:
                found = form.quality
            elif any(f" {stemmed} " in entry.stems for stemmed in form.stems):
                same = any(f" {word} " in entry.words for word in other_number(form.word))
                found = form.quality * (_OTHER_NUMBER if same else _OTHER_FORM)
            else:
                continue
            if found > quality:
                quality, read_as = found, form.word if form.word != word.folded else None
        return Match(word, entry, weight * quality, read_as)
