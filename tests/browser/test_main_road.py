"""The product's first road in a browser: sign in, rebuild, watch it end, search, choose, take it back."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from sicargabox_core.accounts import users
from sicargabox_core.catalogue.models import Keyword
from tests.browser.conftest import Visitor

OpenWindow = Callable[..., Visitor]


def test_staff_rebuilds_the_index_and_a_visitor_finds_chooses_and_takes_back(open_window: OpenWindow) -> None:
    staff = open_window()
    staff.page.goto(staff.site.admin)
    staff.look("01-sign-in")
    staff.sign_in("operator")
    rebuild = staff.page.get_by_role("button", name="Reconstruir índice")
    expect(rebuild).to_be_enabled(timeout=10_000)
    rebuild.click()
    bar = staff.page.get_by_role("progressbar", name="Reconstruir índice").first
    expect(bar).to_have_attribute("aria-valuenow", "100", timeout=60_000)
    item = staff.page.locator("#panel-tasks li").filter(has_text="Reconstruir índice").first
    expect(item.locator(".badge")).to_have_text("Terminada")
    expect(staff.page.locator("#panel-summary")).to_contain_text("partidas", timeout=10_000)
    expect(staff.page.locator("#panel-redis")).to_contain_text("Memoria", timeout=15_000)
    staff.look("02-panel")

    visitor = open_window()
    visitor.page.goto(visitor.site.public)
    visitor.look("03-home")
    visitor.page.get_by_role("combobox").press_sequentially("audifono", delay=20)
    expect(visitor.page.get_by_role("option").first).to_be_visible(timeout=10_000)
    visitor.look("04-suggestions")
    visitor.page.keyboard.press("Escape")
    visitor.page.fill("#q", "audífonos bluetooth")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator(".hit").first).to_contain_text("8518.30")
    expect(visitor.page.locator(".hit mark").first).to_be_visible()
    expect(visitor.page.locator(".hit .reason").first).to_contain_text("Por qué:")
    visitor.look("05-results")
    visitor.page.get_by_role("button", name="Elegir 8518.30.00.00").click()
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Gracias. Eligió 8518.30.00.00")
    visitor.look("06-chosen")
    visitor.page.get_by_role("button", name="Deshacer").click()
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("La elección se deshizo")


def test_keywords_are_generated_with_a_bar_that_sums_its_parts(open_window: OpenWindow) -> None:
    staff = open_window()
    staff.sign_in("operator")
    button = staff.page.get_by_role("button", name="Generar palabras clave")
    expect(button).to_be_enabled(timeout=10_000)
    button.click()
    item = staff.page.locator("#panel-tasks li").filter(has_text="Generar palabras clave").first
    expect(item.locator(".badge")).to_have_text("Terminada", timeout=90_000)
    staff.page.get_by_role("link", name="Generar palabras clave").first.click()
    expect(staff.page.get_by_role("heading", level=1)).to_have_text("Generar palabras clave")
    staff.look("07-task")


def test_the_public_page_works_without_javascript_and_keeps_the_words_when_the_language_changes(
    open_window: OpenWindow,
) -> None:
    visitor = open_window(java_script_enabled=False)
    visitor.page.goto(visitor.site.public)
    visitor.page.fill("#q", "zapatos")
    visitor.page.get_by_role("button", name="Buscar").click()
    expect(visitor.page.locator(".hit").first).to_be_visible()
    visitor.page.get_by_role("link", name="English").click()
    expect(visitor.page.locator("#q")).to_have_value("zapatos")
    expect(visitor.page.locator("html")).to_have_attribute("lang", "en")
    visitor.page.locator(".hit h2 a").first.click()
    expect(visitor.page.locator("h1 .code")).to_have_text(re.compile(r"^\d{4}"))
    visitor.look("08-line-english")
    visitor.page.get_by_role("button", name="Choose").click()
    expect(visitor.page.get_by_role("heading", level=1)).to_contain_text("Thank you")
    visitor.page.get_by_role("button", name="Undo").click()
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("The choice was taken back")


def test_a_phone_in_the_dark_can_do_it_all(open_window: OpenWindow) -> None:
    phone = open_window(viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)
    phone.page.goto(phone.site.public + "/?q=nike shoes")
    phone.look("09-phone-results-dark")
    phone.page.goto(phone.site.public + "/?q=zzzzqqqq")
    expect(phone.page.locator(".empty")).to_contain_text("Sin resultados")
    phone.look("10-phone-empty-dark")
    phone.sign_in("admin")
    expect(phone.page.locator("#panel-queues tr").first).to_be_visible(timeout=10_000)
    phone.look("11-phone-panel-dark")
    for key in ("tasks", "keywords", "tariff", "users", "tokens", "audit"):
        phone.page.goto(f"{phone.site.admin}{key}/list")
        phone.look(f"12-phone-{key}-dark")


def test_every_staff_page_opens_cleanly(open_window: OpenWindow) -> None:
    staff = open_window()
    staff.sign_in("admin")
    for key in ("tasks", "dead-letters", "keywords", "tariff", "searches", "selections", "users", "tokens", "audit"):
        staff.page.goto(f"{staff.site.admin}{key}/list")
        expect(staff.page.get_by_role("heading", level=1)).to_have_count(1)
        staff.look(f"13-{key}")
    staff.page.goto(f"{staff.site.admin}users/create")
    staff.look("14-new-user")
    staff.page.goto(f"{staff.site.admin}tariff/detail?pk=8518300000")
    staff.look("15-line")


def test_keyboard_alone_finds_and_opens_a_line(open_window: OpenWindow) -> None:
    visitor = open_window()
    visitor.page.goto(visitor.site.public + "/capitulos")
    visitor.page.keyboard.press("Tab")
    expect(visitor.page.locator(".skip")).to_be_focused()
    visitor.page.goto(visitor.site.public)
    visitor.page.keyboard.type("8518", delay=20)
    expect(visitor.page.get_by_role("option").first).to_be_visible(timeout=10_000)
    visitor.page.keyboard.press("ArrowDown")
    expect(visitor.page.get_by_role("option").first).to_have_attribute("aria-selected", "true")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("h1 .code")).to_have_text(re.compile(r"^8518"))


def test_the_panel_says_when_the_connection_or_the_session_is_gone_and_shows_no_false_end(
    open_window: OpenWindow,
) -> None:
    staff = open_window()
    staff.sign_in("operator")
    notice = staff.page.locator("#panel-notice")
    expect(staff.page.locator("#panel-queues tr").first).to_be_visible(timeout=10_000)
    staff.page.route("**/panel/state*", lambda route: route.abort())
    expect(notice).to_have_text("Sin conexión; reintentando…", timeout=15_000)
    staff.look("16-panel-offline")
    staff.page.unroute("**/panel/state*")
    expect(notice).to_be_hidden(timeout=40_000)
    # The browser itself notes that those requests failed.
    staff.faults.clear()
    database = staff.site.database()
    with database.write() as session:
        users.end_sessions(session, users.find_user(session, "operator").id)
    database.dispose()
    expect(notice).to_have_text("Su sesión terminó. Vuelva a entrar.", timeout=15_000)
    expect(staff.page.get_by_role("button", name="Reconstruir índice")).to_be_disabled()


def test_reviewers_decide_in_bulk_and_administrators_make_a_token(open_window: OpenWindow) -> None:
    staff = open_window()
    staff.sign_in("admin")
    database = staff.site.database()
    with database.write() as session:
        session.add_all(
            Keyword(
                line_code="8518300000",
                language="es",
                text=f"prueba {number}",
                normalized=f"prueba {number}",
                source="learned",
                state="PENDING",
                created_by="test",
            )
            for number in range(3)
        )
    database.dispose()
    staff.page.goto(f"{staff.site.admin}keywords/list?filter=source__eq=learned")
    staff.page.get_by_role("checkbox", name="Seleccionar todas las filas").check()
    staff.page.get_by_role("button", name=re.compile("Con lo seleccionado")).click()
    staff.page.locator("[data-sa-name=approve]").click()
    expect(staff.page.locator("#modal-action")).to_be_visible()
    staff.look("17-approve")
    staff.page.locator("[data-sa-action=action-submit]").click()
    expect(staff.page.locator("#alertContainer")).to_contain_text("Palabras aprobadas: 3")

    staff.page.goto(f"{staff.site.admin}tokens/list")
    staff.page.get_by_role("button", name="Nuevo token").or_(staff.page.locator("[data-sa-name=make]")).first.click()
    dialog = staff.page.locator("#modal-action")
    expect(dialog).to_be_visible()
    # A form that is not filled in keeps the dialog open.
    dialog.locator("[data-sa-action=action-submit]").click()
    expect(dialog).to_be_visible()
    dialog.get_by_label("Nombre").fill("escaner")
    dialog.get_by_label("Búsqueda").or_(dialog.locator("input[value=search]")).first.check()
    staff.look("18-new-token")
    dialog.locator("[data-sa-action=action-submit]").click()
    expect(staff.page.get_by_label("Secreto")).to_have_value(re.compile("^sbx_"))
    staff.look("19-token-made")
    # The filters and columns run without inline handlers too.
    staff.page.goto(f"{staff.site.admin}tariff/list")
    staff.page.get_by_label("Filas por página").select_option(label="10")
    expect(staff.page.locator("tbody tr")).to_have_count(10)
    staff.page.get_by_role("button", name="Columnas").click()
    staff.page.get_by_role("checkbox", name="ISC").check()
    staff.page.get_by_role("button", name="Aplicar", exact=True).click()
    expect(staff.page.locator("th[data-column=isc]")).to_be_visible()
    staff.page.get_by_role("button", name="Filtros").click()
    staff.page.get_by_role("button", name="Agregar filtro").click()
    staff.look("20-filters")
