"""What is suggested while somebody types: how engines keep the phrases, and which come first.

A phrase is one term of an index: the folded text, the text as it is shown, its language. One term, since adding many
small texts to a document took longer than indexing them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from heapq import nsmallest

from sicargabox_core.search.document import TermGroup
from sicargabox_core.search.engine import Completion
from sicargabox_core.search.text import fold

# Two letters may begin more phrases than anybody reads; an engine need not count them all.
MOST_COMPLETIONS = 3000
_LONGEST = 60
# Neither occurs in text that can be printed, so a term is one word for every tokenizer that splits at white space.
_SEPARATOR, _SPACE = "\x1f", "\x1e"
# Words less one, lines (negative), letters.
_Order = tuple[int, int, int]


@lru_cache(maxsize=256)
def completion_terms(group: TermGroup) -> tuple[str, ...]:
    """The terms of what may be suggested from a group; long phrases are left out."""
    return tuple(
        _SEPARATOR.join((fold(term.text), term.text, term.language)).replace(" ", _SPACE)
        for term in group.terms
        if len(term.text) <= _LONGEST and term.text.isprintable()
    )


def term_prefix(typed: str) -> str:
    """How the terms of phrases begin that begin with ``typed`` (folded)."""
    return typed.replace(" ", _SPACE)


def best_completions(terms: Iterable[tuple[str, int]], limit: int) -> list[Completion]:
    """The phrases of these terms, each with its number of lines, the most useful first."""
    found: dict[str, tuple[_Order, str, int]] = {}
    for term, lines in terms:
        folded, text, _ = term.split(_SEPARATOR)
        # Short phrases first: they are the general words; among equals the one that leads to more lines.
        order = (folded.count(_SPACE), -lines, len(text))
        known = found.get(folded)
        if known is None or order < known[0]:
            found[folded] = (order, term, lines)
    # Two letters begin thousands; only what is shown is put back into words.
    best = nsmallest(limit, found.values(), key=lambda one: one[0])
    return [_completion(term, lines) for _, term, lines in best]


def _completion(term: str, lines: int) -> Completion:
    _, text, language = term.split(_SEPARATOR)
    return Completion(text.replace(_SPACE, " "), language, lines)
