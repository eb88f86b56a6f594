"""What is suggested while somebody types: how engines keep the phrases, and which come first.

A phrase is one term of an index: the folded text, the text as it is shown, its language. One term, since adding many
small texts to a document took longer than indexing them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from sicargabox_core.search.document import TermGroup
from sicargabox_core.search.engine import Completion
from sicargabox_core.search.text import fold

# Two letters may begin more phrases than anybody reads; an engine need not count them all.
MOST_COMPLETIONS = 3000
_LONGEST = 60
# Neither occurs in text that can be printed, so a term is one word for every tokenizer that splits at white space.
_SEPARATOR, _SPACE = "\x1f", "\x1e"


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
    found: dict[str, tuple[tuple[int, int, int], Completion]] = {}
    for term, lines in terms:
        folded, text, language = term.replace(_SPACE, " ").split(_SEPARATOR)
        # Short phrases first: they are the general words; among equals the one that leads to more lines.
        order = (folded.count(" "), -lines, len(text))
        if folded not in found or order < found[folded][0]:
            found[folded] = (order, Completion(text, language, lines))
    return [completion for _, completion in sorted(found.values(), key=lambda item: item[0])[:limit]]
