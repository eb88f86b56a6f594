"""Laws of generating keywords: direct calls on both databases, and one run through real workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from sicargabox_ai.tasks import ACTOR, CHUNK, generate_keywords, generate_keywords_chunk
from sicargabox_core.catalogue import keywords
from sicargabox_core.catalogue.models import Keyword, KeywordSource, KeywordState, TariffLine
from sicargabox_core.catalogue.starter_catalogue import load_starter
from sicargabox_core.db import Database
from sicargabox_core.settings import load_settings
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import (
    GENERATE_KEYWORDS,
    GenerateKeywords,
    GenerateKeywordsChunk,
    GenerateKeywordsResult,
    Queue,
    State,
)
from tests.servers.valkey import ValkeyServer
from tests.task_system.system import TaskSystem

PHONE = "8517130000"


def _context(database: Database) -> TaskContext:
    return TaskContext(
        settings=load_settings(),
        database=database,
        task_id="00000000-0000-7000-8000-000000000001",
        name=GENERATE_KEYWORDS.name,
        attempt=1,
        request_id=None,
    )


def _hand_out(database: Database, payload: GenerateKeywords) -> list[GenerateKeywordsChunk]:
    ctx = _context(database)
    assert generate_keywords(payload, ctx) == GenerateKeywordsResult(lines=0, generated=0, already_known=0)
    return [GenerateKeywordsChunk.model_validate(child.payload.model_dump()) for child in ctx.children]


def _run_chunk(database: Database, chunk: GenerateKeywordsChunk) -> GenerateKeywordsResult:
    ctx = _context(database)
    result = generate_keywords_chunk(chunk, ctx)
    with database.write() as session:
        for write in ctx.effect_functions:
            write(session)
    return result


def _generated(database: Database) -> int:
    with database.read() as session:
        statement = select(func.count()).select_from(Keyword).where(Keyword.source == KeywordSource.GENERATED)
        return session.scalar(statement) or 0


def test_all_lines_are_handed_out_once_in_chunks(database: Database) -> None:
    lines = load_starter(database)
    chunks = _hand_out(database, GenerateKeywords())
    codes = [code for chunk in chunks for code in chunk.codes]
    assert len(codes) == len(set(codes)) == lines
    assert {len(chunk.codes) for chunk in chunks[:-1]} == {CHUNK}


def test_a_chapter_or_a_list_of_codes_limits_the_work(database: Database) -> None:
    load_starter(database)
    (chapter,) = _hand_out(database, GenerateKeywords(chapter="64", languages=["en"]))
    assert {code[:2] for code in chapter.codes} == {"64"}
    assert chapter.languages == ["en"]
    (some,) = _hand_out(database, GenerateKeywords(codes=[PHONE, "8517", "9999999999"]))
    assert some.codes == [PHONE]
    assert _hand_out(database, GenerateKeywords(chapter="77")) == []


def test_lines_that_have_generated_words_are_left_out_unless_asked_for(database: Database) -> None:
    load_starter(database)
    _run_chunk(database, GenerateKeywordsChunk(codes=[PHONE]))
    codes = [code for chunk in _hand_out(database, GenerateKeywords()) for code in chunk.codes]
    assert PHONE not in codes
    assert _hand_out(database, GenerateKeywords(codes=[PHONE]))[0].codes == [PHONE]


def test_generated_words_wait_for_review_and_say_where_they_came_from(database: Database) -> None:
    load_starter(database)
    result = _run_chunk(database, GenerateKeywordsChunk(codes=[PHONE]))
    assert result.lines == 1
    assert result.generated == _generated(database) > 0
    with database.read() as session:
        words = session.scalars(select(Keyword).where(Keyword.source == KeywordSource.GENERATED)).all()
    assert {(word.state, word.created_by) for word in words} == {(KeywordState.PENDING, ACTOR)}
    assert {word.language for word in words} <= {"es", "en"}
    assert all(word.evidence and word.evidence["model"] == "lexicon" for word in words)


def test_a_chunk_that_runs_again_proposes_nothing_twice(database: Database) -> None:
    load_starter(database)
    chunk = GenerateKeywordsChunk(codes=[PHONE])
    first = _run_chunk(database, chunk)
    again = _run_chunk(database, chunk)
    assert (again.generated, again.already_known) == (0, first.generated + first.already_known)
    assert _generated(database) == first.generated


def test_a_rejected_word_is_not_proposed_again(database: Database) -> None:
    load_starter(database)
    chunk = GenerateKeywordsChunk(codes=[PHONE])
    _run_chunk(database, chunk)
    with database.write() as session:
        keyword_id = session.scalars(select(Keyword.id).where(Keyword.source == KeywordSource.GENERATED)).first()
        assert keyword_id is not None
        keywords.reject(session, keyword_id, by="user:ana")
    _run_chunk(database, chunk)
    with database.read() as session:
        assert keywords.get(session, keyword_id).state == KeywordState.REJECTED


def test_lines_retired_meanwhile_are_left_out(database: Database) -> None:
    load_starter(database)
    with database.write() as session:
        line = session.get(TariffLine, PHONE)
        assert line is not None
        line.retired_at = line.created_at
    assert _run_chunk(database, GenerateKeywordsChunk(codes=[PHONE])) == GenerateKeywordsResult(
        lines=0, generated=0, already_known=0
    )


@pytest.fixture
def system(sqlite_url: str, private_valkey: ValkeyServer, tmp_path: Path) -> Iterator[TaskSystem]:
    system = TaskSystem(sqlite_url, private_valkey, tmp_path)
    yield system
    system.close()


def test_real_workers_share_the_chunks_and_the_parent_adds_them_up(system: TaskSystem) -> None:
    lines = load_starter(system.database)
    system.start_scheduler()
    system.publisher.start()
    system.start_worker(Queue.AI_GENERATION, concurrency=2, app="sicargabox_ai.app")
    task_id = system.service.submit(GENERATE_KEYWORDS, GenerateKeywords(), initiated_by="user:test").task.id
    ended = system.wait_final(task_id, seconds=90)
    assert ended.state == State.SUCCESS, ended
    assert ended.result is not None
    assert ended.result["lines"] == lines
    assert ended.result["generated"] == _generated(system.database) > 0
    assert (ended.progress_current, ended.progress_total) == (lines, lines)
