"""What the words of a search mean: a code, words with weights and other forms, what an engine should look up.

``parse`` needs nothing but the text. ``interpret`` adds what the index's vocabulary knows: rare words weigh more,
unknown words get their nearest known forms, words joined or split by the typist are tried the other way too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from sicargabox_core.search.evidence import phrase_key
from sicargabox_core.search.text import STOP_WORDS, Token, fold, marked_stems, tokenize
from sicargabox_core.search.vocabulary import Similar, Vocabulary

LONGEST_QUERY = 200
MOST_WORDS = 24
LONGEST_PHRASE = 4

_CODE = re.compile(r"[\d.\s\-/]+")
# A dotted code among words: 8517.13, 8517.13.00.00
_DOTTED_CODE = re.compile(r"(?<![\d.])\d{4}\.\d{1,2}(?:\.\d{1,2}){0,3}(?![\d.])")
_CODE_WORDS = frozenset({"codigo", "code", "partida", "heading", "hs", "hts", "arancelaria", "sac", "subpartida"})

# What follows such a word says of what, or for what, the goods are: "funda PARA celular" is a case.
_PURPOSE = frozenset({"para", "pa", "for", "con", "with", "compatible", "estilo", "style", "tipo", "type", "sobre"})
_MATERIAL = frozenset({"de", "del", "of", "en", "in", "made"})

# Words of invoices that say nothing of the kind of goods.
_WEAK_WORDS = """
    nuevo nueva nuevos nuevas new usado usada usados usadas used original originales oem generico genuine autentico
    segunda refurbished reacondicionado marca brand modelo model serie series edicion edition limited version
    set sets pack packs paquete paquetes kit pcs pieces piece pieza piezas unidad unidades unit units par pares pair
    pairs count ct docena dozen lote lot combo oferta sale promo gratis free envio shipping regalo
    talla tallas tamano size sizes sz numero color colour colores grande grandes mediano mediana pequeno pequena chico
    chica large medium small queen king xl xxl xs extra mini big little rojo roja red azul blue verde green negro negra
    black blanco blanca white amarillo amarilla yellow rosa rosado rosada pink morado morada purple gris gray grey brown
    naranja orange dorado dorada gold plateado plateada silver beige celeste multicolor
    gb tb mb ml lt litro litros oz lb lbs kg gr gramos mm cm mt metros pulgadas inch inches in ft hz mah watts watt
    volts volt super best mejor calidad quality premium pro plus lite ultra max importado imported usa china hecho
    estilo moda fashion bonito bonita lindo linda barato economico ideal perfecto perfect amazon ebay
"""
WEAK_WORDS = frozenset(_WEAK_WORDS.split())
_SPANISH_SIGNS = frozenset({"de", "del", "la", "el", "los", "las", "para", "con", "sin", "y", "en", "un", "una", "por"})
_ENGLISH_SIGNS = frozenset({"the", "for", "with", "and", "of", "in", "an", "women", "men", "kids", "boys", "girls"})

_WEAK = 0.12
_AFTER_PURPOSE = 0.5
_AFTER_MATERIAL = 0.75
_ENGLISH_HEAD, _BEFORE_HEAD = 1.2, 0.8
_SPLIT_QUALITY = 0.95
_SMALLER_QUALITY = 0.9
# What is left of a word read as a similar one: 0.91 where nobody hears the slip, 0.8 after one letter, 0.63 after two.
_SIMILAR_QUALITY, _LESS_A_SLIP = 0.97, 0.17
# Slips that are heard. Of words that are known by their stem alone only readings that sound alike are taken.
_HEARD = 0.9
_LONG_PART = 4


@dataclass(frozen=True, slots=True)
class Form:
    """One way to read a word: as typed, or a similar known word. ``quality`` 1 is as typed."""

    word: str
    stems: tuple[str, ...]
    quality: float = 1.0

    @classmethod
    def of(cls, word: str, quality: float = 1.0) -> Form:
        """The form with all its stems."""
        return cls(word, marked_stems(word), quality)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the query that can meet documents. ``text`` is as typed (for the reason shown)."""

    text: str
    folded: str
    weight: float
    weak: bool = False
    forms: tuple[Form, ...] = ()


@dataclass(frozen=True)
class Query:
    """A search as understood. ``code`` holds the digits of a code or of its beginning."""

    text: str
    code: str | None = None
    words: tuple[Word, ...] = ()
    language: str | None = None
    tokens: tuple[str, ...] = field(default=(), repr=False)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to look for."""
        return self.code is None and not self.words

    @property
    def phrases(self) -> tuple[str, ...]:
        """Keys (stems in order) of all runs of up to four words, in both languages; the longest first."""
        kept = [token for token in self.tokens if token not in STOP_WORDS]
        keys: dict[str, None] = {}
        for length in range(min(LONGEST_PHRASE, len(kept)), 0, -1):
            for start in range(len(kept) - length + 1):
                run = kept[start : start + length]
                for language in ("es", "en", ""):
                    keys[phrase_key(run, language)] = None
        return tuple(keys)


def parse(text: str) -> Query:
    """What a text asks for, without knowledge of any index. Never fails: text without words is an empty query."""
    text = text[:LONGEST_QUERY].strip()
    code = _as_code(text)
    if code is not None:
        return Query(text, code=code)
    dotted = _DOTTED_CODE.search(text)
    rest = text
    if dotted:
        code = re.sub(r"\D", "", dotted.group())
        rest = text[: dotted.start()] + " " + text[dotted.end() :]
    tokens = [token for token in tokenize(rest) if not (code and token.text in _CODE_WORDS)][:MOST_WORDS]
    language = _language(text, [token.text for token in tokens])
    words = _weighted(rest, tokens)
    return Query(text, code=code, words=words, language=language, tokens=tuple(token.text for token in tokens))


def _as_code(text: str) -> str | None:
    """The digits when the text is a code, in any dots, spaces and length of 2 to 12 digits."""
    words = [word for word in fold(text).split() if word not in _CODE_WORDS]
    digits = "".join(words)
    if words and digits.isdigit() and digits.isascii() and 2 <= len(digits) <= 12:
        return digits
    return None


def _language(text: str, folded: list[str]) -> str | None:
    spanish = sum(word in _SPANISH_SIGNS for word in folded) + sum(char in "ñáéíóú¿¡" for char in text.lower())
    english = sum(word in _ENGLISH_SIGNS for word in folded) + text.lower().count("'s")
    if spanish == english:
        return None
    return "es" if spanish > english else "en"


def _weighted(text: str, tokens: list[Token]) -> tuple[Word, ...]:
    words: list[Word] = []
    seen: set[str] = set()
    position = 1.0
    for token in tokens:
        if words and token.text in _PURPOSE:
            position = _AFTER_PURPOSE
        elif words and token.text in _MATERIAL:
            position = min(position, _AFTER_MATERIAL)
        if token.text in STOP_WORDS or token.text in seen:
            continue
        seen.add(token.text)
        typed = text[token.start : token.end]
        # Nails, as people type them abroad; before other words more likely the article ("unas tijeras").
        article = typed.lower() == "unas" and not words and token is not tokens[-1]
        weak = article or token.text in WEAK_WORDS or not token.text.isalpha() or len(token.text) == 1
        weight = position * (_WEAK if weak else 1.0)
        words.append(Word(typed, token.text, weight, weak))
    if words and all(word.weak for word in words):
        # Nothing else was typed, so these words are what is meant; bare numbers stay weak.
        words = [replace(word, weight=1.0, weak=False) if word.folded.isalpha() else word for word in words]
    return tuple(words)


def interpret(query: Query, vocabulary: Vocabulary) -> Query:
    """The query with rarity in its weights and, for words the index does not know, their nearest known forms."""
    if not vocabulary:
        return replace(query, words=tuple(replace(word, forms=(Form.of(word.folded),)) for word in query.words))
    words: list[Word] = []
    tokens = list(query.tokens)
    for word in query.words:
        read = _read(word, vocabulary)
        words += read
        if read and not vocabulary.knows(word.folded):
            at = tokens.index(word.folded)
            tokens[at : at + 1] = [one.forms[0].word for one in read]
    words = _head_last(query, words, vocabulary)
    joined = _with_joined(query.tokens, words, vocabulary)
    if tokens != list(query.tokens):
        joined = _with_joined(tokens, joined, vocabulary)
    return replace(query, words=tuple(joined), tokens=tuple(tokens))


def _head_last(query: Query, words: list[Word], vocabulary: Vocabulary) -> list[Word]:
    """English puts what is meant last: a phone CASE. What follows "for" or "with" was weighed before.

    Where no sign tells the language, the words must: none is Spanish alone, and only those that are English alone
    qualify the last of them; a brand belongs to both languages.
    """
    if query.language == "es":
        return words
    ends = next(
        (at for at, token in enumerate(query.tokens) if at and token in _PURPOSE | _MATERIAL), len(query.tokens)
    )
    before = set(query.tokens[:ends])
    named = [at for at, word in enumerate(words) if not word.weak and word.folded in before]
    if query.language is None:
        spoken = [vocabulary.languages(words[at].forms[0].word) for at in named]
        if {"es"} in spoken or (spoken and "en" not in spoken[-1]):
            return words
        named = [at for at, known in zip(named, spoken, strict=True) if known == {"en"} or at == named[-1]]
    if len(named) > 1:
        words = list(words)
        for at in named:
            weight = words[at].weight * (_ENGLISH_HEAD if at == named[-1] else _BEFORE_HEAD)
            words[at] = replace(words[at], weight=weight)
    return words


def _read(word: Word, vocabulary: Vocabulary) -> list[Word]:
    """The word with all that it may mean; two when it is two known ones run together; none when it means nothing."""
    if word.folded in vocabulary.words or (word.weak and vocabulary.knows(word.folded)):
        return [_weighed(word, (Form.of(word.folded),), vocabulary)]
    if word.weak:
        return []
    other = vocabulary.written(word.folded)
    similar = vocabulary.similar(word.folded)
    if other or vocabulary.knows(word.folded):
        forms = [Form.of(word.folded if other is None or vocabulary.knows(word.folded) else other)]
        similar = [near for near in similar if near.distance < _HEARD and near.word != other]
    else:
        forms = []
    forms += [Form.of(whole, _SMALLER_QUALITY) for whole in vocabulary.larger(word.folded)]
    alike = _forms(similar)
    if not forms and not (similar and similar[0].distance < _HEARD):
        parts = vocabulary.splits(word.folded)
        if parts and (not similar or min(map(len, parts)) >= _LONG_PART):
            return [_weighed(word, (Form.of(part, _SPLIT_QUALITY), *alike), vocabulary) for part in parts]
    return [_weighed(word, (*forms, *alike), vocabulary)] if forms or alike else []


def _forms(similar: Iterable[Similar]) -> tuple[Form, ...]:
    return tuple(Form.of(near.word, _SIMILAR_QUALITY - _LESS_A_SLIP * near.distance) for near in similar)


def _weighed(word: Word, forms: tuple[Form, ...], vocabulary: Vocabulary) -> Word:
    known_model = word.weak and not word.folded.isalpha() and not word.folded.isdigit()
    weight = 0.6 if known_model else word.weight
    rarity = max(vocabulary.rarity(form.word) for form in forms)
    return replace(word, forms=forms, weight=weight * (0.3 + 0.7 * rarity))


def _with_joined(tokens: Sequence[str], words: list[Word], vocabulary: Vocabulary) -> list[Word]:
    """Two neighbours that are one known word when written together ("para brisas") may meet it as well."""
    for first, second in pairwise(tokens):
        joined = first + second
        if len(joined) < 5 or joined not in vocabulary.words:
            continue
        places = [at for at, word in enumerate(words) if _reads(word, (first, second))]
        form = Form.of(joined, _SPLIT_QUALITY)
        for at in places:
            if form not in words[at].forms:
                words[at] = replace(words[at], forms=(*words[at].forms, form))
        if not places:
            words.append(Word(f"{first} {second}", joined, 1.0, forms=(form,)))
    return words


def _reads(word: Word, tokens: Sequence[str]) -> bool:
    return word.folded in tokens or (bool(word.forms) and word.forms[0].word in tokens)
