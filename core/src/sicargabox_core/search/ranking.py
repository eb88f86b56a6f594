"""The one ranker: orders candidates by what their evidence and the query have in common, and says why.

It takes nothing from the engine but which lines to look at, so both engines answer alike. A word counts with its
rarity; it counts most when it, with the query's other words, is the whole of a keyword; official wording counts a
little less, the wording of parents less again; exact words beat other forms, other forms beat similar words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from sicargabox_core.search.engine import Candidate
from sicargabox_core.search.evidence import CATCH_ALL, OWN, PARENT, PARTS, TERM, Entry, stems_of
from sicargabox_core.search.query import Form, Query, Word
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
_CHAPTER, _HEADING = 2, 4
# Words met below the heading tell its lines apart; small, so that they do not outweigh another heading's better words.
_BELOW_HEADING = 0.06
# Nothing can have more than every word, in one phrase, below the heading.
_MOST = 1 + _WHOLE_PHRASE + _BELOW_HEADING
# Blocks whose stems are kept, for all queries: the official tariff with all our words has 12,546, which take 18 MB.
_KEPT_BLOCKS = 32_768
# Below a quarter of the best hit, or of what a full match would have, a line answers another question.
_LEAST_OF_BEST = 0.25
_LEAST = 0.1


class Match(NamedTuple):
    """A word of the query that met an entry. ``read_as`` is the known word it was taken for, if not itself."""

    word: Word
    entry: Entry
    value: float
    read_as: str | None


class Hit(NamedTuple):
    """A line that answers. ``score`` is between 0 and 1; ``met`` holds the best match of each word that met it."""

    code: str
    score: float
    met: tuple[Match, ...] = ()

    @property
    def matches(self) -> list[Match]:
        """The same, the weightiest first: only lines that are shown are asked for it."""
        return sorted(self.met, key=lambda match: -match.value * match.word.weight)


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
    """What the query meets in one block: the best match of each word, and the most that one entry gives alone.

    ``below``: it hangs below the heading. ``likely`` is told by a line's own wording alone.
    """

    matches: tuple[tuple[int, Match], ...] = ()
    phrase: float = 0.0
    below: bool = False
    likely: bool | None = None
    parts: bool = False


_NOTHING = _Block()
_PARTS_UNMET, _CATCH_ALL_UNMET, _OTHER_UNMET = _Block(parts=True), _Block(likely=True), _Block(likely=False)
_PARTS_OF_ITS_OWN_UNMET = _Block(likely=False, parts=True)


class _Told(NamedTuple):
    """What a block tells before any query is known: its stems, and what it says of its lines when none is met."""

    stems: frozenset[str]
    unmet: _Block


class _Shared(NamedTuple):
    """What the query meets in all blocks of a line but its own one, and what that makes of lines whose own block it
    does not meet, by what that block tells."""

    best: dict[int, Match]
    below: dict[int, float]
    phrase: float
    likely: bool | None
    parts: bool
    unmet: dict[_Block, tuple[float, tuple[Match, ...]] | None]


class _Needle(NamedTuple):
    """A form of a word as it stands in an entry, ready to be looked for."""

    quality: float
    read_as: str | None
    word: str
    stems: tuple[str, ...]
    other_numbers: tuple[str, ...]


class _Scorer:
    """Scores candidates for one query. What a block is worth is worked out once, however many lines share it, and so
    is what all blocks but a line's own one are worth together."""

    def __init__(self, query: Query) -> None:
        self._words = query.words
        self._language = query.language
        self._strong = frozenset(number for number, word in enumerate(query.words) if not word.weak)
        self._needles = [
            (number, stemmed)
            for number, word in enumerate(query.words)
            for stemmed in dict.fromkeys(stemmed for form in word.forms for stemmed in form.stems)
        ]
        self._stems = frozenset(stemmed for _, stemmed in self._needles)
        self._forms = [[_needle(form, word) for form in word.forms] for word in query.words]
        self._heads = [frozenset(stemmed for form in word.forms for stemmed in form.stems) for word in query.words]
        self._full = sum(word.weight for word in query.words) or 1.0
        self._wants_parts = any(word.folded in _PART_WORDS for word in query.words)
        self._blocks: dict[str, _Block] = {}
        self._shared: dict[tuple[str, ...], _Shared] = {}

    def score(self, candidate: Candidate) -> Hit | None:
        """What the query and this line have in common; None when it is nothing."""
        code, evidence = candidate
        own = self._known(evidence[0]) if evidence else _NOTHING
        others = evidence[1:]
        shared = self._shared.get(others)
        if shared is None:
            shared = self._shared[others] = self._together(others)
        if own.matches:
            worth = self._value(own, shared)
        elif own in shared.unmet:
            worth = shared.unmet[own]
        else:
            worth = shared.unmet[own] = self._value(own, shared)
        return None if worth is None else Hit(code, *worth)

    def _value(self, own: _Block, shared: _Shared) -> tuple[float, tuple[Match, ...]] | None:
        best, below = shared.best, shared.below
        if own.matches:
            best, below = dict(own.matches), {}
            if own.below:
                below = {number: match.value for number, match in own.matches}
            _take_best(shared.best.items(), best)
            for number, value in shared.below.items():
                if value > below.get(number, 0.0):
                    below[number] = value
        if not best:
            return None
        words = self._words
        met = met_below = 0.0
        for number, match in best.items():
            met += words[number].weight * match.value
        for number, value in below.items():
            met_below += words[number].weight * value
        phrase = max(shared.phrase, own.phrase)
        score = (met + _WHOLE_PHRASE * phrase + _BELOW_HEADING * met_below) / self._full / _MOST
        if own.likely if shared.likely is None else shared.likely:
            score += _LIKELY
        if (shared.parts or own.parts) and not self._wants_parts:
            score *= _NOT_PARTS
        return min(score, 1.0), tuple(best.values())

    def _together(self, evidence: Sequence[str]) -> _Shared:
        best: dict[int, Match] = {}
        below: dict[int, float] = {}
        phrase, likely, parts = 0.0, None, False
        for text in evidence:
            block = self._known(text)
            if block is _NOTHING:
                continue
            if block.likely is not None:
                likely = block.likely
            parts = parts or block.parts
            if block.phrase > phrase:
                phrase = block.phrase
            _take_best(block.matches, best)
            if block.below:
                for number, match in block.matches:
                    if match.value > below.get(number, 0.0):
                        below[number] = match.value
        return _Shared(best, below, phrase, likely, parts, {})

    def _known(self, text: str) -> _Block:
        block = self._blocks.get(text)
        if block is None:
            told = _told(text)
            block = told.unmet if self._stems.isdisjoint(told.stems) else self._met(text, told.stems)
            self._blocks[text] = block
        return block

    def _met(self, text: str, stems: frozenset[str]) -> _Block:
        kind, code, says = text[: text.index("\n")].split("\t")
        lines: dict[int, list[int]] = {}
        for number, stemmed in self._needles:
            if stemmed not in stems:
                continue
            needle = f" {stemmed} "
            at = text.find(needle)
            while at >= 0:
                start = text.rfind("\n", 0, at) + 1
                numbers = lines.get(start)
                if numbers is None:
                    lines[start] = [number]
                elif numbers[-1] != number:
                    numbers.append(number)
                at = text.find(needle, text.index("\n", at))
        words = self._words
        best: dict[int, Match] = {}
        phrase = 0.0
        for start, numbers in lines.items():
            entry = Entry.parse(text[start : text.index("\n", start)], code)
            weight = self._worth(entry, numbers)
            if len(numbers) == 1 and (known := best.get(numbers[0])) is not None and weight <= known.value:
                continue  # No form of the word is worth more than the entry.
            total = 0.0
            for number in numbers:
                quality, read_as = self._quality(number, entry)
                value = weight * quality
                total += value * words[number].weight
                if number not in best or value > best[number].value:
                    best[number] = Match(words[number], entry, value, read_as)
            if total > phrase and len(numbers) > 1:
                phrase = total
        below = len(code) > _HEADING
        return _Block(tuple(best.items()), phrase, below, True if kind == OWN else None, below and says == PARTS)

    def _worth(self, entry: Entry, numbers: Sequence[int]) -> float:
        source, language, size = entry.source, entry.language, entry.size
        weight, partial = _SOURCE_WEIGHT[source], _PARTIAL_KEYWORD
        if source in (OWN, PARENT):
            partial = _PARTIAL_WORDING
            if source == PARENT and len(entry.code) == _CHAPTER:
                weight = _CHAPTER_WEIGHT
        whole = len(numbers) >= size and self._strong.issubset(numbers)
        # How likely a word means these goods orders its headings; it must not put them all behind lines that name the
        # word in passing.
        weight *= math.sqrt(entry.weight) if whole else entry.weight
        if source == "brand" and not whole:
            weight /= size
        if self._language and language and language != self._language:
            weight *= _OTHER_LANGUAGE
        coverage = len(numbers) / size
        weight *= partial + (1 - partial) * min(1.0, coverage)
        if size > 1 and entry.head and not self._meets_head(entry.head, numbers):
            weight *= _NOT_THE_HEAD
        return weight

    def _meets_head(self, head: str, numbers: Sequence[int]) -> bool:
        for number in numbers:  # noqa: SIM110  # any() here was 4 % of a profiled search
            if head in self._heads[number]:
                return True
        return False

    def _quality(self, number: int, entry: Entry) -> tuple[float, str | None]:
        """How well the word's best form meets the entry, and that form when it is not the word itself."""
        quality, read_as = 0.0, None
        for form in self._forms[number]:
            if form.word in entry.words:
                found = form.quality
            elif any(stemmed in entry.stems for stemmed in form.stems):
                same = any(word in entry.words for word in form.other_numbers)
                found = form.quality * (_OTHER_NUMBER if same else _OTHER_FORM)
            else:
                continue
            if found > quality:
                quality, read_as = found, form.read_as
        return quality, read_as


@lru_cache(maxsize=_KEPT_BLOCKS)
def _told(text: str) -> _Told:
    """Kept for all queries: the candidates of one have some 280 blocks, of which it meets fifty; looking for all of its
    stems in all their texts was two fifths of the ranker's work, by a profile."""
    return _Told(stems_of(text), _unmet(text))


def _unmet(text: str) -> _Block:
    """What a block in which the query meets nothing tells of its lines."""
    if text.startswith(TERM):
        return _NOTHING
    kind, code, says = text[: text.index("\n")].split("\t")
    # A whole heading of parts (8708) is no less likely; a line of parts among whole goods is.
    parts = says == PARTS and len(code) > _HEADING
    if kind != OWN:
        return _PARTS_UNMET if parts else _NOTHING
    # A line that says nothing of its own ("Los demás") is likelier than one that names something else.
    if says == CATCH_ALL:
        return _CATCH_ALL_UNMET
    return _PARTS_OF_ITS_OWN_UNMET if parts else _OTHER_UNMET


def _needle(form: Form, word: Word) -> _Needle:
    return _Needle(
        form.quality,
        form.word if form.word != word.folded else None,
        f" {form.word} ",
        tuple([f" {stemmed} " for stemmed in form.stems]),
        tuple([f" {other} " for other in other_number(form.word)]),
    )


def _take_best(matches: Iterable[tuple[int, Match]], best: dict[int, Match]) -> None:
    """Keeps the best match of each word, the first of equals."""
    for number, match in matches:
        known = best.get(number)
        if known is None or match.value > known.value:
            best[number] = match
