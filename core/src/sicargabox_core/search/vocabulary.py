"""All words that documents hold, with how many headings know each: what is known, what is rare, what is similar.

Rarity counts headings, not lines: a heading of sixty lines repeats its words sixty times and they are no less telling.
It is built while documents stream by, and kept beside the generation it describes.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

from rapidfuzz import process
from rapidfuzz.distance import OSA

from sicargabox_core.errors import DataFault
from sicargabox_core.search.evidence import Block
from sicargabox_core.search.slip import by_hand_or_ear
from sicargabox_core.search.sound import sounds
from sicargabox_core.search.text import marked_stems, other_number

# Below five letters nearly every word is one letter from another; from eight on two slips are common. Words that sound
# alike are told from chance a letter earlier.
_SHORTEST_FUZZY = 5
_SHORTEST_HEARD = 4
_TWO_SLIPS_FROM = 8
_SHORTEST_NEARLY_HEARD = 6
_MOST_LETTERS_HEARD = 3
# Fingers slip on the first letter least of all; in short words another one makes another word ("vuler", "ruler").
_BEGINS_ALIKE_BELOW = 6
# Chance leads from random letters to words: for one letter up to five letters, for two up to eight. What neither a hand
# nor an ear would do is taken for chance there.
_ONE_BY_CHANCE, _MORE_BY_CHANCE = 5, 8
# No word is heard in such letters: rows of consonants as in no word of either language, or no vowel at all.
_NO_WORD = re.compile(
    r"[^aeiouy]{5}|^[^aeiouy]{4}|[^aeiouy]{4}$|^[^aeiouy]+$|[qx][^aeiouyhltpc]|[bcdfghjklmnpqrtvwxz][qx]"
)
_SIMILAR_LIMIT = 3
# Nearer than any word is that is not heard alike.
_HEARD_ALIKE = 0.9
# Readings that are hardly worse than the nearest are kept too: the query's other words decide.
_NEARLY_AS_NEAR = 0.25
_ANOTHER_BEGINNING = 0.3
_SHORTEST_PART = 3
_LONGER_THAN_PARTS = 7
_SMALLER = re.compile(r"(.{2,})it([oa])(s?)")
# Taza, tacita; vaca, vaquita; cajón, cajoncito; pan, panecito.
_BEFORE_SMALLER = {"qu": "c", "gu": "g", "ec": "", "c": ""}


class Similar(NamedTuple):
    """A known word near an unknown one.

    ``distance`` grows with the letters changed, swapped, added or dropped (1 each), and with how differently both
    sound: a slip that nobody would hear counts a quarter.
    """

    word: str
    distance: float


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

    def languages(self, word: str) -> frozenset[str]:
        """In which languages (``es``, ``en``) the word, or another form of it, occurs."""
        return frozenset(code for code in ("es", "en") if marked_stems(word, code)[0] in self.stems)

    def rarity(self, word: str) -> float:
        """From near 0 (in every heading) to 1 (in one or none)."""
        if self.headings < 2:
            return 1.0
        count = max(self.words.get(word, 0), *(self.stems.get(form, 0) for form in marked_stems(word)), 1)
        return math.log(1 + self.headings / count) / math.log(1 + self.headings)

    def written(self, word: str) -> str | None:
        """The word as it occurs: as it is or in its other number. A stem alone would join ``vaso`` with ``vasa``."""
        if word in self.words:
            return word
        return next((other for other in other_number(word) if other in self.words), None)

    def similar(self, word: str) -> list[Similar]:
        """The known words nearest to an unknown one, at most three; none when nothing is near enough."""
        if len(word) < _SHORTEST_HEARD or not word.isalpha():
            return []
        keys = _keys(word)
        heard = not _NO_WORD.search(word)
        near = {known for key in keys for known in self._by_sound.get(key, ())} if heard else set()
        found = _compared(word, keys, near)
        if not found or found[0].distance >= _HEARD_ALIKE:
            near |= self._by_letters(word)
            found = _compared(word, keys, near)
        if heard and len(word) >= _SHORTEST_NEARLY_HEARD and (not found or found[0].distance > 1):
            found = _compared(word, keys, near | self._nearly_heard(keys))
        found.sort(key=lambda one: (one.distance, -self.words[one.word], one.word))
        return [one for one in found if one.distance <= found[0].distance + _NEARLY_AS_NEAR][:_SIMILAR_LIMIT]

    def _by_letters(self, word: str) -> set[str]:
        length = len(word)
        if length < _SHORTEST_FUZZY:
            return set()
        slips = 2 if length >= _TWO_SLIPS_FROM else 1
        found: set[str] = set()
        for size in range(max(_SHORTEST_HEARD, length - slips), length + slips + 1):
            choices = self._by_length.get(size, ())
            found.update(
                known for known, _, _ in process.extract_iter(word, choices, scorer=OSA.distance, score_cutoff=slips)
            )
        return found

    def _nearly_heard(self, keys: Iterable[str]) -> set[str]:
        near: set[str] = set()
        for key in keys:
            for size in range(len(key) - 1, len(key) + 2):
                choices = self._sounds_by_length.get(size, ())
                for heard, _, _ in process.extract_iter(key, choices, scorer=OSA.distance, score_cutoff=1):
                    near.update(self._by_sound[heard])
        return near

    def splits(self, word: str) -> tuple[str, ...]:
        """An unknown word as two known ones written together (``airfryer``); nothing if there is no such pair.

        Of several pairs the one whose shorter word is longest, then the one that more headings know.
        """
        shortest = _SHORTEST_PART if len(word) >= _LONGER_THAN_PARTS else _SHORTEST_PART + 1
        pairs = [
            (word[:cut], word[cut:])
            for cut in range(shortest, len(word) - shortest + 1)
            if self.written(word[:cut]) and self.written(word[cut:])
        ]
        if not pairs:
            return ()
        return max(pairs, key=lambda pair: (min(map(len, pair)), sum(self.words.get(part, 0) for part in pair), pair))

    def larger(self, word: str) -> list[str]:
        """The known words of which an unknown one is the Spanish diminutive (``bolsita``), the likeliest first."""
        match = _SMALLER.fullmatch(word)
        if match is None:
            return []
        root, vowel, plural = match.groups()
        roots = [root]
        if root.endswith("c"):
            roots.append(root[:-1] + "z")
        roots += [root[: -len(end)] + new for end, new in _BEFORE_SMALLER.items() if root.endswith(end)]
        found = [
            whole
            for ending in (vowel, "e", "", "o" if vowel == "a" else "a")
            for one in roots
            if len(whole := one + ending) >= _SHORTEST_PART and self.written(whole)
        ]
        return [whole + plural if whole[-1] in "aeo" else whole for whole in found][:_SIMILAR_LIMIT]

    @cached_property
    def _by_length(self) -> dict[int, list[str]]:
        return _grouped_by_length(self.words)

    @cached_property
    def _by_sound(self) -> dict[str, tuple[str, ...]]:
        words = [word for word in self.words if len(word) >= _SHORTEST_HEARD and word.isalpha()]
        found: dict[str, tuple[str, ...]] = {}
        for english in (False, True):
            for word, key in zip(words, sounds(words, english=english), strict=True):
                alike = found.get(key, ())
                if word not in alike:
                    found[key] = (*alike, word)
        return found

    @cached_property
    def _sounds_by_length(self) -> dict[int, list[str]]:
        return _grouped_by_length(self._by_sound)

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


def _grouped_by_length(words: Iterable[str]) -> dict[int, list[str]]:
    groups: dict[int, list[str]] = {}
    for word in words:
        groups.setdefault(len(word), []).append(word)
    return groups


@lru_cache(maxsize=8192)
def _keys(word: str) -> tuple[str, ...]:
    """How a word is heard, read as Spanish and as English."""
    return tuple(dict.fromkeys((*sounds([word]), *sounds([word], english=True))))


def _compared(word: str, keys: Sequence[str], near: Iterable[str]) -> list[Similar]:
    """How near these known words are, the nearest first; those only heard alike and written quite otherwise go."""
    found = []
    for known in near:
        letters = OSA.distance(word, known)
        if letters > _MOST_LETTERS_HEARD:
            continue
        others = _keys(known)
        if letters == _MOST_LETTERS_HEARD and len(word) <= 2 * letters and not _as_heard(word, others):
            continue
        heard = min([OSA.distance(key, other) for key in keys for other in others])
        distance = min(letters, (letters + 2 * heard) / 3) if heard else letters / 4
        if word[0] != known[0] and {key[0] for key in keys}.isdisjoint([other[0] for other in others]):
            if len(word) < _BEGINS_ALIKE_BELOW:
                continue
            distance += _ANOTHER_BEGINNING
        if distance >= _HEARD_ALIKE and not _slipped(word, keys, known, others, letters):
            continue
        found.append(Similar(known, distance))
    found.sort(key=lambda one: one.distance)
    return found


def _slipped(word: str, keys: Iterable[str], known: str, others: Sequence[str], letters: int) -> bool:
    """Whether the difference is a slip, not chance: in what is written or, of several letters, in what is heard."""
    if len(word) > (_ONE_BY_CHANCE if letters == 1 else _MORE_BY_CHANCE) or by_hand_or_ear(word, known):
        return True
    return letters > 1 and any(
        by_hand_or_ear(key, other) for key in keys for other in others if OSA.distance(key, other) <= 1
    )


def _as_heard(word: str, keys: Iterable[str]) -> bool:
    """Whether a word is written, but for a letter, as another sounds ("yins": jeans)."""
    return any(OSA.distance(word, key.lower()) <= 1 for key in keys)


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
