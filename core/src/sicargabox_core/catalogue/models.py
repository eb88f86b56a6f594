"""Tables of the tariff, its keywords and what people chose."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from sicargabox_core.db import Base, ExactDecimal, Json, UtcDateTime, db_now


class Level(StrEnum):
    """Levels of the Harmonized System; a LINE is what the national tariff adds below."""

    CHAPTER = "CHAPTER"
    HEADING = "HEADING"
    SUBHEADING = "SUBHEADING"
    LINE = "LINE"


class CourierCategory(StrEnum):
    """Whether a courier may bring it."""

    ALLOWED = "ALLOWED"
    RESTRICTED = "RESTRICTED"
    PROHIBITED = "PROHIBITED"


class Language(StrEnum):
    """Languages of words."""

    SPANISH = "es"
    ENGLISH = "en"


class KeywordSource(StrEnum):
    """Where a keyword came from; shown as part of the reason of a hit."""

    STARTER = "starter"
    GENERATED = "generated"
    LEARNED = "learned"
    STAFF = "staff"


class KeywordState(StrEnum):
    """A PENDING keyword is a suggestion; only APPROVED ones are searched."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"


class TariffLine(Base):
    """A node of the tariff tree, chapter to line. Codes are digits only. Duties are percent, exact."""

    __tablename__ = "tariff_lines"

    code: Mapped[str] = mapped_column(String(12), primary_key=True)
    level: Mapped[str] = mapped_column(String(10))
    parent_code: Mapped[str | None] = mapped_column(String(12), index=True)
    position: Mapped[int] = mapped_column(Integer, doc="Order in the official file.")
    description_es: Mapped[str] = mapped_column(Text)
    description_en: Mapped[str | None] = mapped_column(Text)
    declarable: Mapped[bool] = mapped_column(Boolean, doc="Only leaves can be declared.")
    dai: Mapped[Decimal | None] = mapped_column(ExactDecimal, doc="Import duty, percent.")
    isc: Mapped[Decimal | None] = mapped_column(ExactDecimal, doc="Selective consumption tax, percent.")
    ispc: Mapped[Decimal | None] = mapped_column(ExactDecimal, doc="Production and consumption tax, percent.")
    isv: Mapped[Decimal | None] = mapped_column(ExactDecimal, doc="Sales tax, percent.")
    courier_category: Mapped[str] = mapped_column(String(10), default=CourierCategory.ALLOWED)
    courier_rule: Mapped[str | None] = mapped_column(String(50), doc="Id of the rule that decided it.")
    courier_reason_es: Mapped[str | None] = mapped_column(String(500))
    courier_reason_en: Mapped[str | None] = mapped_column(String(500))
    source: Mapped[str] = mapped_column(String(10), doc="starter or official.")
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime, doc="Vanished from the newest import.")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=db_now())
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=db_now())

    __table_args__ = (
        CheckConstraint("courier_category IN ('ALLOWED', 'RESTRICTED', 'PROHIBITED')", name="courier_category"),
        CheckConstraint("level IN ('CHAPTER', 'HEADING', 'SUBHEADING', 'LINE')", name="level"),
    )


class Keyword(Base):
    """An everyday word for a line (or a heading: all its lines)."""

    __tablename__ = "keywords"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    line_code: Mapped[str] = mapped_column(ForeignKey("tariff_lines.code"))
    language: Mapped[str] = mapped_column(String(2))
    text: Mapped[str] = mapped_column(String(120))
    normalized: Mapped[str] = mapped_column(String(120), doc="Case, accents and spaces folded; digits kept.")
    source: Mapped[str] = mapped_column(String(10))
    state: Mapped[str] = mapped_column(String(10))
    evidence: Mapped[dict[str, Any] | None] = mapped_column(Json, doc="Why it was proposed: people, selections, model.")
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=db_now())
    decided_by: Mapped[str | None] = mapped_column(String(100))
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        UniqueConstraint("line_code", "language", "normalized"),
        Index("ix_keywords_state", "state", "id"),
    )


class Selection(Base):
    """A person chose a line after typing words. ``person`` is a keyed hash, never a name or an address."""

    __tablename__ = "selections"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    line_code: Mapped[str] = mapped_column(ForeignKey("tariff_lines.code"))
    query: Mapped[str] = mapped_column(String(200))
    normalized_query: Mapped[str] = mapped_column(String(200))
    rank: Mapped[int | None] = mapped_column(Integer, doc="Place of the chosen line among the results, from 1.")
    person: Mapped[str] = mapped_column(String(64))
    staff: Mapped[bool] = mapped_column(Boolean, default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=db_now())
    undone_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (Index("ix_selections_query", "normalized_query", "line_code"),)


class SearchLog(Base):
    """One search: what was typed and how it went; no person."""

    __tablename__ = "search_log"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    query: Mapped[str] = mapped_column(String(200))
    normalized: Mapped[str] = mapped_column(String(200))
    total: Mapped[int] = mapped_column(Integer)
    first_code: Mapped[str | None] = mapped_column(String(12))
    took_ms: Mapped[int] = mapped_column(Integer)
    engine: Mapped[str] = mapped_column(String(20))
    degraded: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=db_now())

    __table_args__ = (Index("ix_search_log_created", "created_at"),)
