"""Every fault, as often as asked for, on one installation; a new one after a breach, so that none spoils the next."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import ledger
from tests.faults.faults import Fault, all_faults, check_needs
from tests.faults.installation import Installation
from tests.faults.told import TOLD
from tests.faults.trial import Outcome, Trials
from tests.settings import machine

REPEATS = machine().fault_repeats


class Ground:
    """The installation that trials share."""

    def __init__(self) -> None:
        self.trials: Trials | None = None

    def ready(self) -> Trials:
        """The present installation, or a new one."""
        if self.trials is None:
            installation = Installation(machine().fault_rate)
            self.trials = Trials(installation)
            installation.start()
        return self.trials

    def give_up(self, why: str) -> Path:
        """Ends the present installation and says where its logs are kept."""
        assert self.trials is not None
        folder = Path(tempfile.mkdtemp(prefix=f"sicargabox-fault-{why}-"))
        self.trials.installation.stop(keep=folder)
        self.trials = None
        return folder

    def close(self) -> None:
        """Ends what there is."""
        if self.trials is not None:
            self.trials.installation.stop()
            self.trials = None


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    ground = Ground()
    try:
        yield ground
    finally:
        ground.close()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[Outcome], None]:
    """Keeps an outcome for the end of the run, passed or not, and adds it to the results file."""

    def tell(outcome: Outcome) -> None:
        request.config.stash[TOLD].append(str(outcome))
        results = machine().fault_results
        if results is not None:
            ledger.append(results, outcome.as_line() | {"at": round(time.time()), "rate": machine().fault_rate})

    return tell


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", all_faults(), ids=lambda kind: kind.name)
@pytest.mark.parametrize("repetition", range(1, REPEATS + 1))
def test_nothing_accepted_is_lost(
    ground: Ground, tell: Callable[[Outcome], None], repetition: int, kind: type[Fault]
) -> None:
    check_needs(kind)
    try:
        outcome = ground.ready().run(kind)
    except BaseException:
        if ground.trials is not None:
            print("logs:", ground.give_up(kind.name))
        raise
    tell(outcome)
    if outcome.breaches:
        folder = ground.give_up(f"{kind.name}-{repetition}")
        pytest.fail("\n".join([*outcome.breaches, f"logs: {folder}"]), pytrace=False)


@pytest.mark.timeout(900)
def test_at_the_end_everything_ever_accepted_was_executed_and_took_effect_once(
    ground: Ground, tell: Callable[[Outcome], None]
) -> None:
    outcome = ground.ready().close()
    tell(outcome)
    folder = ground.give_up("end") if outcome.breaches else None
    ground.close()
    assert not outcome.breaches, "\n".join([*outcome.breaches, f"logs: {folder}"])
