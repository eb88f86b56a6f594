"""The ai-worker's tasks: proposing keywords for tariff lines.

The parent only hands out chunks of codes, so that any number of ai-workers share the work; each chunk writes its
proposals in its own finishing transaction. Running a chunk again proposes nothing twice.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from sicargabox_ai.app import app
from sicargabox_core.catalogue import keywords
from sicargabox_core.catalogue.generated_keywords import words_for
from sicargabox_core.catalogue.models import Keyword, KeywordSource
from sicargabox_core.catalogue.tariff import iter_declarable
from sicargabox_core.lexicon.loader import Lexicon
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import (
    AI_NO_OP,
    GENERATE_KEYWORDS,
    GENERATE_KEYWORDS_CHUNK,
    GenerateKeywords,
    GenerateKeywordsChunk,
    GenerateKeywordsResult,
)
from sicargabox_core.tasks.trial import no_op
from sicargabox_core.tasks.worker import handles

# 200 lines are a second's work offline and a few minutes' with a language model: short enough to lose.
CHUNK = 200
ACTOR = "task:ai.generate_keywords"

handles(app, AI_NO_OP)(no_op)


@handles(app, GENERATE_KEYWORDS)
def generate_keywords(payload: GenerateKeywords, ctx: TaskContext) -> GenerateKeywordsResult:
    """Splits the lines asked for into chunks; its own counts are zero, its children's are added to them."""
    with ctx.session() as session:
        codes = _wanted(session, payload)
    for start in range(0, len(codes), CHUNK):
        chunk = codes[start : start + CHUNK]
        ctx.submit(
            GENERATE_KEYWORDS_CHUNK, GenerateKeywordsChunk(codes=chunk, languages=payload.languages), size=len(chunk)
        )
    return GenerateKeywordsResult(lines=0, generated=0, already_known=0)


@handles(app, GENERATE_KEYWORDS_CHUNK)
def generate_keywords_chunk(payload: GenerateKeywordsChunk, ctx: TaskContext) -> GenerateKeywordsResult:
    """Proposes the lexicon's words for the lines of one chunk; lines that are gone meanwhile are left out."""
    lexicon = Lexicon.load()
    proposals: list[keywords.Proposal] = []
    with ctx.session() as session:
        codes = [line.code for line in iter_declarable(session, codes=payload.codes)]
    for number, code in enumerate(codes, start=1):
        proposals.extend(words_for(code, lexicon, payload.languages))
        ctx.progress(number, len(codes), f"{number}/{len(codes)} lines")
    with ctx.session() as session:
        plan = keywords.plan(session, proposals, source=KeywordSource.GENERATED, by=ACTOR)
    ctx.effects(lambda writing: keywords.carry_out(writing, plan))
    return GenerateKeywordsResult(lines=len(codes), generated=len(plan.fresh), already_known=plan.known)


def _wanted(session: Session, payload: GenerateKeywords) -> list[str]:
    lines = iter_declarable(session, codes=payload.codes)
    codes = [line.code for line in lines if payload.chapter is None or line.code.startswith(payload.chapter)]
    if payload.codes is None and payload.chapter is None:
        generated = set(
            session.scalars(select(Keyword.line_code).where(Keyword.source == KeywordSource.GENERATED).distinct())
        )
        codes = [code for code in codes if code not in generated]
    return codes
