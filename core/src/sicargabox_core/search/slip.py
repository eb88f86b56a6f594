"""Whether the difference between what was typed and a known word is one that a hand or an ear makes.

Of rows of random letters every fourth pronounceable one of five is a letter from some word. People do not exchange
letters at random: they drop and swap them, hit the key beside, double them, and write what they hear.
"""

from __future__ import annotations

from rapidfuzz.distance import Levenshtein

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_VOWELS = "aeiou"
# Heard alike, or nearly, in one of our languages, or written alike.
_ALIKE = {"b": "pv", "c": "kqsz", "d": "t", "f": "v", "g": "cjk", "h": "j", "i": "y", "k": "q", "l": "yr", "m": "n"}
_ALIKE |= {"s": "xz", "u": "w", "x": "j"}
# Glides and mute letters stand beside vowels without being heard ("drown": dron).
_SOFT = frozenset(_VOWELS + "hwy")
_ADDED_AT_THE_END = "es"
_SWAPPED_WITHIN = 2


def _pairs() -> frozenset[tuple[str, str]]:
    keys = {(row, at): key for row, letters in enumerate(_ROWS) for at, key in enumerate(letters)}
    found = {(one, other) for one in _VOWELS for other in _VOWELS} | {
        (one, other) for one in _ALIKE for other in _ALIKE[one]
    }
    for (row, at), key in keys.items():
        # Rows lie half a key to the right of the one above.
        found |= {(key, keys[place]) for place in ((row, at + 1), (row + 1, at), (row + 1, at - 1)) if place in keys}
    return frozenset(found | {(other, one) for one, other in found} | {(key, key) for key in keys.values()})


_EXCHANGED = _pairs()


def by_hand_or_ear(typed: str, known: str) -> bool:
    """Whether every edit that leads from ``known`` to ``typed`` is a slip of that kind; both without accents."""
    typed, known = typed.lower(), known.lower()
    added: list[int] = []
    dropped: list[int] = []
    for edit in Levenshtein.editops(typed, known):
        at, place = edit.src_pos, edit.dest_pos
        if edit.tag == "delete":
            added.append(at)
        elif edit.tag == "insert":
            dropped.append(place)
        elif (typed[at], known[place]) not in _EXCHANGED and not _swapped(typed, known, at, place):
            return False
    return all(
        _comes_along(typed, at)
        or any(typed[at] == known[place] and abs(at - place) <= _SWAPPED_WITHIN for place in dropped)
        for at in added
    )


def _swapped(typed: str, known: str, at: int, place: int) -> bool:
    """Whether the letter was exchanged with one beside it."""
    return any(
        typed[at] == known[place + step : place + step + 1] and typed[at + step : at + step + 1] == known[place]
        for step in (-1, 1)
        if at + step >= 0 and place + step >= 0
    )


def _comes_along(typed: str, at: int) -> bool:
    """Whether a letter too many is there for the ones beside it."""
    letter = typed[at]
    if letter == "h" or (at == len(typed) - 1 and letter in _ADDED_AT_THE_END):
        return True
    beside = typed[max(0, at - 1) : at] + typed[at + 1 : at + 2]
    return any((letter, other) in _EXCHANGED or {letter, other} <= _SOFT for other in beside)
