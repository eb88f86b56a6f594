"""A first start makes an empty data folder useful; a second finds everything where it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select

from sicargabox_core.accounts.models import Role, User
from sicargabox_core.accounts.users import sign_in
from sicargabox_core.catalogue.models import TariffLine
from sicargabox_core.db import Database, expected_schema_version
from sicargabox_core.laptop.first_use import ADMINISTRATOR, prepare, rebuild_if_no_index
from sicargabox_core.settings import Settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import REBUILD_INDEX
from tests.servers.ports import free_port


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    # A port without a server: an index is asked for even when Redis is away.
    return Settings(data_dir=tmp_path, redis_port=free_port())


@pytest.fixture
def empty(settings: Settings) -> Database:
    return Database.from_settings(settings)


def test_a_first_start_gives_tables_catalogue_and_an_administrator_who_can_sign_in(
    empty: Database,
) -> None:
    made = prepare(empty)
    assert made.schema == expected_schema_version()
    assert made.lines >= 600
    assert made.password is not None
    _, who = sign_in(empty, ADMINISTRATOR, made.password, address="127.0.0.1", key=b"k" * 32, session_seconds=60)
    assert who.role is Role.ADMIN
    with empty.read() as session:
        assert session.scalars(select(User.role)).all() == [Role.ADMIN]
    empty.dispose()


def test_a_second_start_adds_nothing_and_shows_no_password(empty: Database) -> None:
    prepare(empty)
    with empty.read() as session:
        lines = session.scalar(select(func.count()).select_from(TariffLine))
    again = prepare(empty)
    assert (again.lines, again.password) == (0, None)
    with empty.read() as session:
        assert session.scalar(select(func.count()).select_from(TariffLine)) == lines
    empty.dispose()


def test_without_an_index_one_rebuild_is_asked_for_however_often_it_starts(empty: Database, settings: Settings) -> None:
    prepare(empty)
    first = rebuild_if_no_index(empty, settings)
    assert first is not None
    assert rebuild_if_no_index(empty, settings) == first
    with empty.read() as session:
        assert store.get(session, first).name == REBUILD_INDEX.name
    empty.dispose()
