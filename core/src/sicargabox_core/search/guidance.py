"""What to ask somebody whose words are too vague to classify, with choices that narrow. Pure; hits are never changed.

A query gets a question when it says nothing but a vague word ("un regalo para mi mamá"), or when the word that names
the goods is known to leave the heading open ("camisa azul": knitted or woven?) and the best hits lie under several of
the answers. Each choice is a query of its own. The words and questions are data (``lexicon/guidance``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypedDict

from sicargabox_core.lexicon.guidance import EMPTY, HEAD, GuidanceQuestion, VagueTerm, packaged_guidance
from sicargabox_core.search.query import LONGEST_QUERY, MOST_WORDS, WEAK_WORDS, Query
from sicargabox_core.search.ranking import Hit
from sicargabox_core.search.text import STOP_WORDS, Token, fold, other_number, tokenize, words_of

# Whom it is for and how it comes: said beside a vague word, it is as vague as before.
_PEOPLE_AND_REQUESTS = """
    mama papa madre padre hijo hija hijos hijas novio novia esposo esposa hermano hermana abuela abuelo tia tio sobrino
    sobrina amigo amiga amigos familia familiares pareja mujer mujeres hombre hombres dama damas caballero caballeros
    senora senor nino nina ninos ninas adulto adultos persona personas personal propio cliente vecina
    quiero traer traigo enviar mandar mando necesito busco comprar compre viene vienen llega dentro hay solo
    mom dad mother father son daughter husband wife boyfriend girlfriend brother sister grandma grandpa friend friends
    family woman women man men womens mens lady ladies him her boy girl boys girls kid kids child children adult adults
    people person want need send buy bring inside only some
"""
# "red" is a colour in English and a net in Spanish.
_TELLS_NOTHING = (WEAK_WORDS | frozenset(_PEOPLE_AND_REQUESTS.split())) - {"red"}
# In English what follows them is what the goods are for or made of.
_AFTER_THE_GOODS = frozenset({"for", "with", "of", "in", "from", "by"})
# So many of the best hits show whether the headings are still open, none of them far behind the first.
_LOOKED_AT = 10
_NEAR_THE_BEST = 0.7
_OPEN = 2


class GuidanceAnswer(TypedDict):
    """A choice: what people read, and the query that it stands for."""

    label: str
    query: str


class Guidance(TypedDict):
    """A question about ``about``, the words that are too vague."""

    about: str
    question: str
    choices: list[GuidanceAnswer]


class _Found(NamedTuple):
    """A term in the words of a query: their places from ``first`` to before ``last`` among those that count."""

    term: VagueTerm
    first: int
    last: int


def guidance_for(query: Query, hits: Sequence[Hit], language: str) -> Guidance | None:
    """What to ask about this query, in the ``language`` of the reader; none when it says enough, or nothing known."""
    if query.code is not None:
        return None
    book = _packaged()
    tokens = tokenize(query.text)[:MOST_WORDS]
    said = [token for token in tokens if token.text not in STOP_WORDS]
    for found in book.find(said, query.language or language):
        if _is_answered(found, said) or _is_part_of_a_word(found, query.text, said):
            continue
        if _is_open(found, tokens, said, hits) if found.term.use == HEAD else book.alone(found, said):
            return _asked(found, book, query.text, said, language)
    return None


def narrowed(term: VagueTerm) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The queries of a term's choices when nothing but the term was said, with the codes they must lead to."""
    for choice in term.question.choices:
        yield choice.words(term.language, term.text), choice.codes


class Book:
    """The terms, to be found among the words of a query in singular or plural."""

    def __init__(self, terms: Iterable[VagueTerm]) -> None:
        self._same: dict[str, str] = {}
        self._terms: dict[tuple[str, ...], list[VagueTerm]] = {}
        self._longest = 0
        for term in terms:
            key = self.key(term, learn=True)
            self._terms.setdefault(key, []).append(term)
            self._longest = max(self._longest, len(key))
        self._empty = {key[0] for key, known in self._terms.items() if len(key) == 1 and known[0].use == EMPTY}

    def key(self, term: VagueTerm, *, learn: bool = False) -> tuple[str, ...]:
        """The words of a term that count, each in one number; two terms of the same key are one."""
        words = [word for word in words_of(term.text) if word not in STOP_WORDS]
        if learn:
            for word in words:
                same = self._same.setdefault(word, word)
                for other in other_number(word):
                    self._same.setdefault(other, same)
        return tuple([self._same[word] for word in words])

    def find(self, said: Sequence[Token], language: str) -> Iterator[_Found]:
        """The terms in these words: the longest first, then as they come; of both languages the one expected."""
        same = [self._same.get(token.text) for token in said]
        for length in range(min(self._longest, len(said)), 0, -1):
            for first in range(len(said) - length + 1):
                words = tuple([word for word in same[first : first + length] if word is not None])
                known = self._terms.get(words) if len(words) == length else None
                if known:
                    term = next((one for one in known if one.language == language), known[0])
                    yield _Found(term, first, first + length)

    def alone(self, found: _Found, said: Sequence[Token]) -> bool:
        """Whether nothing else is said that tells anything."""
        return all(
            found.first <= at < found.last or _tells_nothing(token) or self.empty(token)
            for at, token in enumerate(said)
        )

    def empty(self, token: Token) -> bool:
        """Whether the word adds nothing to another vague one."""
        return self._same.get(token.text) in self._empty


@lru_cache(maxsize=1)
def _packaged() -> Book:
    return Book(packaged_guidance())


def _is_answered(found: _Found, said: Sequence[Token]) -> bool:
    """Whether another word of the query is one of those that the choices search for."""
    answers = _answers(found.term.question)
    others = [token.text for at, token in enumerate(said) if not found.first <= at < found.last]
    return any(not answers.isdisjoint((word, *other_number(word))) for word in others)


def _is_part_of_a_word(found: _Found, text: str, said: Sequence[Token]) -> bool:
    """Whether it is the "shirt" of "t-shirt" or "T shirt"."""
    before = said[found.first - 1].text if found.first else ""
    if len(before) == 1 and before.isalpha():
        return True
    start, end = said[found.first].start, said[found.last - 1].end
    return text[max(start - 1, 0) : start] == "-" or text[end : end + 1] == "-"


def _is_open(found: _Found, tokens: Sequence[Token], said: Sequence[Token], hits: Sequence[Hit]) -> bool:
    """Whether the term names the goods, and the best hits lie under several answers of its question."""
    if not _names_the_goods(found, tokens, said):
        return False
    near = [hit.code for hit in hits[:_LOOKED_AT] if hit.score >= hits[0].score * _NEAR_THE_BEST]
    lie_under = sum(any(code.startswith(choice.codes) for code in near) for choice in found.term.question.choices)
    return lie_under >= _OPEN


def _names_the_goods(found: _Found, tokens: Sequence[Token], said: Sequence[Token]) -> bool:
    """Spanish names the goods first, English last before what they are for: "camisa polo", "polo shirt for men"."""
    if found.term.language != "en":
        return all(_tells_nothing(token) for token in said[: found.first])
    ends = next((token.start for token in tokens[1:] if token.text in _AFTER_THE_GOODS), tokens[-1].end)
    after = [token for token in said[found.last :] if token.start < ends]
    return said[found.first].start < ends and all(_tells_nothing(token) for token in after)


def _tells_nothing(token: Token) -> bool:
    """A filler, a number, a size or a model."""
    return token.text in _TELLS_NOTHING or not token.text.isalpha() or len(token.text) == 1


@lru_cache(maxsize=256)
def _answers(question: GuidanceQuestion) -> frozenset[str]:
    """Words that answer a question: those that its choices search for, and those of their labels."""
    return frozenset(
        word
        for choice in question.choices
        for text in (choice.words_es, choice.words_en, choice.label_es, choice.label_en)
        for word in words_of(text)
        if word not in STOP_WORDS
    )


def _asked(found: _Found, book: Book, text: str, said: Sequence[Token], language: str) -> Guidance:
    term = found.term
    start, end = said[found.first].start, said[found.last - 1].end
    about = text[start:end]
    others = [*said[: found.first], *said[found.last :]]
    blanks = [(token.start, token.end) for token in others if book.empty(token)]
    before, after = _without(text, blanks, 0, start), _without(text, blanks, end, len(text))
    return Guidance(
        about=about,
        question=term.question.text(language),
        choices=[
            GuidanceAnswer(
                label=choice.label(language),
                query=_tidy(f"{before} {choice.words(term.language, about)} {after}")[:LONGEST_QUERY],
            )
            for choice in term.question.choices
        ],
    )


def _without(text: str, blanks: Iterable[tuple[int, int]], start: int, end: int) -> str:
    """A piece of the text without the places in ``blanks``."""
    kept = []
    for blank_start, blank_end in blanks:
        if start <= blank_start < end:
            kept.append(text[start:blank_start])
            start = blank_end
    return " ".join([*kept, text[start:end]])


def _tidy(text: str) -> str:
    """Single spaces; no "y" or "de" left hanging at either end."""
    words = text.split()
    while words and not _means(words[0]):
        del words[0]
    while words and not _means(words[-1]):
        del words[-1]
    return " ".join(words)


def _means(word: str) -> bool:
    return any(part not in STOP_WORDS for part in fold(word).split())
