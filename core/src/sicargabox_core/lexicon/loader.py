"""Reads our own vocabulary: everyday words for goods, and brands with the goods they are known for.

The files (``goods*.csv``, ``brands*.csv``) travel inside the package. A row hangs on a heading, subheading or line and
holds for everything below that code, so words can be written before the tariff that will be imported is known.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from sicargabox_core.errors import DataFault

_FOLDER = Path(__file__).parent
_LANGUAGES = ("es", "en")


@dataclass(frozen=True, slots=True)
class Term:
    """An everyday word or short phrase for the goods of ``code`` (and of all codes that begin with it)."""

    text: str
    language: str
    code: str


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
    for path in sorted(folder.glob("goods*.csv")):
        for row in _rows(path, ("code", "es", "en")):
            terms = lexicon.by_code.setdefault(row["code"], [])
            terms.extend(Term(text, lang, row["code"]) for lang in _LANGUAGES for text in _split(row[lang]))
    for path in sorted(folder.glob("brands*.csv")):
        for row in _rows(path, ("brand", "code", "goods_es", "goods_en")):
            known = lexicon.brands.setdefault(row["brand"].strip(), [])
            brand = Brand(row["brand"].strip(), row["code"], row["goods_es"], row["goods_en"], rank=len(known))
            known.append(brand)
            lexicon.brands_by_code.setdefault(brand.code, []).append(brand)
    return lexicon


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        if tuple(reader.fieldnames or ()) != columns:
            raise DataFault(f"{path.name} has the columns {reader.fieldnames}, not {','.join(columns)}")
        for row in reader:
            if None in row or None in row.values() or not row["code"].isdigit():
                raise DataFault(f"{path.name}, row {reader.line_num}: not of the form {','.join(columns)}")
            yield row


def _split(cell: str) -> list[str]:
    return [text for part in cell.split("|") if (text := part.strip())]


def _prefixes(code: str) -> Iterator[str]:
    return (code[:length] for length in range(2, len(code) + 1))
