"""The table of what measurements of the search came to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from sicargabox_core.db import Base, Json, UtcDateTime, db_now


class SearchEvaluation(Base):
    """One measurement of this installation's search; ``quality_report`` says what its parts are."""

    __tablename__ = "search_evaluations"
    __table_args__ = (Index("ix_search_evaluations_created_at", "created_at"),)

    task_id: Mapped[str] = mapped_column(String(36), primary_key=True, doc="A task delivered twice is one report.")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=db_now())
    engine: Mapped[str] = mapped_column(String(40))
    queries_sha256: Mapped[str] = mapped_column(String(64))
    left_out: Mapped[int] = mapped_column(Integer)
    cells: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    places: Mapped[dict[str, int]] = mapped_column(Json, doc="Large, and read only to compare with the next one.")
    changes: Mapped[list[dict[str, Any]]] = mapped_column(Json, doc="Against the report before.")
    misses: Mapped[list[dict[str, Any]]] = mapped_column(Json, doc="Of the open half alone.")
