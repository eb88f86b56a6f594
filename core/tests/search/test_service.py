"""What the API answers from with tantivy, and how the settings choose the engine."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from core.tests.search.tariff import build

from sicargabox_core.db import Database
from sicargabox_core.errors import InvalidSetting
from sicargabox_core.search.engine import Candidate
from sicargabox_core.search.service import MOST_AT_ONCE, SearchService, make_engine
from sicargabox_core.search.tantivy_engine import TantivyEngine
from sicargabox_core.settings import Settings
from tests.search_laws.answers import AnswerLaws


class TestAnswers(AnswerLaws):
    """From a folder."""


def test_a_damaged_index_is_answered_from_sql(
    sqlite_catalogue: Database, engine: TantivyEngine, tmp_path: Path
) -> None:
    build(sqlite_catalogue, engine)
    for file in (engine._folder / "generations" / "first").glob("*.term"):
        file.write_bytes(b"\0" * 100)
    fresh = SearchService(sqlite_catalogue, Settings(data_dir=tmp_path), engine=TantivyEngine(engine._folder))
    assert fresh.search("celular")["degraded"] is True


def test_the_settings_choose_the_engine_and_nothing_is_asked_for_it(tmp_path: Path) -> None:
    assert make_engine(Settings(data_dir=tmp_path)).name == "tantivy"
    assert make_engine(Settings(search_url="http://127.0.0.1:9")).name == "elasticsearch"


@pytest.mark.parametrize(
    "url",
    ["localhost:9200", "ftp://h:9200", "https://", "http://h:port", "https://a:9200;http://b:9200", "http://h/?q=1"],
)
def test_an_address_that_cannot_be_of_a_search_server_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidSetting, match="SICARGABOX_SEARCH_URL"):
        make_engine(Settings(search_url=url))


def test_a_password_in_the_address_of_a_search_server_is_refused_and_not_told() -> None:
    with pytest.raises(InvalidSetting, match="SICARGABOX_SEARCH_URL") as caught:
        make_engine(Settings(search_url="https://elastic:hunter22@h:9200"))
    assert "hunter22" not in str(caught.value)


def test_a_file_without_certificates_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(InvalidSetting, match="SICARGABOX_SEARCH_CA_FILE: .*no certificate"):
        make_engine(Settings(search_url="https://h:9200", search_ca_file=str(tmp_path / "ca.crt")))


def test_a_crowd_of_searches_asks_the_engine_a_few_at_a_time(
    sqlite_catalogue: Database, engine: TantivyEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(sqlite_catalogue, engine)
    service = SearchService(sqlite_catalogue, Settings(data_dir=tmp_path), engine=engine)
    full = threading.Barrier(MOST_AT_ONCE)
    asked: list[int] = []
    inside = 0
    counting = threading.Lock()
    fetch = engine.candidates

    def held(*arguments: Any) -> list[Candidate]:
        nonlocal inside
        with counting:
            inside += 1
            asked.append(inside)
        # Nobody leaves before as many are inside as may be: were it fewer, this would break.
        full.wait(timeout=30)
        try:
            return fetch(*arguments)
        finally:
            with counting:
                inside -= 1

    monkeypatch.setattr(engine, "candidates", held)
    with ThreadPoolExecutor(4 * MOST_AT_ONCE) as crowd:
        answers = list(crowd.map(service.search, ["celular"] * (4 * MOST_AT_ONCE)))
    assert max(asked) == MOST_AT_ONCE
    assert {(answer["degraded"], answer["total"]) for answer in answers} == {(False, answers[0]["total"])}
