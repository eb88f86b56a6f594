"""Reads our own vocabulary: everyday words for goods, and brands with the goods they are known for.

The files travel inside the package: ``goods/NN.csv``, one for each chapter (``term,lang,region,codes,kind,note``), and
``brands.csv`` (``brand,code,goods_es,goods_en``). A row hangs on headings, subheadings or lines and holds for
everything below these codes, so words can be written before the tariff that will be imported is known.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from sicargabox_core.errors import DataFault

_FOLDER = Path(__file__).parent
LANGUAGES = frozenset({"es", "en"})
KINDS = frozenset(("word", "colloquial", "technical", "part", "material", "use", "phrase", "abbreviation", "generic"))
"""What a term is: ``generic`` means goods of several headings, ``use`` and ``material`` name goods by what they are for
or made of, ``phrase`` is a set phrase whose head word alone would mislead ("funda para celular")."""
_COLUMNS = ("term", "lang", "region", "codes", "kind", "note")
_CODE = re.compile(r"(\d{4,12})(?::(1|0?\.\d{1,2}))?")
_REGIONS = re.compile(r"([a-z]{2}(\|[a-z]{2})*)?")


class Term(NamedTuple):
    """An everyday word or short phrase for the goods of ``code`` (and of all codes that begin with it).

    ``weight`` up to 1: how likely it means them and no other goods. ``regions``: countries where it is said so
    (ISO 3166, lower case); none: everywhere.
    """

    text: str
    language: str
    code: str
    weight: float = 1.0
    kind: str = "word"
    regions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Brand:
    """One kind of goods a brand is known for; ``rank`` 0 is the most typical."""

    name: str
    code: str
    goods_es: str
    goods_en: str
    rank: int


@dataclass(frozen=True, eq=False)
class Lexicon:
    """The vocabulary in memory: terms by code, and brands by name and by code. A cache may be keyed by it."""

    by_code: dict[str, list[Term]] = field(default_factory=dict)
    brands: dict[str, list[Brand]] = field(default_factory=dict)
    brands_by_code: dict[str, list[Brand]] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path | None = None) -> Lexicon:
        """The vocabulary of ``folder`` (default: the one in the package, read once per process).

        Raises ``DataFault`` naming file and row when a row has not the agreed form.
        """
        return _packaged() if folder is None else _read(folder)

    def terms(self, code: str) -> list[Term]:
        """Words for the goods of ``code``: its own and those of every code above it, the widest first."""
        return [term for prefix in _prefixes(code) for term in self.by_code.get(prefix, ())]


@lru_cache(maxsize=1)
def _packaged() -> Lexicon:
    return _read(_FOLDER)


def _read(folder: Path) -> Lexicon:
    lexicon = Lexicon()
    for path in sorted(folder.glob("goods/*.csv")):
        _read_terms(path, lexicon.by_code)
    for path in sorted(folder.glob("brands*.csv")):
        for number, row in rows_of(path, ("brand", "code", "goods_es", "goods_en")):
            if not (row["brand"] and row["code"].isdigit()):
                raise DataFault(f"{path.name}, row {number}: no brand, or no code")
            known = lexicon.brands.setdefault(row["brand"].strip(), [])
            brand = Brand(row["brand"].strip(), row["code"], row["goods_es"], row["goods_en"], rank=len(known))
            known.append(brand)
            lexicon.brands_by_code.setdefault(brand.code, []).append(brand)
    return lexicon


def _read_terms(path: Path, by_code: dict[str, list[Term]]) -> None:
    for number, (text, language, region, codes, kind, _note) in _lists_of(path, _COLUMNS):
        try:
            regions, hangs_on = _countries(region), _weighted(codes, path.stem)
            if not text or text != text.strip().lower():
                raise ValueError("a term is written in lower case, without spaces around it")
            if language not in LANGUAGES:
                raise ValueError(f"the language {language} is not one of {', '.join(sorted(LANGUAGES))}")
            if kind not in KINDS:
                raise ValueError(f"the kind {kind} is not one of {', '.join(sorted(KINDS))}")
        except ValueError as error:
            raise DataFault(f"{path.name}, row {number} ({text}): {error}") from error
        for code, weight in hangs_on:
            by_code.setdefault(code, []).append(Term(text, language, code, weight, kind, regions))


# Of 73,000 rows most have what another has too: read once, all of it takes 0.2 s instead of 0.5.
@lru_cache(maxsize=1024)
def _countries(region: str) -> tuple[str, ...]:
    if not _REGIONS.fullmatch(region):
        raise ValueError("regions are countries of two letters with | between them")
    return tuple(region.split("|")) if region else ()


@lru_cache(maxsize=16384)
def _weighted(codes: str, chapter: str) -> tuple[tuple[str, float], ...]:
    found = []
    for part in codes.split("|"):
        match = _CODE.fullmatch(part)
        if match is None or not part.startswith(chapter):
            raise ValueError(
                f"{part!r} is not a code of chapter {chapter} with a weight up to 1, such as {chapter}01:0.8"
            )
        found.append((match[1], float(match[2] or 1)))
    return tuple(found)


def rows_of(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of one of our data files with their numbers. Raises ``DataFault`` when it has not these columns."""
    return ((number, dict(zip(columns, row, strict=True))) for number, row in _lists_of(path, columns))


def _lists_of(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        if tuple(header) != columns:
            raise DataFault(f"{path.name} has the columns {header}, not {','.join(columns)}")
        width = len(columns)
        for row in reader:
            if len(row) == width:
                yield reader.line_num, row
            elif row:
                raise DataFault(f"{path.name}, row {reader.line_num}: not of the form {','.join(columns)}")


def _prefixes(code: str) -> Iterator[str]:
    return (code[:length] for length in range(2, len(code) + 1))
