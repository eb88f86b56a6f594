"""The search index in a browser: seen through a rebuild and an audit, deleted by its typed name alone."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from sicargabox_core.catalogue.models import Keyword, KeywordState
from tests.browser.conftest import Visitor

OpenWindow = Callable[..., Visitor]
PHONE = "8517130000"
# A worker's turn comes late on a busy machine.
PATIENCE = 60_000


def start(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).first.click()
    expect(page.locator("#alertContainer")).to_contain_text("iniciada")


def see_through(page: Page, button: str) -> None:
    """Starts a task with its button and waits until the page, by itself, no longer says that it runs."""
    start(page, button)
    expect(page.locator("#index-running")).to_have_count(0, timeout=PATIENCE)


def add_a_keyword_behind_the_index(visitor: Visitor) -> None:
    database = visitor.site.database()
    with database.write() as session:
        session.add(
            Keyword(
                line_code=PHONE,
                language="es",
                text="chunche parlante",
                normalized="chunche parlante",
                source="staff",
                state=KeywordState.APPROVED,
                created_by="test",
            )
        )
    database.dispose()


def test_an_index_is_rebuilt_audited_and_deleted_by_its_typed_name(open_window: OpenWindow) -> None:
    staff = open_window()
    staff.sign_in("admin")
    page, report = staff.page, staff.page.locator("#index-report")
    page.get_by_role("link", name="Índice", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Índice")

    see_through(page, "Reconstruir índice")
    expect(report).to_contain_text("El índice responde las búsquedas")
    expect(report).to_contain_text("contados en el índice antes de ponerlo en servicio")
    see_through(page, "Auditar el índice")
    expect(report).to_contain_text("Coinciden")
    staff.look("30-index")

    add_a_keyword_behind_the_index(staff)
    see_through(page, "Auditar el índice")
    expect(report).to_contain_text("Desactualizadas: 1")
    expect(report.get_by_role("link", name="8517.13.00.00")).to_be_visible()
    staff.look("31-index-differs")
    see_through(page, "Reconstruir índice")
    expect(report).to_contain_text("De un índice anterior")

    # Another name: refused by the browser, and by the server where the browser is not asked.
    serving = page.locator("#typed-name").inner_text()
    field = page.get_by_label("Para seguir, escriba el nombre de la generación en servicio:")
    delete = report.get_by_role("button", name="Borrar índice")
    field.fill("otro nombre")
    delete.click()
    expect(page.locator("#typed:invalid")).to_have_count(1)
    staff.look("32-index-wrong-name")
    field.evaluate("input => input.form.noValidate = true")
    delete.click()
    expect(page.locator("#alertContainer")).to_contain_text("No se borró nada")
    expect(report).to_contain_text("El índice responde las búsquedas")

    phone = open_window(viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)
    phone.sign_in("viewer")
    phone.page.goto(f"{phone.site.admin}index")
    expect(phone.page.locator("#index-report")).to_contain_text("El índice responde las búsquedas")
    expect(phone.page.get_by_role("button", name="Reconstruir índice")).to_have_count(0)
    expect(phone.page.locator("#index-delete")).to_have_count(0)
    phone.look("33-index-phone-dark")

    # By the keyboard alone.
    field.focus()
    page.keyboard.type(serving)
    page.keyboard.press("Enter")
    expect(page.locator("#alertContainer")).to_contain_text("iniciada")
    expect(report).to_contain_text("No hay un índice que pueda responder", timeout=PATIENCE)
    expect(page.locator("#index-running")).to_have_count(0, timeout=PATIENCE)
    expect(page.locator("#index-delete")).to_have_count(0)
    staff.look("34-index-deleted")
    # What is open elsewhere sees it by itself.
    expect(phone.page.locator("#index-report")).to_contain_text("No hay un índice", timeout=30_000)
    phone.look("35-index-deleted-phone-dark")

    visitor = open_window()
    visitor.page.goto(f"{visitor.site.public}/?q=telefono")
    expect(visitor.page.get_by_role("main")).to_contain_text("8517")

    see_through(page, "Reconstruir índice")
    expect(report).to_contain_text("El índice responde las búsquedas")
    page.context.add_cookies([{"name": "language", "value": "en", "url": staff.site.admin}])
    page.reload()
    expect(report).to_contain_text("Searches are answered by the index.")
    staff.look("36-index-english")
    page.goto(f"{staff.site.admin}audit/list")
    expect(page.get_by_role("main")).to_contain_text("Deleted the search index")
