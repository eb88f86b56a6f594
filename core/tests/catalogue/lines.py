"""Puts a few lines into a database."""

from __future__ import annotations

from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.catalogue.tariff import ancestors, level_of
from sicargabox_core.db import Database, db_now

PHONE = "8517130000"
SPEAKER = "8518210000"
RETIRED = "8519200000"


def put_lines(database: Database, *codes: str) -> None:
    """Adds lines that can be declared, with their chapters and headings; ``RETIRED`` is retired."""
    wanted = {above for code in codes for above in ancestors(code) if len(above) in (2, 4)} | set(codes)
    with database.write() as session:
        for position, code in enumerate(sorted(wanted), start=1):
            session.add(
                TariffLine(
                    code=code,
                    level=level_of(code),
                    parent_code=None if len(code) == 2 else code[: 2 if len(code) == 4 else 4],
                    position=position,
                    description_es=f"Mercancía {code}",
                    declarable=len(code) >= 10,
                    source="official",
                    retired_at=db_now() if code == RETIRED else None,
                )
            )
