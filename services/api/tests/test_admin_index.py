"""The page «Índice»: what it says in each state of the index, and that it deletes by the typed name alone."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from services.api.tests.staff import StaffSite, csrf_of, serving_staff

from sicargabox_api.admin.index_page import IndexPage
from sicargabox_core.accounts.models import Role
from sicargabox_core.errors import InvalidSetting, SicargaBoxError, TaskFailed, Unavailable
from sicargabox_core.search.engine import Fault, Generation
from sicargabox_core.settings import Settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import (
    AUDIT_INDEX,
    REBUILD_INDEX,
    TASKS,
    AuditIndex,
    Payload,
    RebuildIndex,
    TaskSpec,
)

SERVING = "test"


@pytest.fixture
def site(settings: Settings) -> Iterator[StaffSite]:
    with serving_staff(settings) as running:
        yield running


@pytest.fixture
def chief(site: StaffSite) -> httpx.Client:
    return site.signed_in(Role.ADMIN, "jefa")


def names(site: StaffSite) -> list[str]:
    return [task.name for task in site.services.tasks.list().items]


def claimed(site: StaffSite, spec: TaskSpec[Any, Any], payload: Payload) -> store.Claim:
    task = site.services.tasks.submit(spec, payload, initiated_by="user:luis").task
    claim = store.claim(site.database, task.id, worker="w", lease_seconds=60, known=TASKS)
    assert claim is not None
    return claim


def say(site: StaffSite, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Has the engine tell another status."""
    (page,) = [view for view in site.admin._views if isinstance(view, IndexPage)]
    status = dataclasses.replace(page._engine.status(), **changes)
    monkeypatch.setattr(page._engine, "status", lambda: status)


def told(client: httpx.Client) -> str:
    """The page, after whatever was done before."""
    return client.get("/admin/index").text


def test_the_page_tells_what_serves_and_with_which_proof(chief: httpx.Client) -> None:
    text = told(chief)
    assert "Funciona" in text
    assert "tantivy (incluido)" in text
    assert "4 documentos entregados, 4 contados en el índice" in text
    assert f'<code class="sb-name">{SERVING}</code>' in text
    assert "en servicio" in text
    assert "Ninguna todavía" in text


def test_a_part_of_the_page_is_the_part_alone(chief: httpx.Client) -> None:
    part = chief.get("/admin/index", params={"part": "1"}).text
    assert "<html" not in part
    assert 'data-sb-again="10000"' in part


def test_a_running_rebuild_has_its_bar_and_can_be_cancelled_and_the_index_not_deleted(
    site: StaffSite, chief: httpx.Client
) -> None:
    claim = claimed(site, REBUILD_INDEX, RebuildIndex())
    store.heartbeat(
        site.database, claim.id, claim.attempt, lease_seconds=60, progress=store.Progress(2, 4, "2/4 documents indexed")
    )
    text = told(chief)
    assert 'aria-valuenow="50"' in text
    assert 'data-sb-again="2000"' in text
    assert "por luis" in text
    assert 'id="typed"' not in text
    assert chief.post("/admin/index/delete", data={"generation": SERVING, "typed": SERVING}).status_code == 303
    assert "ya está en curso" in told(chief)
    assert names(site) == ["search.rebuild_index"]
    assert chief.post(f"/admin/index/cancel/{claim.id}").status_code == 303
    assert "Cancelando" in told(chief)


@pytest.mark.parametrize(
    "form", [{}, {"generation": SERVING}, {"generation": SERVING, "typed": "Test"}, {"generation": "", "typed": ""}]
)
def test_another_name_than_the_one_that_is_shown_deletes_nothing(
    site: StaffSite, chief: httpx.Client, form: dict[str, str]
) -> None:
    assert chief.post("/admin/index/delete", data=form).status_code == 303
    assert "No se borró nada" in told(chief)
    assert names(site) == []


def test_a_page_that_is_older_than_the_index_deletes_nothing(site: StaffSite, chief: httpx.Client) -> None:
    chief.post("/admin/index/delete", data={"generation": "earlier", "typed": "earlier"})
    assert "El índice no es el que usted vio" in told(chief)
    assert names(site) == []


def test_a_delete_without_the_token_of_the_page_is_refused(site: StaffSite, chief: httpx.Client) -> None:
    del chief.headers["X-CSRFToken"]
    form = {"generation": SERVING, "typed": SERVING}
    assert chief.post("/admin/index/delete", data=form).status_code == 403
    assert names(site) == []
    # As the form sends it.
    assert chief.post("/admin/index/delete", data=form | {"csrftoken": csrf_of(told(chief))}).status_code == 303
    (task,) = site.services.tasks.list().items
    assert (task.name, task.payload, task.initiated_by) == ("search.delete_index", {"generation": SERVING}, "user:jefa")
    assert "Borrar índice: iniciada" in told(chief)


def test_the_last_audit_is_told_with_its_first_codes(site: StaffSite, chief: httpx.Client) -> None:
    claim = claimed(site, AUDIT_INDEX, AuditIndex())
    codes = [f"{8517000000 + number}" for number in range(12)]
    found = {"ok": False, "database": 4, "index": 5, "missing": 12, "extra": 1, "stale": 0}
    with site.database.write() as session:
        store.finish_success(
            session, claim.id, claim.attempt, found | {"missing_codes": codes, "extra_codes": ["0101210000"]}
        )
    text = told(chief)
    assert "No coinciden" in text
    assert "Faltan en el índice: 12" in text
    assert "tariff/detail?pk=8517000009" in text
    assert "8517000010" not in text
    assert "0101.21.00.00" in text
    assert "pk=0101210000" not in text
    assert "Desactualizadas" not in text


def test_without_an_index_the_page_says_what_that_means_and_audits_nothing(
    site: StaffSite, chief: httpx.Client, data_dir: Path
) -> None:
    shutil.rmtree(data_dir / "search")
    text = told(chief)
    assert "No hay un índice que pueda responder" in text
    assert "La base de datos responde las búsquedas" in text
    assert 'id="typed"' not in text
    chief.post("/admin/index/start/search.audit")
    assert "No se hizo nada" in told(chief)
    chief.post("/admin/index/start/search.rebuild_index")
    assert "Reconstruir índice: iniciada" in told(chief)
    assert names(site) == ["search.rebuild_index"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"health": "yellow"}, "Funciona, sin copia de reserva"),
        ({"health": "red"}, "El índice está dañado"),
        (
            {"health": "away", "ready": False, "generation": None, "generations": [], "problem": "it is off"},
            "El servidor de búsqueda no responde",
        ),
    ],
)
def test_each_state_of_health_is_said_in_words_with_what_to_do(
    site: StaffSite, chief: httpx.Client, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], says: str
) -> None:
    say(site, monkeypatch, **changes)
    text = told(chief)
    assert says in text
    assert "Qué hacer" in text
    assert ('<span lang="en">it is off</span>' in text) == (changes["health"] == "away")
    assert ("it is off" in text) == (changes["health"] == "away")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("no_index", "No hay un índice que pueda responder"),
        ("unreadable", "No se puede leer el índice"),
        ("lost_part", "El índice está dañado"),
        ("other_mapping", "con el índice de otra versión"),
        ("several_indexes", "más de un índice en servicio"),
        ("name_taken", "otro índice tiene el nombre"),
        ("setting", "con la configuración actual"),
        ("away", "El servidor de búsqueda no responde"),
    ],
)
def test_each_fault_is_said_in_spanish_and_its_exact_words_are_there_for_who_asks(
    site: StaffSite, chief: httpx.Client, monkeypatch: pytest.MonkeyPatch, fault: Fault, says: str
) -> None:
    assert fault in get_args(Fault)
    health = "away" if fault in ("away", "setting") else "red"
    say(site, monkeypatch, ready=False, health=health, fault=fault, problem="its own words")
    text = told(chief)
    assert says in text
    assert "Qué hacer" in text
    assert re.search(r"<details[^>]*><summary>Palabras exactas[^<]*</summary><span lang=\"en\">its own words", text)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Unavailable("it is off"), "Un servidor necesario no respondió"),
        (InvalidSetting("no such key", field="KEY", remedy="Set it."), "Hay una configuración incorrecta"),
        (TaskFailed("it holds 3 of 4"), "No se puede hacer tal como están las cosas"),
    ],
)
def test_why_a_rebuild_and_an_audit_failed_is_said_in_spanish(
    site: StaffSite, chief: httpx.Client, error: SicargaBoxError, says: str
) -> None:
    for spec, payload in ((REBUILD_INDEX, RebuildIndex()), (AUDIT_INDEX, AuditIndex())):
        claim = claimed(site, spec, payload)
        with site.database.write() as session:
            store.fail(session, claim.id, claim.attempt, code=error.code, message=str(error))
    text = told(chief)
    assert text.count(says) == 2
    assert text.count(f'<span lang="en">{error}</span>') == 2


def test_what_an_engine_cannot_tell_is_a_dash(
    site: StaffSite, chief: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(
        site,
        monkeypatch,
        generations=[Generation("new", "building")],
        proof=None,
        seconds=None,
    )
    text = told(chief)
    assert "en construcción" in text
    assert "contados en el índice" not in text
