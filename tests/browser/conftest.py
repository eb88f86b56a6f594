"""A real Chromium in front of the real processes. Every page is watched for what no page may do."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.site import PASSWORD, Site, running_site
from tests.settings import absent, machine

_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--disable-default-apps", "--disable-dev-shm-usage"),
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright."""
    program = shutil.which("chromium")
    if program is None:
        absent("Chromium", "install the package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Site]:
    """The running product, one for all tests of this folder."""
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests leave what they saw."""
    folder = machine().screenshots or tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@dataclass
class Visitor:
    """A browser window, and what its pages did wrong."""

    page: Page
    site: Site
    folder: Path
    faults: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Notes console errors (a violated policy is one), uncaught errors, and requests to other hosts."""
        hosts = {urlsplit(self.site.public).netloc, urlsplit(self.site.admin).netloc}

        def request(made: Any) -> None:
            parts = urlsplit(made.url)
            if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc not in hosts:
                self.faults.append(f"request to another host: {made.url}")

        def console(message: Any) -> None:
            if message.type == "error":
                self.faults.append(f"console: {message.text} ({message.location.get('url')})")

        self.page.on("request", request)
        self.page.on("console", console)
        self.page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))

    def look(self, name: str) -> None:
        """Keeps a picture, and checks that nothing is wider than the window."""
        self.page.screenshot(path=str(self.folder / f"{name}.png"), full_page=True)
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} px wider than the window"

    def sign_in(self, role: str) -> None:
        """Signs in as the user of that role."""
        self.page.goto(self.site.admin)
        self.page.fill("#username", role)
        self.page.fill("#password", PASSWORD)
        self.page.click("main button[type=submit]")
        self.page.wait_for_url(self.site.admin)


@pytest.fixture
def open_window(chromium: Browser, site: Site, screenshots: Path) -> Iterator[Callable[..., Visitor]]:
    """Opens a window (options as Playwright's ``new_context``); at the end no page may have done anything wrong."""
    opened: list[tuple[BrowserContext, Visitor]] = []

    def open_one(**options: Any) -> Visitor:
        context = chromium.new_context(**{"locale": "es-HN", "viewport": {"width": 1280, "height": 800}, **options})
        visitor = Visitor(context.new_page(), site, screenshots)
        visitor.watch()
        opened.append((context, visitor))
        return visitor

    yield open_one
    faults = [fault for _, visitor in opened for fault in visitor.faults]
    for context, _ in opened:
        with contextlib.suppress(Exception):
            context.close()
    assert faults == []
