"""What operators see and do when something is wrong: a full Redis, and tasks that failed for good."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect
from sqlalchemy import update

from sicargabox_core.db import db_now
from sicargabox_core.tasks import store
from sicargabox_core.tasks.contracts import NO_OP, NoOp
from sicargabox_core.tasks.models import TaskRow
from tests.browser.conftest import Visitor

OpenWindow = Callable[..., Visitor]


def fail_some(visitor: Visitor, count: int) -> list[str]:
    database = visitor.site.database()
    with database.write() as session:
        # Not before tomorrow, so that no worker takes one before it is made to have failed.
        ids = [
            store.submit(
                session, NO_OP, NoOp(note=f"n{number}"), initiated_by="user:ana", run_at=database.now()
            ).task.id
            for number in range(count)
        ]
        session.execute(
            update(TaskRow)
            .where(TaskRow.id.in_(ids))
            .values(
                state="FAILURE",
                finished_at=db_now(),
                error_code="unavailable",
                error_message="a server that is needed does not answer",
            )
        )
    database.dispose()
    return ids


def test_failed_tasks_are_repeated_together_after_saying_how_many(open_window: OpenWindow) -> None:
    staff = open_window()
    fail_some(staff, 3)
    staff.sign_in("operator")
    link = staff.page.get_by_role("link", name="3 fallaron y no se han repetido")
    expect(link).to_be_visible(timeout=15_000)
    staff.look("20-panel-dead-letters")
    link.click()
    expect(staff.page.get_by_role("heading", level=1)).to_have_text("Tareas fallidas")
    staff.look("21-dead-letters")
    for box in staff.page.locator("tbody input[type=checkbox]").all():
        box.check()
    staff.page.get_by_role("button", name=re.compile("Con lo seleccionado")).click()
    staff.page.locator('[data-sa-hook="actions-dropdown"]').get_by_text("Repetir").click()
    dialog = staff.page.get_by_role("dialog")
    expect(dialog).to_contain_text("(3)")
    staff.look("22-dead-letters-confirm")
    dialog.get_by_role("button", name="Repetir").click()
    expect(staff.page.locator("#alertContainer")).to_contain_text("3 iniciadas de nuevo", timeout=15_000)
    staff.look("23-dead-letters-repeated")


def test_a_full_redis_is_said_with_what_to_do_in_light_and_dark_and_on_a_phone(open_window: OpenWindow) -> None:
    staff = open_window()
    staff.sign_in("viewer")
    staff.page.goto(f"{staff.site.admin}redis")
    expect(staff.page.get_by_role("heading", level=1)).to_have_text("Redis")
    expect(staff.page.locator("#redis-report")).to_contain_text("Funciona")
    expect(staff.page.locator("#redis-report")).not_to_contain_text("<built-in")
    staff.look("24-redis")
    # By the keyboard alone: past the menu, to the content.
    staff.page.keyboard.press("Tab")
    expect(staff.page.locator(".sb-skip")).to_be_focused()
    with staff.site.redis.client() as client:
        before = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", "1mb")
        try:
            staff.page.reload()
            expect(staff.page.locator("#redis-report")).to_contain_text("La memoria está llena")
            expect(staff.page.locator("#redis-report")).to_contain_text("No se pierde ninguna tarea")
            staff.look("25-redis-full")
            phone = open_window(viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True)
            phone.sign_in("viewer")
            phone.page.goto(f"{phone.site.admin}redis")
            expect(phone.page.locator("#redis-report")).to_contain_text("La memoria está llena")
            phone.look("26-redis-full-phone-dark")
            phone.page.goto(phone.site.admin)
            expect(phone.page.locator("#panel-redis")).to_contain_text("La memoria está llena", timeout=20_000)
            phone.look("27-panel-full-phone-dark")
            staff.page.context.add_cookies([{"name": "language", "value": "en", "url": staff.site.admin}])
            staff.page.reload()
            expect(staff.page.locator("#redis-report")).to_contain_text("Memory is full")
            staff.look("28-redis-full-english")
        finally:
            client.config_set("maxmemory", before)
    # The page asks again by itself.
    expect(staff.page.locator("#redis-report")).to_contain_text("It works", timeout=30_000)
