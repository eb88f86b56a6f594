"""The page «Calidad»: what it says before, after and between measurements, and who may start one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from services.api.tests.staff import StaffSite, serving_staff

from sicargabox_api.admin.trend_plot import HEIGHT, WIDTH, trend
from sicargabox_core.accounts.models import Role
from sicargabox_core.search import evaluation
from sicargabox_core.search.evaluate import Labelled, Outcome
from sicargabox_core.settings import Settings
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import EVALUATE, TASKS

KINDS = {"plain": "es", "english": "en", "typo": "es", "brand": "es", "generic": "es", "mixed": "mixed", "title": "en"}


@pytest.fixture
def site(settings: Settings) -> Iterator[StaffSite]:
    with serving_staff(settings) as running:
        yield running


@pytest.fixture
def chief(site: StaffSite) -> httpx.Client:
    return site.signed_in(Role.ADMIN, "jefa")


def keep(site: StaffSite, number: int, wrong: int = 0, left_out: int = 0) -> list[Outcome]:
    """A report of made-up queries; of each kind the first ``wrong`` are not found."""
    outcomes = [
        Outcome(
            Labelled(f"consulta {kind} {n}", frozenset({"8518"}), lang, kind),
            None if n < wrong else 1 if n % 5 else 3,
            0 if n < wrong // 2 else 5,
            None,
            ("8517", "8471"),
        )
        for kind, lang in KINDS.items()
        for n in range(60)
    ]
    with site.database.read() as session:
        before = evaluation.report_before(session, "")
    made = evaluation.evaluated("tantivy", outcomes, left_out=left_out, before=before)
    with site.database.write() as session:
        evaluation.keep(session, f"00000000-0000-7000-8000-{number:012}", made, most=100)
    return outcomes


def told(client: httpx.Client, lang: str = "es") -> str:
    client.cookies.set("language", lang)
    answer = client.get("/admin/quality")
    assert answer.status_code == 200
    return answer.text


def test_before_the_first_measurement_the_page_says_so_and_when_it_comes(chief: httpx.Client) -> None:
    text = told(chief)
    assert "Todavía no se ha medido la búsqueda" in text
    assert "Se hace sola cada semana" in text
    assert "<svg" not in text
    assert "sicargabox evaluate --set" in text


def test_the_newest_report_has_each_kind_and_language_with_intervals_and_goals(
    site: StaffSite, chief: httpx.Client
) -> None:
    keep(site, 1, left_out=1234)
    text = told(chief)
    for word in ("Español cotidiano", "Marcas y modelos", "Palabras vagas", "Español", "Inglés", "1,234 no contadas"):
        assert word in text
    assert re.search(r"100\.0% <small[^>]*>\[9\d%-100%\]", text)
    assert "no cumplida" not in text
    assert "No hay ninguno anterior" in text
    assert "<svg" not in text, "one point is no development"


def test_a_goal_that_is_missed_and_a_loss_are_marked(site: StaffSite, chief: httpx.Client) -> None:
    keep(site, 1)
    assert "no cumplida" not in told(chief)
    keep(site, 2, wrong=30)
    text = told(chief)
    assert "no cumplida" in text
    assert text.count(">pérdida<") >= 2
    assert text.count("<polyline") == 2


def test_worst_queries_are_of_the_open_half_alone(site: StaffSite, chief: httpx.Client) -> None:
    outcomes = keep(site, 1, wrong=20)
    text = told(chief)
    shown = [one.labelled for one in outcomes if f">{one.labelled.query}<" in text]
    assert len(shown) == 20
    assert not [one for one in shown if one.counted]
    assert '<span class="sb-code">8471</span>' in text


def test_the_page_is_english_when_english_is_asked_for(site: StaffSite, chief: httpx.Client) -> None:
    keep(site, 1)
    keep(site, 2, wrong=30)
    text = told(chief, "en")
    for word in ("Worst queries of the open half", "Everyday Spanish", "in brackets their 95 % interval", "missed"):
        assert word in text


def test_the_button_starts_one_task_and_leads_to_its_page(site: StaffSite, chief: httpx.Client) -> None:
    first = chief.post("/admin/quality/start")
    (task,) = site.services.tasks.list().items
    assert (task.name, task.initiated_by) == (EVALUATE.name, "user:jefa")
    assert first.status_code == 303
    assert first.headers["location"].endswith(f"/admin/tasks/detail?pk={task.id}")
    assert chief.post("/admin/quality/start").headers["location"] == first.headers["location"]
    assert len(site.services.tasks.list().items) == 1
    assert f"pk={task.id}" in told(chief)
    assert "Hay una medición en curso" in told(chief)


def test_a_measurement_that_failed_says_what_to_do(site: StaffSite, chief: httpx.Client) -> None:
    task = site.services.tasks.submit(EVALUATE, EVALUATE.payload(), initiated_by="schedule:learning.weekly").task
    claim = store.claim(site.database, task.id, worker="w", lease_seconds=60, known=TASKS)
    assert claim is not None
    with site.database.write() as session:
        store.fail(session, task.id, claim.attempt, code="task_failed", message="there is no search index to measure")
    text = told(chief)
    assert "La última medición falló" in text
    assert "there is no search index to measure" in text


def test_only_operators_measure(site: StaffSite) -> None:
    for role in Role:
        client = site.signed_in(role)
        allowed = role in (Role.OPERATOR, Role.ADMIN)
        assert ("/admin/quality/start" in client.get("/admin/quality").text) == allowed
        assert client.post("/admin/quality/start").status_code == (303 if allowed else 403)


def test_whoever_is_not_signed_in_sees_and_starts_nothing(site: StaffSite) -> None:
    client = site.browser()
    assert "/admin/login" in client.get("/admin/quality").headers["location"]
    assert client.post("/admin/quality/start").status_code in (401, 403)


@pytest.mark.parametrize(
    "values", [[0.97, 0.98], [0.0, 1.0], [1.0, 1.0], [0.5], [0.951, 0.949, 0.95], [0.0, 0.0], [0.31, 0.87, 0.4]]
)
def test_every_point_of_a_plot_lies_inside_it_and_higher_shares_higher(values: list[float]) -> None:
    plot = trend([("x", values)], [(max(0.0, value - 0.02), min(1.0, value + 0.02)) for value in values])
    (series,) = plot.series
    for x, y, _ in series.marks:
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    for place in plot.band.split():
        assert 0 <= float(place.split(",")[1]) <= HEIGHT, plot
    by_height = [value for _, _, value in sorted(series.marks, key=lambda mark: -mark[1])]
    assert by_height == sorted(values)
    assert 2 <= len(plot.grid) <= 7
