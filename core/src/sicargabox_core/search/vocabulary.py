"""All words that documents hold, with how many headings know each: what is known, what is rare, what is similar.

Rarity counts headings, not lines: a heading of sixty lines repeats its words sixty times and they are no less telling.
It is built while documents stream by, and kept beside the generation it describes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from rapidfuzz import process
from rapidfuzz.distance import OSA

from sicargabox_core.errors import DataFault
from sicargabox_core.search.evidence import Block
from sicargabox_core.search.text import marked_stems

# Below five letters nearly every word is one letter from another; from eight on two slips are common.
_SHORTEST_FUZZY = 5
_TWO_SLIPS_FROM = 8
_SIMILAR_LIMIT = 3


class Similar(NamedTuple):
    """A known word near an unknown one; ``distance`` counts letters changed, swapped, added or dropped."""

    word: str
    distance: int


class Vocabulary:
    """Words and stems with the number of headings in which each occurs."""

    def __init__(self, words: dict[str, int], stem_counts: dict[str, int], headings: int) -> None:
        self.words = words
        self.stems = stem_counts
        self.headings = headings

    @classmethod
    def empty(cls) -> Vocabulary:
        """A vocabulary that knows nothing, for answers without an index."""
        return cls({}, {}, 0)

    def __bool__(self) -> bool:
        return self.headings > 0

    def knows(self, word: str) -> bool:
        """Whether the word, or another form of it, occurs in any document."""
        return word in self.words or any(form in self.stems for form in marked_stems(word))

    def rarity(self, word: str) -> float:
        """From near 0 (in every heading) to 1 (in one or none)."""
        if self.headings < 2:
            return 1.0
        count = max(self.words.get(word, 0), *(self.stems.get(form, 0) for form in marked_stems(word)), 1)
        return math.log(1 + self.headings / count) / math.log(1 + self.headings)

    def similar(self, word: str) -> list[Similar]:
        """The known words nearest to an unknown one, at most three; none when nothing is near enough."""
        length = len(word)
        if length < _SHORTEST_FUZZY or not word.isalpha():
            return []
        slips = 2 if length >= _TWO_SLIPS_FROM else 1
        choices = [
            known for size in range(length - slips, length + slips + 1) for known in self._by_length.get(size, ())
        ]
        found = process.extract(word, choices, scorer=OSA.distance, score_cutoff=slips, limit=None)
        near = [Similar(known, int(distance)) for known, distance, _ in found if len(known) >= _SHORTEST_FUZZY - 1]
        near.sort(key=lambda item: (item.distance, item.word[0] != word[0], -self.words[item.word], item.word))
        return [item for item in near if item.distance == near[0].distance][:_SIMILAR_LIMIT]

    def splits(self, word: str) -> tuple[str, str] | None:
        """An unknown word as two known ones written together (``airfryer``), if there is such a pair."""
        for cut in range(3, len(word) - 2):
            if word[:cut] in self.words and word[cut:] in self.words:
                return word[:cut], word[cut:]
        return None

    @cached_property
    def _by_length(self) -> dict[int, list[str]]:
        groups: dict[int, list[str]] = {}
        for word in self.words:
            groups.setdefault(len(word), []).append(word)
        return groups

    def learn(self, parts: Iterable[Block]) -> None:
        """Takes in the words of a changed document, so that they are not taken for slips of others.

        Each counts as rare until a rebuild counts anew.
        """
        for part in parts:
            for word in part.words:
                self.words.setdefault(word, 1)
            for form in part.stems.split():
                self.stems.setdefault(form, 1)

    def to_json(self) -> str:
        """For storing beside a generation."""
        return json.dumps(
            {"headings": self.headings, "words": self.words, "stems": self.stems}, separators=(",", ":"), sort_keys=True
        )

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Reads ``to_json``'s text. Raises ``DataFault`` when it is not that."""
        try:
            stored = json.loads(text)
            return cls(stored["words"], stored["stems"], stored["headings"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataFault("the vocabulary beside the index cannot be read", remedy="Rebuild the index.") from error


class VocabularyBuilder:
    """Counts words by heading while documents come in order of code; a heading that comes again counts again."""

    def __init__(self) -> None:
        self._words: Counter[str] = Counter()
        self._stems: Counter[str] = Counter()
        self._headings = 0
        self._heading = ""
        # Lines of a heading share most of their blocks: keyed by their text, each is counted in once.
        self._blocks: dict[str, Block] = {}

    def add(self, heading: str, parts: Iterable[Block]) -> None:
        """One document's evidence."""
        if heading != self._heading:
            self._close_heading()
            self._heading = heading
        for part in parts:
            self._blocks[part.lines] = part

    def _close_heading(self) -> None:
        if self._heading:
            self._headings += 1
            self._words.update(set().union(*(part.words for part in self._blocks.values())))
            self._stems.update({form for part in self._blocks.values() for form in part.stems.split()})
        self._blocks = {}

    def build(self) -> Vocabulary:
        """The vocabulary of everything added so far."""
        self._close_heading()
        self._heading = ""
        return Vocabulary(dict(self._words), dict(self._stems), self._headings)
