"""The small tariff of these tests: real codes and rates, wording of our own."""

from __future__ import annotations

from contextlib import nullcontext
from decimal import Decimal

from sqlalchemy import insert

from sicargabox_core.catalogue.keywords import normalise
from sicargabox_core.catalogue.models import Keyword, KeywordState, Level, TariffLine
from sicargabox_core.db import Database
from sicargabox_core.search import indexing
from sicargabox_core.search.engine import SearchEngine

# code, parent, Spanish, English, declarable
NODES: list[tuple[str, str | None, str, str, bool]] = [
    ("39", None, "Plásticos", "Plastics", False),
    ("3921", "39", "Láminas de plástico", "Sheets of plastic", False),
    ("3921110000", "3921", "Celulares, de espuma", "Cellular, of foam", True),
    ("3921900000", "3921", "Las demás", "Other", True),
    ("64", None, "Calzado", "Footwear", False),
    ("6403", "64", "Calzado con suela de hule y parte superior de cuero", "Footwear of leather", False),
    ("6403190000", "6403", "Los demás", "Other", True),
    ("6403400000", "6403", "- Botas con puntera de metal:", "Boots with a metal toecap", True),
    ("6404", "64", "Calzado con parte superior de tela", "Footwear of fabric", False),
    ("6404110000", "6404", "Zapatos de deporte", "Sports shoes", True),
    ("6404190000", "6404", "Los demás", "Other", True),
    ("85", None, "Aparatos eléctricos", "Electrical goods", False),
    ("8517", "85", "Teléfonos", "Telephones", False),
    ("85171", "8517", "Aparatos de teléfono", "Telephone sets", False),
    ("8517130000", "85171", "Teléfonos inteligentes", "Smartphones", True),
    ("8517140000", "85171", "Otros teléfonos móviles", "Other mobile phones", True),
    ("8517790000", "8517", "Partes", "Parts", True),
    ("8518", "85", "Micrófonos, bocinas y auriculares", "Microphones, loudspeakers and headphones", False),
    ("8518210000", "8518", "Una bocina en su caja", "One loudspeaker in its box", True),
    ("8518300000", "8518", "Auriculares, excepto los médicos", "Headphones, other than medical ones", True),
    ("8518900000", "8518", "Partes", "Parts", True),
    ("9021", "90", "Aparatos para personas con discapacidad", "Aids for disabled people", False),
    ("9021400000", "9021", "Aparatos para oír mejor", "Hearing aids", True),
    ("90", None, "Instrumentos", "Instruments", False),
]
LINES = [code for code, _, _, _, declarable in NODES if declarable]
RATES = {"dai": Decimal(15), "isc": Decimal(0), "ispc": Decimal("7.5"), "isv": Decimal(15)}


def fill(database: Database) -> None:
    """Puts the tariff and a few keywords into an empty database."""
    rows = [
        {
            "code": code,
            "level": _level(code),
            "parent_code": parent,
            "position": position,
            "description_es": es,
            "description_en": en,
            "declarable": declarable,
            "source": "starter",
            "courier_category": "RESTRICTED" if code == "9021400000" else "ALLOWED",
            "courier_reason_es": "Pide receta." if code == "9021400000" else None,
            "courier_reason_en": None,
            **(RATES if declarable else dict.fromkeys(RATES)),
        }
        for position, (code, parent, es, en, declarable) in enumerate(NODES)
    ]
    with database.write() as session:
        session.execute(insert(TariffLine), rows)
    add_keyword(database, "8517130000", "celular", source="starter")
    add_keyword(database, "8517130000", "funda imaginaria", state=KeywordState.PENDING)
    add_keyword(database, "8518300000", "audífonos bluetooth", source="learned")
    add_keyword(database, "6404", "tenis", source="staff")


def add_keyword(
    database: Database,
    code: str,
    text: str,
    *,
    language: str = "es",
    source: str = "staff",
    state: KeywordState = KeywordState.APPROVED,
) -> None:
    """One keyword, without its life-cycle."""
    with database.write() as session:
        session.add(
            Keyword(
                line_code=code,
                language=language,
                text=text,
                normalized=normalise(text),
                source=source,
                state=state,
                created_by="test",
            )
        )


def build(database: Database, engine: SearchEngine, generation: str = "first") -> int:
    """A whole rebuild without a task around it."""
    return indexing.rebuild(
        database, engine, generation=generation, on_step=lambda *_: None, publish=nullcontext
    ).documents


def _level(code: str) -> Level:
    return {2: Level.CHAPTER, 4: Level.HEADING}.get(len(code), Level.SUBHEADING if len(code) <= 6 else Level.LINE)
