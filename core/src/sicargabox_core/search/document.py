"""The document of one tariff line that can be declared: all that a search may meet or show a reason from.

Imports pydantic only. Engines store what ``evidence`` makes of it; the audit compares ``content_hash``.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict

# Part of every hash: a change of how documents are made or matched makes all stored ones stale.
DOCUMENT_VERSION = 1

TermSource = Literal["lexicon", "starter", "generated", "learned", "staff", "brand"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Step(_Frozen):
    """One node of the chain above a line, with its official wording."""

    code: str
    es: str
    en: str = ""


class Term(_Frozen):
    """A word or short phrase for goods.

    ``weight`` up to 1: how strongly it means them. ``note`` explains it, e.g. a brand's goods ("es|en").
    """

    text: str
    language: str
    source: TermSource
    weight: float = 1.0
    note: str = ""


class TermGroup(_Frozen):
    """The terms that hang on one code: the line itself or a node above it. All lines below share the object."""

    code: str
    terms: tuple[Term, ...]

    def __hash__(self) -> int:
        # Groups are keys of caches, asked for once per line of the tariff: hashing every term took longer than
        # the work that was saved.
        return hash((self.code, len(self.terms)))


class TariffDocument(_Frozen):
    """What the index holds of a line. ``path`` runs from the chapter to the line's parent."""

    code: str
    description_es: str
    description_en: str = ""
    path: tuple[Step, ...] = ()
    terms: tuple[TermGroup, ...] = ()
    courier_category: str

    @property
    def heading(self) -> str:
        """Its four-digit heading."""
        return self.code[:4]

    @property
    def chapter(self) -> str:
        """Its two-digit chapter."""
        return self.code[:2]

    def content_hash(self) -> str:
        """A digest of everything in the document and of the way documents are made (32 hexadecimal digits)."""
        digest = hashlib.blake2b(self.model_dump_json().encode(), digest_size=16, salt=b"v%d" % DOCUMENT_VERSION)
        return digest.hexdigest()
