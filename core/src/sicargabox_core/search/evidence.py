"""What can meet a query, in the compact form that engines store and the ranker reads.

A document becomes one text of *blocks*: its own wording, the wording of each parent, the terms of each code. Lines of
a heading share most blocks word for word, so the ranker works a block out once per query. A block is a header line and
a line for each *entry*, a piece of wording or one term. The ranker must not parse what does not match: it finds a stem
by one substring search (C speed) and splits only the lines that were hit.

    header:  kind ⇥ code it hangs on ⇥ what its wording does: name goods, name parts of them, or nothing ("Los demás")
    entry:   source ⇥ language ⇥ weight ⇥ number of words ⇥ head ⇥ " words " ⇥ " stems " ⇥ text ⇥ note
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from sicargabox_core.search.document import TariffDocument, TermGroup
from sicargabox_core.search.text import (
    ENGLISH_MARK,
    SPANISH_MARK,
    STOP_WORDS,
    joined_words,
    marked_stems,
    stem,
    words_of,
)

OWN, PARENT, TERM = "own", "parent", "term"
NAMES, PARTS, CATCH_ALL = "names", "parts", "catch-all"

_CLAUSE = re.compile(r"[;:()\[\]|]")
_NAME = re.compile(r"[;:()\[\]|]|,\s+|\s[–-]\s")
# From such a word to the end of its clause the wording names what is *not* meant.
_EXCLUDES = re.compile(
    r"\b(?:excepto|salvo|distint[oa]s?|diferentes? de|excluid[oa]s?|con exclusi[oó]n|no incluid[oa]s|no comprendid[oa]s"
    r"|no expresad[oa]s|except|excluding|other than|not elsewhere|not including|n\.e\.[cs]\.?|nesoi)\b",
    re.IGNORECASE,
)


_PARTS_WORDS = frozenset({"parte", "partes", "parts", "part"})
# "De cámaras fotográficas", "para celulares": the goods are not the camera but something of it or for it.
_QUALIFIER = re.compile(r"(?:de|del|para|con|sin|for|of|with|without)\s", re.IGNORECASE)
_QUALIFIED = re.compile(r"\s(?:for|of|with|without|in)\s", re.IGNORECASE)
_QUALIFIER_SIZE = 2
_LONGEST_FIRST_WORD = 12
_BLOCK_END = "\f"
# The place of the stems in the line of an entry.
_STEMS = 6


class Entry(NamedTuple):
    """One line of evidence, parsed. ``head`` is the marked stem of the word that names the goods; empty: none does."""

    source: str
    language: str
    code: str
    weight: float
    size: int
    head: str
    words: str
    stems: str
    text: str
    note: str

    @classmethod
    def parse(cls, line: str, code: str) -> Entry:
        """Reads a line of a block that hangs on ``code``."""
        source, language, weight, size, head, words, stemmed, text, note = line.split("\t")
        return cls(source, language, code, float(weight), int(size), head, words, stemmed, text, note)


def clauses(wording: str) -> list[str]:
    """The pieces of official wording that name goods; what it excludes is left out."""
    if _EXCLUDES.search(wording):
        wording = ";".join([_EXCLUDES.split(piece, maxsplit=1)[0] for piece in _CLAUSE.split(wording)])
    return [name for piece in _NAME.split(wording) if (name := piece.strip())]


class Block(NamedTuple):
    """Entries that documents share, with all that an index needs of them, worked out once."""

    source: str
    lines: str
    stems: str
    phrases: str
    words: frozenset[str]


def stored(parts: Iterable[Block]) -> str:
    """The evidence of a document as one text, for an engine to keep."""
    return _BLOCK_END.join([part.lines for part in parts])


def read(text: str) -> tuple[str, ...]:
    """The blocks of a stored evidence."""
    return tuple(text.split(_BLOCK_END))


def stems_of(text: str) -> frozenset[str]:
    """The marked stems of all entries of a block; one object for each stem, whatever blocks it is in."""
    entries = text.split("\n")[1:-1]
    return frozenset([sys.intern(stemmed) for entry in entries for stemmed in entry.split("\t")[_STEMS].split()])


def blocks(document: TariffDocument) -> list[Block]:
    """The evidence of a document in pieces: its own wording, its parents' from below, and its terms by code."""
    return [
        _wording(OWN, document.code, document.description_es, document.description_en),
        *(_wording(PARENT, step.code, step.es, step.en) for step in reversed(document.path)),
        *(_terms(group) for group in document.terms),
    ]


def phrase_key(words: Iterable[str], language: str) -> str:
    """A whole phrase as one word: the stems of its words in order."""
    return "_".join([stem(word, language) for word in words])


@lru_cache(maxsize=256)
def _wording(source: str, code: str, es: str, en: str) -> Block:
    named = _named(source, "es", es)
    says = NAMES if named else CATCH_ALL
    if _PARTS_WORDS.intersection(words_of(es[:_LONGEST_FIRST_WORD])[:1]):
        says = PARTS
    return _block(source, code, says, [*named, *_named(source, "en", en)])


@lru_cache(maxsize=1024)
def _named(source: str, language: str, wording: str) -> tuple[_Made, ...]:
    """What a wording names; four lines of ten share theirs with others ("Los demás", "De plástico")."""
    entries = (_entry(source, language, text) for text in clauses(wording))
    return tuple(entry for entry in entries if entry is not None)


@lru_cache(maxsize=256)
def _terms(group: TermGroup) -> Block:
    return _block(
        TERM,
        group.code,
        NAMES,
        [
            entry
            for term in group.terms
            if (entry := _entry(term.source, term.language, term.text, term.weight, term.note)) is not None
        ],
    )


class _Made(NamedTuple):
    """An entry as it is written, with its words."""

    line: str
    stems: dict[str, None]
    phrase: str
    words: list[str]


def _block(kind: str, code: str, says: str, made: Sequence[_Made]) -> Block:
    stemmed = [form for entry in made for form in entry.stems]
    return Block(
        source=kind,
        lines=f"{kind}\t{code}\t{says}\n" + "".join([entry.line for entry in made]),
        stems=" ".join(stemmed),
        phrases=" ".join(dict.fromkeys([entry.phrase for entry in made])),
        words=frozenset([word for entry in made for word in entry.words]),
    )


def _entry(source: str, language: str, text: str, weight: float = 1.0, note: str = "") -> _Made | None:
    words = [word for word in words_of(text) if word not in STOP_WORDS]
    if not words:
        return None
    size = len(words)
    bare = [stem(word, language) for word in words]
    head = ""
    if _QUALIFIER.match(text):
        size += _QUALIFIER_SIZE
    elif language == "en":
        qualified = _QUALIFIED.search(text)
        named = [word for word in words_of(text[: qualified.start()]) if word not in STOP_WORDS] if qualified else words
        head = marked_stems((named or words)[-1], "en")[0]
    elif language == "es":
        head = SPANISH_MARK + bare[0]
    joined = joined_words(text)
    if language:
        mark = SPANISH_MARK if language == "es" else ENGLISH_MARK
        marked = [mark + form for form in bare] + [mark + stem(word, language) for word in joined]
    else:
        marked = [form for word in (*words, *joined) for form in marked_stems(word)]
    words += joined
    stemmed = dict.fromkeys(marked)
    fields = (
        source,
        language,
        str(weight),
        str(size),
        head,
        f" {' '.join(words)} ",
        f" {' '.join(stemmed)} ",
        _line(text),
        _line(note),
    )
    return _Made("\t".join(fields) + "\n", stemmed, "_".join(bare), words)


def _line(text: str) -> str:
    """Text that cannot end a field or a line of evidence."""
    return " ".join(text.split()) if not text.isprintable() else text
