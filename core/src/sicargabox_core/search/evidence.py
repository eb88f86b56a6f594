"""What can meet a query, in the compact form that engines store and the ranker reads.

A document becomes one text with a line for each *entry*: a piece of official wording or one term. The ranker looks up
to 200 of them through for every search, so it must not parse what does not match: it finds a stem by one substring
search (C speed) and splits only the lines that were hit. Measured on the real tariff: about 20 times faster than
documents as JSON.

    source ⇥ language ⇥ code it hangs on ⇥ number of words ⇥ " words " ⇥ " ~stems " ⇥ text ⇥ note
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from sicargabox_core.search.document import TariffDocument, TermGroup
from sicargabox_core.search.text import STOP_WORDS, joined_words, stem, stems, words_of

OWN, PARENT, TERM = "own", "parent", "term"

_CLAUSE = re.compile(r"[;:()\[\]|]")
_NAME = re.compile(r"[;:()\[\]|]|,\s+|\s[–-]\s")
# From such a word to the end of its clause the wording names what is *not* meant.
_EXCLUDES = re.compile(
    r"\b(?:excepto|salvo|distint[oa]s?|diferentes? de|excluid[oa]s?|con exclusi[oó]n|no incluid[oa]s|no comprendid[oa]s"
    r"|no expresad[oa]s|except|excluding|other than|not elsewhere|not including|n\.e\.[cs]\.?|nesoi)\b",
    re.IGNORECASE,
)


class Entry(NamedTuple):
    """One line of evidence, parsed."""

    source: str
    language: str
    code: str
    size: int
    words: str
    stems: str
    text: str
    note: str

    @classmethod
    def parse(cls, line: str) -> Entry:
        """Reads a line as ``encode`` writes it."""
        source, language, code, size, words, stemmed, text, note = line.split("\t")
        return cls(source, language, code, int(size), words, stemmed, text, note)


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


def encode(document: TariffDocument) -> str:
    """The evidence of a document, one line an entry, each ended by a line break."""
    return "".join(block.lines for block in blocks(document))


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


@lru_cache(maxsize=4096)
def _wording(source: str, code: str, es: str, en: str) -> Block:
    return _block(
        source,
        [(source, "es", code, piece, "") for piece in clauses(es)]
        + [(source, "en", code, piece, "") for piece in clauses(en)],
    )


@lru_cache(maxsize=4096)
def _terms(group: TermGroup) -> Block:
    return _block(TERM, [(term.source, term.language, group.code, term.text, term.note) for term in group.terms])


def _block(source: str, entries: Iterable[tuple[str, str, str, str, str]]) -> Block:
    lines: list[str] = []
    stemmed: list[str] = []
    phrases: dict[str, None] = {}
    known: set[str] = set()
    for kind, language, code, text, note in entries:
        words = [word for word in words_of(text) if word not in STOP_WORDS]
        if not words:
            continue
        size = len(words)
        phrases[phrase_key(words, language)] = None
        words += joined_words(text)
        forms = dict.fromkeys(
            [stem(word, language) for word in words] if language else [form for word in words for form in stems(word)]
        )
        fields = (
            kind,
            language,
            code,
            str(size),
            f" {' '.join(words)} ",
            f" ~{' ~'.join(forms)} ",
            _line(text),
            _line(note),
        )
        lines.append("\t".join(fields) + "\n")
        stemmed.extend(forms)
        known.update(words)
    return Block(source, "".join(lines), " ".join(stemmed), " ".join(phrases), frozenset(known))


def _line(text: str) -> str:
    """Text that cannot end a field or a line of evidence."""
    return " ".join(text.split()) if not text.isprintable() else text
