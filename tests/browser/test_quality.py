"""How well the search finds, in a browser: before any measurement, measured by the worker, and after a loss."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from sicargabox_core.search import evaluation
from sicargabox_core.search.evaluate import OWN_SET, Outcome, read_set
from tests.browser.conftest import Visitor
from tests.browser.site import Site
from tests.servers.ports import wait_until

OpenWindow = Callable[..., Visitor]
# The worker asks every query that the starter catalogue can answer, on a machine that does other things too.
PATIENCE = 120_000


@pytest.fixture
def learning_worker(site: Site) -> Iterator[None]:
    """The worker that measures, for this test alone."""
    name = "sicargabox_learning.app"
    command = (*("-m", "celery", "-A", name, "worker", "-Q", "learning", "-c", "1"), "-n", f"{name}@%h")
    site.start(name, sys.executable, *command, "--without-gossip", "--without-mingle")
    yield
    site.stop(name)


def reports(site: Site) -> int:
    database = site.database()
    with database.read() as session:
        kept = evaluation.kept(session, 2)
    database.dispose()
    return len(kept)


def keep_a_worse_report(site: Site) -> None:
    """As if the search had been measured again after a change that loses every third query."""
    places = (None, 3, 1, None, 1, 1)
    outcomes = [
        Outcome(one, places[at % len(places)], 10 if places[at % len(places)] else 0, None, ("8517", "8471"))
        for at, one in enumerate(read_set(OWN_SET))
    ]
    database = site.database()
    with database.read() as session:
        before = evaluation.report_before(session, "")
    made = evaluation.evaluated("tantivy", outcomes, left_out=0, before=before)
    with database.write() as session:
        evaluation.keep(session, "00000000-0000-7000-8000-000000000001", made, most=100)
    database.dispose()


def test_the_search_is_measured_and_its_quality_read_in_both_languages_and_on_a_phone(
    open_window: OpenWindow, site: Site, learning_worker: None
) -> None:
    staff = open_window()
    staff.sign_in("operator")
    page = staff.page
    page.goto(f"{site.admin}index")
    page.get_by_role("button", name="Reconstruir índice", exact=True).first.click()
    expect(page.locator("#index-running")).to_have_count(0, timeout=PATIENCE)
    page.get_by_role("link", name="Calidad", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Calidad")
    expect(page.locator("#quality-empty")).to_contain_text("Todavía no se ha medido la búsqueda")
    staff.look("40-quality-empty")
    small = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True}
    phone = open_window(**small)
    phone.sign_in("viewer")
    phone.page.goto(f"{site.admin}quality")
    expect(phone.page.locator("#quality-empty")).to_be_visible()
    expect(phone.page.get_by_role("button", name="Medir la búsqueda")).to_have_count(0)
    phone.look("41-quality-empty-phone-dark")

    # By the keyboard alone: past the menu, to the button, and on to the task.
    page.reload()
    page.keyboard.press("Tab")
    expect(page.locator(".sb-skip")).to_be_focused()
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Medir la búsqueda")
    for _ in range(5):
        page.keyboard.press("Tab")
        if button.evaluate("button => button === document.activeElement"):
            break
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Medir la búsqueda")
    wait_until(lambda: reports(site) > 0, seconds=PATIENCE / 1000, what="the search is measured", interval=0.5)
    page.goto(f"{site.admin}quality")
    expect(page.locator("#quality-empty")).to_have_count(0)
    expect(page.get_by_role("main")).to_contain_text("No hay ninguno anterior")
    expect(page.get_by_role("table", name="Por clase e idioma")).to_contain_text("Español cotidiano")
    staff.look("42-quality-measured")

    keep_a_worse_report(site)
    page.reload()
    expect(page.get_by_role("table", name="Frente al informe anterior")).to_contain_text("pérdida")
    expect(page.get_by_role("table", name="Metas")).to_contain_text("no cumplida")
    expect(page.locator("svg.sb-plot polyline")).to_have_count(2)
    staff.look("43-quality-loss")
    # A miss is one click from what the search answers now.
    miss = page.get_by_role("table", name="Peores consultas").get_by_role("link").first
    assert str(miss.get_attribute("href")).startswith(f"{site.public}/?q=")

    phone.page.reload()
    expect(phone.page.get_by_role("table", name="Metas")).to_be_visible()
    # On a phone each cell says what it is: the head of its own table, though there are several on the page.
    for section, first in (("table", "Número"), ("misses", "Tipo")):
        cell = phone.page.locator(f"table[aria-labelledby=quality-{section}] td").first
        expect(cell).to_have_attribute("data-label", first)
    phone.look("44-quality-loss-phone-dark")
    page.context.add_cookies([{"name": "language", "value": "en", "url": site.admin}])
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Quality")
    expect(page.get_by_role("table", name="By kind and language")).to_contain_text("Everyday Spanish")
    expect(page.get_by_role("table", name="Against the report before")).to_contain_text("loss")
    staff.look("45-quality-english")
    dark = open_window(color_scheme="dark")
    dark.sign_in("viewer")
    dark.page.goto(f"{site.admin}quality")
    dark.look("46-quality-dark")
