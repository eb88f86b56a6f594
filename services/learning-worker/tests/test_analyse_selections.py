"""Laws of the nightly analysis: direct calls on both databases, and one run through a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from sicargabox_core.catalogue import keywords, selections
from sicargabox_core.catalogue.models import Keyword, KeywordSource, KeywordState, TariffLine
from sicargabox_core.catalogue.starter_catalogue import load_starter
from sicargabox_core.db import Database, db_now
from sicargabox_core.settings import load_settings
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import (
    ANALYSE_SELECTIONS,
    AnalyseSelections,
    AnalyseSelectionsResult,
    Queue,
    State,
)
from sicargabox_learning.tasks import analyse_selections
from tests.servers.valkey import ValkeyServer
from tests.task_system.system import TaskSystem

PHONE = "8517130000"
WORD = "zumbador turbo"


def _person(number: int) -> str:
    return f"{number:064x}"


def _choose(database: Database, *people: int, query: str = WORD) -> list[str]:
    with database.write() as session:
        return [
            selections.record(session, line_code=PHONE, query=query, person=_person(number)).id for number in people
        ]


def _analyse(database: Database, people: int = 3) -> AnalyseSelectionsResult:
    ctx = TaskContext(
        settings=load_settings(),
        database=database,
        task_id="00000000-0000-7000-8000-000000000001",
        name=ANALYSE_SELECTIONS.name,
        attempt=1,
        request_id=None,
    )
    result = analyse_selections(AnalyseSelections(people=people), ctx)
    with database.write() as session:
        for write in ctx.effect_functions:
            write(session)
    return result


def _learned(database: Database) -> list[Keyword]:
    with database.read() as session:
        return list(session.scalars(select(Keyword).where(Keyword.source == KeywordSource.LEARNED)))


@pytest.fixture
def catalogue(database: Database) -> Database:
    load_starter(database)
    return database


def test_two_tonight_and_one_tomorrow_make_three(catalogue: Database) -> None:
    _choose(catalogue, 1, 2)
    assert _analyse(catalogue) == AnalyseSelectionsResult(selections=2, suggested=0, strengthened=0)
    _choose(catalogue, 3)
    assert _analyse(catalogue) == AnalyseSelectionsResult(selections=3, suggested=1, strengthened=0)
    (keyword,) = _learned(catalogue)
    assert (keyword.line_code, keyword.text, keyword.state) == (PHONE, WORD, KeywordState.PENDING)
    assert keyword.evidence == {"people": 3, "selections": 3, "share": 1.0}


def test_one_person_many_times_is_one(catalogue: Database) -> None:
    _choose(catalogue, 1, 1, 1, 1, 2)
    assert _analyse(catalogue).suggested == 0


def test_another_night_with_more_people_strengthens_the_suggestion(catalogue: Database) -> None:
    _choose(catalogue, 1, 2, 3)
    _analyse(catalogue)
    assert _analyse(catalogue) == AnalyseSelectionsResult(selections=3, suggested=0, strengthened=0)
    _choose(catalogue, 4)
    assert _analyse(catalogue).strengthened == 1
    (keyword,) = _learned(catalogue)
    assert keyword.evidence is not None
    assert keyword.evidence["people"] == 4


def test_a_rejected_word_never_comes_back(catalogue: Database) -> None:
    _choose(catalogue, 1, 2, 3)
    _analyse(catalogue)
    with catalogue.write() as session:
        keywords.reject(session, _learned(catalogue)[0].id, by="user:ana")
    _choose(catalogue, 4, 5, 6)
    assert _analyse(catalogue) == AnalyseSelectionsResult(selections=6, suggested=0, strengthened=0)
    assert [keyword.state for keyword in _learned(catalogue)] == [KeywordState.REJECTED]


def test_a_choice_taken_back_does_not_count(catalogue: Database) -> None:
    first, *_ = _choose(catalogue, 1, 2, 3)
    with catalogue.write() as session:
        selections.undo(session, first, person=_person(1))
    assert _analyse(catalogue) == AnalyseSelectionsResult(selections=2, suggested=0, strengthened=0)


def test_choices_of_a_retired_line_teach_nothing(catalogue: Database) -> None:
    _choose(catalogue, 1, 2, 3)
    with catalogue.write() as session:
        session.execute(update(TariffLine).where(TariffLine.code == PHONE).values(retired_at=db_now()))
    assert _analyse(catalogue).selections == 0


def test_a_word_the_line_has_already_is_not_suggested(catalogue: Database) -> None:
    with catalogue.read() as session:
        known = session.scalars(select(Keyword.text).where(Keyword.line_code == PHONE)).first()
    assert known is not None
    _choose(catalogue, 1, 2, 3, query=known)
    assert known not in [keyword.text for keyword in _learned(catalogue)]
    assert _analyse(catalogue).suggested == 0


@pytest.fixture
def system(sqlite_url: str, private_valkey: ValkeyServer, tmp_path: Path) -> Iterator[TaskSystem]:
    system = TaskSystem(sqlite_url, private_valkey, tmp_path)
    yield system
    system.close()


def test_a_real_worker_runs_the_analysis(system: TaskSystem) -> None:
    load_starter(system.database)
    _choose(system.database, 1, 2, 3)
    system.start_scheduler()
    system.publisher.start()
    system.start_worker(Queue.LEARNING, app="sicargabox_learning.app")
    task_id = system.service.submit(ANALYSE_SELECTIONS, AnalyseSelections(), initiated_by="schedule:night").task.id
    ended = system.wait_final(task_id, seconds=60)
    assert ended.state == State.SUCCESS, ended
    assert ended.result == {"selections": 3, "suggested": 1, "strengthened": 0}
    assert [keyword.text for keyword in _learned(system.database)] == [WORD]
