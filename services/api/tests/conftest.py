"""A small catalogue with its index, made once, and a real API over a copy of it for each test."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import structlog
from services.api.tests.running import Api, serving

from sicargabox_core.catalogue.models import Keyword, TariffLine
from sicargabox_core.db import Database, migrate
from sicargabox_core.search import indexing
from sicargabox_core.search.service import make_engine
from sicargabox_core.settings import Settings, load_settings
from tests.servers.valkey import ValkeyServer

# code, Spanish, English, category
_NODES = (
    ("85", "Aparatos eléctricos", "Electrical goods", "ALLOWED"),
    ("8517", "Teléfonos", "Telephones", "ALLOWED"),
    ("8517130000", "Teléfonos inteligentes", "Smartphones", "ALLOWED"),
    ("8518", "Micrófonos, altavoces y auriculares", "Microphones, loudspeakers and earphones", "ALLOWED"),
    ("8518300000", "Audífonos, también con micrófono", "Headphones, also with a microphone", "ALLOWED"),
    ("8518900000", "Los demás", None, "ALLOWED"),
    ("93", "Armas", "Weapons", "PROHIBITED"),
    ("9304", "Otras armas", "Other weapons", "PROHIBITED"),
    ("9304000000", "Porras y bastones", "Batons and sticks", "PROHIBITED"),
)


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    # Unconfigured, structlog draws every error of a request with all local variables: seconds for each. For each test
    # anew, since tests of other packages in the same process set logging back.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def _stocked_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stocked")
    settings = load_settings(data_dir=folder)
    database = Database.from_settings(settings)
    migrate(database)
    codes = {code for code, *_ in _NODES}
    with database.write() as session:
        for position, (code, spanish, english, category) in enumerate(_NODES):
            declarable = len(code) == 10
            session.add(
                TariffLine(
                    code=code,
                    level={2: "CHAPTER", 4: "HEADING"}.get(len(code), "LINE"),
                    parent_code=next((code[:n] for n in (4, 2) if len(code) > n and code[:n] in codes), None),
                    position=position,
                    description_es=spanish,
                    description_en=english,
                    declarable=declarable,
                    dai=Decimal(15) if declarable else None,
                    isv=Decimal(15) if declarable else None,
                    courier_category=category,
                    courier_reason_es="Está prohibido" if category == "PROHIBITED" else None,
                    courier_reason_en="It is prohibited" if category == "PROHIBITED" else None,
                    source="starter",
                )
            )
        session.flush()
        for language, text, state in (
            ("es", "auriculares bluetooth", "APPROVED"),
            ("en", "earbuds", "APPROVED"),
            ("en", "ear plugs", "PENDING"),
        ):
            session.add(
                Keyword(
                    line_code="8518300000",
                    language=language,
                    text=text,
                    normalized=text,
                    source="starter",
                    state=state,
                    created_by="test",
                )
            )
    indexing.rebuild(
        database,
        make_engine(settings),
        generation="test",
        on_step=lambda *_: None,
        publish=contextlib.nullcontext,
    )
    database.dispose()
    return folder


@pytest.fixture
def data_dir(_stocked_folder: Path, tmp_path: Path) -> Path:
    """A data folder of this test alone, with catalogue and index."""
    return Path(shutil.copytree(_stocked_folder, tmp_path / "data"))


@pytest.fixture
def settings(data_dir: Path, redis_url: str) -> Settings:
    """Settings of an API with a real Redis."""
    return load_settings(data_dir=data_dir, redis_url=redis_url, log_level="WARNING")


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    """The running API."""
    with serving(settings) as running:
        yield running


@pytest.fixture(scope="session")
def _shared_api(
    _stocked_folder: Path, _valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    # For tests that change nothing: a start and a stop take 0.3 s, and there are a hundred of those tests.
    folder = shutil.copytree(_stocked_folder, tmp_path_factory.mktemp("shared") / "data")
    with serving(load_settings(data_dir=Path(folder), redis_url=_valkey.url)) as running:
        yield running


@pytest.fixture
def visitor(_shared_api: Api) -> Iterator[httpx.Client]:
    """Somebody without an account, who changes nothing."""
    with _shared_api.visitor() as client:
        yield client


@pytest.fixture(scope="session")
def onlooker(_shared_api: Api) -> httpx.Client:
    """A program that may do everything and changes nothing."""
    return _shared_api.as_program()


@pytest.fixture
def operator(api: Api) -> httpx.Client:
    """A program that may do everything, at an API of its test alone."""
    return api.as_program()
