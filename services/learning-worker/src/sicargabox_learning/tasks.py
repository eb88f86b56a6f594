"""The learning-worker's task: choices that people made become proposals for new keywords."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from sicargabox_core.catalogue import keywords, selections
from sicargabox_core.catalogue.learning import Choice, propose_keywords
from sicargabox_core.catalogue.models import KeywordSource, Selection, TariffLine
from sicargabox_core.lexicon.loader import Lexicon
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import (
    ANALYSE_SELECTIONS,
    LEARNING_NO_OP,
    AnalyseSelections,
    AnalyseSelectionsResult,
)
from sicargabox_core.tasks.trial import no_op
from sicargabox_core.tasks.worker import handles
from sicargabox_learning.app import app

ACTOR = "task:learning.analyse_selections"
PROGRESS_EVERY = 1000

handles(app, LEARNING_NO_OP)(no_op)


@handles(app, ANALYSE_SELECTIONS)
def analyse_selections(payload: AnalyseSelections, ctx: TaskContext) -> AnalyseSelectionsResult:
    """Looks at every choice ever made that was not taken back and still leads to a line in force."""
    lexicon = Lexicon.load()
    with ctx.session() as session:
        read = _Reader(session, ctx)
        proposals = propose_keywords(
            read.choices(),
            people=payload.people,
            spanish=_known_words(lexicon, "es"),
            english=_known_words(lexicon, "en"),
        )
        plan = keywords.plan(session, proposals, source=KeywordSource.LEARNED, by=ACTOR)
    ctx.effects(lambda writing: keywords.carry_out(writing, plan))
    return AnalyseSelectionsResult(selections=read.count, suggested=len(plan.fresh), strengthened=len(plan.stronger))


class _Reader:
    def __init__(self, session: Session, ctx: TaskContext) -> None:
        self._session = session
        self._ctx = ctx
        self.count = 0

    def choices(self) -> Iterator[Choice]:
        total = selections.count(self._session)
        rows = self._session.execute(
            select(Selection.line_code, Selection.query, Selection.person)
            .join(TariffLine, TariffLine.code == Selection.line_code)
            .where(Selection.undone_at.is_(None), TariffLine.retired_at.is_(None))
            .execution_options(yield_per=PROGRESS_EVERY)
        )
        for line_code, query, person in rows:
            self.count += 1
            if self.count % PROGRESS_EVERY == 0:
                self._ctx.progress(self.count, total, f"{self.count}/{total} selections")
            yield Choice(line_code, query, person)


def _known_words(lexicon: Lexicon, language: str) -> frozenset[str]:
    return frozenset(
        word
        for terms in lexicon.by_code.values()
        for term in terms
        if term.language == language
        for word in keywords.normalise(term.text).split()
    )
