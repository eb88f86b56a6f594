"""Tells people why a line was found, in Spanish or English, and which words of its texts to mark."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TypedDict

from sicargabox_core.catalogue.tariff import display_code
from sicargabox_core.search.evidence import OWN, PARENT
from sicargabox_core.search.query import Query
from sicargabox_core.search.ranking import Hit, Match
from sicargabox_core.search.text import STOP_WORDS, fold, marked_stems, tokenize

_MOST_REASONS = 3

_SOURCES = {
    "es": {
        "lexicon": "vocabulario propio",
        "starter": "catálogo inicial",
        "generated": "palabra generada",
        "learned": "aprendida de lo que otros eligieron",
        "staff": "agregada por el personal",
    },
    "en": {
        "lexicon": "our vocabulary",
        "starter": "starter catalogue",
        "generated": "generated keyword",
        "learned": "learned from what others chose",
        "staff": "added by staff",
    },
}
_SENTENCES = {
    "es": {
        OWN: "«{word}» está en el texto de esta línea",
        PARENT: "«{word}» está en el texto de {code}",
        "brand": "«{word}» es una marca conocida por: {note}",
        "keyword": "«{word}» coincide con «{text}» ({source})",
        "read_as": "«{word}» se leyó como «{read_as}»",
        "code": "El código es {code}.",
        "prefix": "El código comienza con {code}.",
        "nearest": "No existe {asked}; comienza con {code}.",
    },
    "en": {
        OWN: "“{word}” is in the wording of this line",
        PARENT: "“{word}” is in the wording of {code}",
        "brand": "“{word}” is a brand known for: {note}",
        "keyword": "“{word}” matches “{text}” ({source})",
        "read_as": "“{word}” was read as “{read_as}”",
        "code": "The code is {code}.",
        "prefix": "The code begins with {code}.",
        "nearest": "There is no {asked}; it begins with {code}.",
    },
}


class Highlight(TypedDict):
    """A word to mark: characters ``start`` to ``end`` of ``field`` (``description`` or ``path.N``)."""

    field: str
    start: int
    end: int


def reason(hit: Hit, language: str, *, asked_code: str | None = None, found_code: str | None = None) -> str:
    """One sentence that names the words, what they met and where that came from."""
    sentences = _SENTENCES[language]
    parts = [_say(match, language) for match in hit.matches[:_MOST_REASONS] if match.value > 0]
    if parts:
        return "; ".join(dict.fromkeys(parts)) + "."
    code = found_code or hit.code
    if asked_code and asked_code != code:
        return sentences["nearest"].format(asked=display_code(asked_code), code=display_code(code))
    return sentences["code" if code == hit.code else "prefix"].format(code=display_code(code))


def _say(match: Match, language: str) -> str:
    sentences = _SENTENCES[language]
    entry = match.entry
    spanish, _, english = entry.note.partition("|")
    kind = entry.source if entry.source in (OWN, PARENT, "brand") else "keyword"
    said = sentences[kind].format(
        word=match.word.text,
        code=display_code(entry.code),
        text=entry.text,
        note=(english or spanish) if language == "en" else spanish,
        source=_SOURCES[language].get(entry.source, entry.source),
    )
    if match.read_as:
        said = sentences["read_as"].format(word=match.word.text, read_as=match.read_as) + ", " + said
    return said


class Marker:
    """Finds the query's words, in any form, in texts that are shown; a page repeats many, so each is read once."""

    def __init__(self, query: Query) -> None:
        self._wanted = {stemmed for word in query.words for form in word.forms for stemmed in form.stems}
        self._beginnings = {_beginning(stemmed) for stemmed in self._wanted}
        self._places: dict[str, tuple[tuple[int, int], ...]] = {}

    def highlights(self, texts: Mapping[str, str]) -> list[Highlight]:
        """The words to mark in these texts, by the name of their field."""
        return [
            Highlight(field=name, start=start, end=end)
            for name, text in texts.items()
            for start, end in self._places_in(text)
        ]

    def _places_in(self, text: str) -> tuple[tuple[int, int], ...]:
        places = self._places.get(text)
        if places is None:
            # Most texts hold none of the words: asking that first is many times cheaper than finding places.
            folded = _folded(text)
            there = any(beginning in folded for beginning in self._beginnings) and any(map(self._wants, folded.split()))
            found = [token for token in tokenize(text) if self._wants(token.text)] if there else []
            places = self._places[text] = tuple((token.start, token.end) for token in found)
        return places

    def _wants(self, word: str) -> bool:
        return word not in STOP_WORDS and not self._wanted.isdisjoint(marked_stems(word))


# Official wordings, some 200 bytes each: the texts of a whole tariff take 2 MB.
_folded = lru_cache(maxsize=8192)(fold)


def _beginning(stemmed: str) -> str:
    """What every word with this stem begins with: its last letter is another one in ``luces`` and ``bodies`` only."""
    return stemmed[1:-1] if stemmed.endswith(("z", "y")) else stemmed[1:]
