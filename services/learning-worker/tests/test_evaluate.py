"""Laws of the measurement: direct calls on both databases, and one run through a real worker."""

from __future__ import annotations

import contextlib
from contextlib import nullcontext
from pathlib import Path

import pytest
from core.tests.search.tariff import fill
from sqlalchemy import select, update

from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import TaskFailed, Unavailable
from sicargabox_core.search import evaluation, indexing
from sicargabox_core.search.evaluate import OWN_SET, read_set
from sicargabox_core.search.models import SearchEvaluation
from sicargabox_core.search.service import SearchService
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import EVALUATE, Evaluate, EvaluateResult, Queue, State
from sicargabox_learning.measuring import evaluate
from tests.servers.valkey import ValkeyServer
from tests.task_system.system import TaskSystem

KEPT = 3


def context(database: Database, folder: Path, number: int = 1) -> TaskContext:
    return TaskContext(
        settings=Settings(data_dir=folder, evaluation_reports_kept=KEPT),
        database=database,
        task_id=f"00000000-0000-7000-8000-{number:012}",
        name=EVALUATE.name,
        attempt=1,
        request_id=None,
    )


def measured(ctx: TaskContext) -> EvaluateResult:
    """One delivery of the task, committed."""
    result = evaluate(Evaluate(), ctx)
    with ctx.database.write() as session:
        for write in ctx.effect_functions:
            write(session)
    return result


def kept(database: Database) -> list[evaluation.Kept]:
    with database.read() as session:
        return evaluation.kept(session, 100)


def with_index(database: Database, folder: Path) -> Database:
    """A small tariff with its index."""
    fill(database)
    engine = SearchService(database, Settings(data_dir=folder)).engine
    indexing.rebuild(database, engine, generation="test", on_step=lambda *_: None, publish=nullcontext)
    return database


@pytest.fixture
def indexed(database: Database, tmp_path: Path) -> Database:
    """The same on each kind of database."""
    return with_index(database, tmp_path)


def test_queries_whose_headings_the_catalogue_lacks_are_left_out_and_counted(indexed: Database, tmp_path: Path) -> None:
    result = measured(context(indexed, tmp_path))
    own = read_set(OWN_SET)
    here = [one for one in own if one.headings & {"3921", "6403", "6404", "8517", "8518", "9021"}]
    assert result.queries == len(here) > 20
    assert result.left_out == len(own) - len(here)
    assert result.engine == "tantivy"
    (report,) = [one.evaluation.report for one in kept(indexed)]
    assert report.tally().queries == len(here)
    assert report.score(half="counted").hit5.value == result.hit5


def test_a_task_delivered_twice_keeps_one_report(indexed: Database, tmp_path: Path) -> None:
    first = measured(context(indexed, tmp_path))
    assert measured(context(indexed, tmp_path)) == first
    assert [one.task_id for one in kept(indexed)] == [context(indexed, tmp_path).task_id]


def test_the_newest_reports_are_kept_as_many_as_the_setting_says(indexed: Database, tmp_path: Path) -> None:
    for number in range(1, KEPT + 3):
        measured(context(indexed, tmp_path, number))
    assert [int(one.task_id[-12:]) for one in kept(indexed)] == [5, 4, 3]


def test_no_query_of_the_counted_half_is_kept(indexed: Database, tmp_path: Path) -> None:
    measured(context(indexed, tmp_path))
    counted = {one.query for one in read_set(OWN_SET) if one.counted}
    (one,) = kept(indexed)
    assert one.evaluation.misses
    assert not counted & {miss.query for miss in one.evaluation.misses}
    with indexed.read() as session:
        row = session.scalars(select(SearchEvaluation)).one()
        assert not counted & set(row.places)
        assert all(len(key) == 16 for key in row.places)


def test_what_was_lost_since_the_report_before_is_marked(indexed: Database, tmp_path: Path) -> None:
    assert measured(context(indexed, tmp_path)).losses == []
    with indexed.write() as session:
        places = session.scalars(select(SearchEvaluation.places)).one()
        session.execute(update(SearchEvaluation).values(places=dict.fromkeys(places, 1)))
    again = measured(context(indexed, tmp_path, 2))
    assert "all, among 1" in again.losses
    newest, _ = kept(indexed)
    assert any(change.loss and change.lost > change.gained for change in newest.evaluation.changes)


def test_without_an_index_it_fails_at_once_and_keeps_nothing(database: Database, tmp_path: Path) -> None:
    fill(database)
    with pytest.raises(TaskFailed, match="no search index"):
        measured(context(database, tmp_path))
    assert kept(database) == []


def test_a_catalogue_with_no_heading_of_the_set_is_told(indexed: Database, tmp_path: Path) -> None:
    with indexed.write() as session:
        session.execute(update(TariffLine).values(retired_at=db_now()))
    with pytest.raises(TaskFailed, match="no heading"):
        measured(context(indexed, tmp_path))


def test_answers_from_sql_are_no_figures(indexed: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index may go away in the middle; the task is tried again then."""

    def away(*_: object) -> None:
        raise Unavailable("gone", remedy="")

    monkeypatch.setattr("sicargabox_core.search.tantivy_engine.TantivyEngine.candidates", away)
    with pytest.raises(Unavailable, match="search index does not answer"):
        measured(context(indexed, tmp_path))
    assert kept(indexed) == []


def test_progress_counts_up_to_all_queries(indexed: Database, tmp_path: Path) -> None:
    ctx = context(indexed, tmp_path)
    result = measured(ctx)
    progress = ctx.current_progress()
    assert progress is not None
    assert (progress.current, progress.total) == (result.queries, result.queries)


def test_a_real_worker_measures_and_keeps_its_report(
    sqlite_url: str, private_valkey: ValkeyServer, tmp_path: Path
) -> None:
    with contextlib.closing(TaskSystem(sqlite_url, private_valkey, tmp_path)) as system:
        with_index(system.database, tmp_path)
        system.start_scheduler()
        system.publisher.start()
        system.start_worker(Queue.LEARNING, app="sicargabox_learning.app")
        task_id = system.service.submit(EVALUATE, Evaluate(), initiated_by="schedule:learning.weekly").task.id
        ended = system.wait_final(task_id, seconds=90)
        assert ended.state == State.SUCCESS, ended
        assert ended.progress_current == ended.progress_total == EvaluateResult.model_validate(ended.result).queries
        assert [one.task_id for one in kept(system.database)] == [task_id]
