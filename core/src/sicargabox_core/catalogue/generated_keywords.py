"""Keywords from our own lexicon: the offline provider of ``ai.generate_keywords``.

They become PENDING keywords of source ``generated``, like a language model's: staff review them before they count as
the catalogue's own. Searches do not wait for that review, since the index holds the lexicon's words in any case; what
the review adds is a person's judgement for one line, which also survives a later change of the lexicon.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sicargabox_core.catalogue.keywords import Proposal, normalise
from sicargabox_core.catalogue.models import Language
from sicargabox_core.lexicon.loader import Lexicon, Term

MODEL = "lexicon"


def words_for(code: str, lexicon: Lexicon, languages: Collection[str]) -> Iterator[Proposal]:
    """The lexicon's words for one line, each once per language.

    Of the codes above the line only the nearest that has words in that language speaks: the words of a whole heading
    would else be put on each of its lines, also where a subheading says it better.
    """
    for language in languages:
        terms = [term for term in lexicon.terms(code) if term.language == language]
        nearest = max((len(term.code) for term in terms), default=0)
        seen: set[str] = set()
        for term in terms:
            normal = normalise(term.text)
            if len(term.code) == nearest and normal not in seen:
                seen.add(normal)
                yield _proposal(code, term)


def _proposal(code: str, term: Term) -> Proposal:
    return Proposal(code, Language(term.language), term.text, {"model": MODEL, "of": term.code})
