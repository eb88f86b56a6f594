"""Misspellings made by rule from our own vocabulary, so that no list of examples can be tuned to.

Each class of slips changes one word of a term the way people do; a term that the rule does not touch is left out. What
is right for a slip is what is right for the term: the headings on which the vocabulary hangs it.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable

from sicargabox_core.lexicon.loader import Lexicon
from sicargabox_core.search.evaluate import Labelled
from sicargabox_core.search.text import STOP_WORDS, fold

AS_IT_IS = "as it is"
_SHORTEST = 5
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_FILLER = """
    nuevo|original|talla 9|talla m|64gb|12 oz|5w30|set de 3|pack x2|de segunda|new|color negro|usado|2 pcs|32 mm
    modelo 2023|xl|500ml|1 unidad|importado|a1466|marca generica
"""

Rule = Callable[[str, random.Random], str]


def _terms(lexicon: Lexicon) -> dict[tuple[str, str], frozenset[str]]:
    headings: dict[tuple[str, str], set[str]] = defaultdict(set)
    for terms in lexicon.by_code.values():
        for term in terms:
            headings[fold(term.text), term.language].add(term.code[:4])
    return {key: frozenset(found) for key, found in headings.items()}


def slips(lexicon: Lexicon, number: int, seed: int) -> list[Labelled]:
    """``number`` slips of every class (fewer where too few terms suit), the class as their kind. Repeatable."""
    terms = _terms(lexicon)
    known = {text for text, _ in terms}
    made: list[Labelled] = []
    for kind, (language, rule) in RULES.items():
        chance = random.Random(f"{seed} {kind}")  # repeatable
        suited = sorted(key for key in terms if language in ("", key[1]))
        chance.shuffle(suited)
        found = 0
        for text, spoken in suited:
            slip = rule(text, chance)
            if found == number:
                break
            if slip and (slip not in known or kind == AS_IT_IS):
                made.append(Labelled(slip, terms[text, spoken], spoken, kind))
                found += 1
    return made


def _in_a_word(change: Rule) -> Rule:
    """The rule applied to one of the words that are long enough; nothing when it changes none of them."""

    def changed(text: str, chance: random.Random) -> str:
        words = text.split()
        places = [at for at, word in enumerate(words) if len(word) >= _SHORTEST and word.isalpha()]
        chance.shuffle(places)
        for at in places:
            word = change(words[at], chance)
            if word and word != words[at]:
                return " ".join([*words[:at], word, *words[at + 1 :]])
        return ""

    return changed


def _instead(*pairs: tuple[str, str]) -> Rule:
    """One of the pairs (pattern, replacement) at one of the places where it fits."""

    def changed(word: str, chance: random.Random) -> str:
        places = [(match, new) for pattern, new in pairs for match in re.finditer(pattern, word)]
        if not places:
            return ""
        match, new = chance.choice(places)
        return word[: match.start()] + match.expand(new) + word[match.end() :]

    return _in_a_word(changed)


def _every(*pairs: tuple[str, str]) -> Rule:
    """All pairs wherever they fit: a word written by ear."""

    def changed(word: str, _: random.Random) -> str:
        for pattern, new in pairs:
            word = re.sub(pattern, new, word)
        return word

    return _in_a_word(changed)


def _dropped(word: str, chance: random.Random) -> str:
    at = chance.randrange(1, len(word))
    return word[:at] + word[at + 1 :]


def _doubled(word: str, chance: random.Random) -> str:
    at = chance.randrange(len(word))
    return word[: at + 1] + word[at:]


def _swapped(word: str, chance: random.Random) -> str:
    at = chance.randrange(1, len(word) - 1)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _neighbours(letter: str) -> str:
    for row in _ROWS:
        at = row.find(letter)
        if at >= 0:
            return row[max(0, at - 1) : at] + row[at + 1 : at + 2]
    return ""


def _beside(word: str, chance: random.Random) -> str:
    at = chance.randrange(1, len(word))
    near = _neighbours(word[at])
    return word[:at] + chance.choice(near) + word[at + 1 :] if near else ""


def _silent_h(word: str, chance: random.Random) -> str:
    heard = re.sub(r"(?<![cspt])h", "", word, count=1)
    return heard if heard != word else "h" + word if word[0] in "aeiou" else ""


def _plural(word: str, _: random.Random) -> str:
    if word.endswith("s"):
        return word[:-2] if word.endswith("es") and word[-3] in "lrndj" else word[:-1]
    if word.endswith("z"):
        return word[:-1] + "ces"
    return word + ("s" if word[-1] in "aeiou" else "es")


def _plural_english(word: str, _: random.Random) -> str:
    if word.endswith("s"):
        return "" if word.endswith("ss") else word[:-1]
    return word + ("es" if word.endswith(("x", "ch", "sh")) else "s")


def _diminutive(word: str, _: random.Random) -> str:
    match = re.fullmatch(r"(\w+?)(o|a)(s?)", word)
    if match is None:
        return word + "cito" if word[-1] in "nr" else ""
    root, vowel, number = match.groups()
    root = re.sub(r"c$", "qu", re.sub(r"g$", "gu", re.sub(r"z$", "c", root)))
    return f"{root}it{vowel}{number}"


def _joined(text: str, chance: random.Random) -> str:
    words = text.split()
    places = [at for at in range(len(words) - 1) if not STOP_WORDS.intersection(words[at : at + 2])]
    if not places:
        return ""
    at = chance.choice(places)
    return " ".join([*words[:at], words[at] + words[at + 1], *words[at + 2 :]])


def _split(word: str, chance: random.Random) -> str:
    if len(word) < 8:
        return ""
    at = chance.randrange(3, len(word) - 3)
    return word[:at] + " " + word[at:]


def _with_filler(text: str, chance: random.Random) -> str:
    filler = [piece.strip() for line in _FILLER.split("\n") for piece in line.split("|") if piece.strip()]
    return f"{text} {chance.choice(filler)} {chance.choice(filler)}"


_BY_EAR = (
    (r"^s(?=[ptkcnml])", "es"),
    (r"sh", "ch"),
    (r"ph", "f"),
    (r"ck", "k"),
    (r"ee|ea(?!r)", "i"),
    (r"oo", "u"),
    (r"igh", "ai"),
    (r"th", "t"),
    (r"([bdfglmnprst])\1", r"\1"),
    (r"y$", "i"),
    (r"j", "y"),
    (r"c(?=[aour])", "k"),
    (r"(?<=[aeiou][kmnprtdlv])e$", ""),
)

RULES: dict[str, tuple[str, Rule]] = {
    AS_IT_IS: ("", lambda text, _: text),
    "a letter dropped": ("", _in_a_word(_dropped)),
    "a letter doubled": ("", _in_a_word(_doubled)),
    "two letters swapped": ("", _in_a_word(_swapped)),
    "the key beside": ("", _in_a_word(_beside)),
    "b for v": ("es", _instead(("b", "v"), ("v", "b"))),
    "s, z and c": ("es", _instead(("s", "z"), ("z", "s"), ("c(?=[ei])", "s"), ("s(?=[ei])", "c"))),
    "h": ("es", _in_a_word(_silent_h)),
    "ll for y": ("es", _instead(("ll", "y"), ("y(?=[aeiou])", "ll"))),
    "g for j": ("es", _instead(("g(?=[ei])", "j"), ("j", "g"))),
    "k, c and qu": ("es", _instead(("c(?=[aour])", "k"), ("qu(?=[ei])", "k"))),
    "n for m": ("es", _instead(("m(?=[bp])", "n"), ("n(?=v)", "m"))),
    "another vowel": ("", _instead(("e", "i"), ("i", "e"), ("o", "u"), ("u", "o"))),
    "english by ear": ("en", _every(*_BY_EAR)),
    "one instead of two letters": ("", _instead((r"([bcdfglmnoprst])\1", r"\1"))),
    "another number": ("es", _in_a_word(_plural)),
    "another number, English": ("en", _in_a_word(_plural_english)),
    "a diminutive": ("es", _in_a_word(_diminutive)),
    "words run together": ("", _joined),
    "a word split": ("", _in_a_word(_split)),
    "filler": ("", _with_filler),
}


def by_kind(queries: Iterable[Labelled]) -> dict[str, list[Labelled]]:
    """The queries of each class."""
    groups: dict[str, list[Labelled]] = defaultdict(list)
    for query in queries:
        groups[query.kind].append(query)
    return groups
