"""What every fault is judged by: of a thousand accepted tasks none is lost or finished twice, and the API answers."""

from __future__ import annotations

from collections.abc import Sequence

from tests.kubernetes.evidence import explained, requests
from tests.kubernetes.figures import Figures
from tests.kubernetes.installation import Installation
from tests.kubernetes.ledger import Ledger
from tests.kubernetes.load import LEAST, Answers, Load

_MOST_ERRORS = 0.001


def judged(
    figures: Figures,
    row: str,
    installation: Installation,
    ledger: Ledger,
    load: Load,
    *,
    away: Sequence[tuple[float, float]] = (),
    least: int = LEAST,
    seconds: float = 300,
) -> Answers:
    """Waits until every task has ended, judges the load and notes its figures in the row of the fault.

    ``away``: when requests may fail, because what they need was taken away. ``least``: how many tasks there must be;
    fewer than a thousand only where the test says why. Raises ``AssertionError`` with all that explains it.
    """
    with explained(installation, ledger, load, load.began):
        ledger.settle(seconds)
        verdict = ledger.verdict(load.accepted)
        assert verdict.lost == ()
        assert verdict.finished_twice == ()
        assert verdict.accepted >= least, f"{verdict.accepted} accepted tasks prove too little"
        answers = load.answers(away=away)
        assert answers.requests > 0
        assert answers.error_rate < _MOST_ERRORS, answers.problems
        if answers.errors:
            # Of a passed test pytest shows this with -rP.
            print(requests(load, load.began))
    for what, value in verdict.figures.items():
        figures.note("faults", row, what, value)
    figures.note("faults", row, "API requests", answers.requests)
    figures.note("faults", row, "errors", answers.errors)
    return answers
