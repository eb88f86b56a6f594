"""The dev profile, installed as its README says: ready, found, signed in to, tested; no password where none may be."""

from __future__ import annotations

import base64
import http.client
import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Visitor, chromium  # noqa: F401  # the fixture
from tests.browser.site import Site
from tests.kubernetes.cluster import Cluster, restarts
from tests.kubernetes.figures import Figures
from tests.kubernetes.idle import memory
from tests.kubernetes.installation import Installation, succeeded
from tests.kubernetes.ledger import Ledger
from tests.kubernetes.load import QUEUES
from tests.servers.ports import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

PROFILE = "dev profile"
# The images are in the cluster.
READY_SECONDS = 240
# A worker's turn comes late on a busy machine.
PATIENCE = 90_000


@dataclass(frozen=True)
class Dev:
    """The installation; ``began``: when, of this machine's clock since 1970; ``took``: seconds until all was ready."""

    installation: Installation
    ledger: Ledger
    began: float
    took: float


@pytest.fixture(scope="module")
def dev(cluster: Cluster) -> Iterator[Dev]:
    """The profile without any other value than the images' tag."""
    with cluster.namespace("dev") as namespace:
        installation = Installation(cluster, namespace, "dev")
        began = time.time()
        took = installation.install()
        yield Dev(installation, Ledger(installation), began, took)
        installation.close()


@pytest.mark.short
def test_everything_is_ready_within_four_minutes(dev: Dev, figures: Figures) -> None:
    figures.note("install", f"{PROFILE}: `helm install` until all is ready", "seconds", dev.took)
    assert dev.took <= READY_SECONDS


@pytest.mark.short
def test_the_first_search_is_answered_by_the_built_index(dev: Dev, figures: Figures) -> None:
    address = f"{dev.installation.public}/api/v1/search?q=camiseta"

    def found() -> bool:
        told = httpx.get(address, timeout=10).json()
        return bool(told["results"]) and not told["degraded"]

    wait_until(found, seconds=120, what="a search is answered by the index", interval=0.5)
    row = f"{PROFILE}: `helm install` until a search is answered by the built index"
    figures.note("install", row, "seconds", time.time() - dev.began)


def test_a_pod_that_has_nothing_to_do_holds_no_more_than_it_asks_for(dev: Dev, figures: Figures) -> None:
    memory(dev.installation, figures, PROFILE)


def test_the_notes_give_passwords_that_open_the_pages(dev: Dev) -> None:
    notes = dev.installation.notes
    assert said(dev, notes, "administrator") == dev.installation.secret("administrator", "password")
    user, _, password = said(dev, notes, "flower").partition(":")
    with dev.installation.forward("flower") as flower:
        assert answer_of(flower.url) == 401
        assert answer_of(flower.url, user, f"{password}!") == 401
        assert answer_of(flower.url, user, password) == 200


def said(dev: Dev, notes: str, secret: str) -> str:
    """What a command of the notes prints, run as it stands there."""
    (line,) = [line.strip() for line in notes.splitlines() if f" get secret {dev.installation.name(secret)} " in line]
    program, *arguments = shlex.split(line)
    assert program == "kubectl"
    return dev.installation.cluster.kubectl(*arguments)


def answer_of(url: str, user: str = "", password: str = "") -> int:
    """The status of a page, asked with or without a user."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    word = base64.b64encode(f"{user}:{password}".encode()).decode()
    connection.request("GET", "/workers", headers={"Authorization": f"Basic {word}"} if user else {})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.short
def test_helm_test_proves_a_task_on_each_queue(dev: Dev, figures: Figures) -> None:
    before = dev.ledger.stories()
    began = time.monotonic()
    told = dev.installation.test()
    figures.note("install", f"{PROFILE}: `helm test`", "seconds", time.monotonic() - began)
    assert succeeded(told) >= len(QUEUES) + 2
    done = {one.queue for name, one in dev.ledger.stories().items() if name not in before and one.finished == 1}
    assert done == set(QUEUES)


def test_the_database_itself_tells_of_a_second_end_and_of_a_task_it_never_had(dev: Dev) -> None:
    before = dev.ledger.stories().keys()
    dev.installation.sicargabox("tasks", "start", "housekeeping.no_op", "--wait")
    (task,) = [one.task for name, one in dev.ledger.stories().items() if name not in before and one.queue == "celery"]
    good = dev.ledger.verdict([task])
    assert (good.lost, good.finished_twice, good.begun_again) == ((), (), 0)
    # As a worker would that was not fenced.
    dev.installation.psql(f"UPDATE tasks SET state = 'SUCCESS', attempt = attempt + 1 WHERE id = '{task}'")
    bad = dev.ledger.verdict([task, "told by nobody"])
    assert bad.lost == ("told by nobody: not in SQL",)
    assert bad.finished_twice == (f"{task}: PENDING STARTED SUCCESS SUCCESS",)
    assert bad.begun_again == 1


def test_staff_sign_in_and_rebuild_through_port_forwards_and_a_visitor_finds(
    dev: Dev,
    chromium: Browser,  # noqa: F811  # the fixture
    tmp_path: Path,
) -> None:
    password = said(dev, dev.installation.notes, "administrator")
    with dev.installation.forward("api") as api, dev.installation.forward("admin") as admin:
        site = cast("Site", _Addresses(api.url, f"{admin.url}/admin/"))
        context = chromium.new_context(locale="es-HN", viewport={"width": 1280, "height": 800})
        try:
            visitor = Visitor(context.new_page(), site, tmp_path)
            visitor.watch()
            staff = visitor.page
            staff.set_default_timeout(PATIENCE)
            sign_in(staff, site.admin, password)
            button = staff.get_by_role("button", name="Reconstruir índice")
            expect(button).to_be_enabled(timeout=PATIENCE)
            button.click()
            item = staff.locator("#panel-tasks li").filter(has_text="Reconstruir índice").first
            expect(item.locator(".badge")).to_have_text("Terminada", timeout=PATIENCE)
            staff.goto(f"{site.public}/?q=aud%C3%ADfonos+bluetooth")
            expect(staff.locator(".hit").first).to_contain_text("8518.30", timeout=PATIENCE)
            assert visitor.faults == []
        finally:
            context.close()


@dataclass(frozen=True)
class _Addresses:
    """What a visitor must know of a site."""

    public: str
    admin: str


def sign_in(page: Page, admin: str, password: str) -> None:
    """As the administrator whom the notes name."""
    page.goto(admin)
    page.fill("#username", "admin")
    page.fill("#password", password)
    page.click("main button[type=submit]")
    page.wait_for_url(admin)


@pytest.mark.short
def test_no_password_is_in_a_config_map_an_argument_an_event_or_a_log(dev: Dev, cluster: Cluster) -> None:
    namespace = dev.installation.namespace
    secrets = [one for one in cluster.objects(namespace, "secrets") if one["type"] == "Opaque"]
    passwords = {
        f"{one['metadata']['name']}/{key}": base64.b64decode(value).decode().rpartition(":")[2]
        for one in secrets
        for key, value in one["data"].items()
    }
    assert len(passwords) >= 10
    places = {
        kind: json.dumps(cluster.object(kind, "--namespace", namespace))
        for kind in ("configmaps", "pods", "deployments", "statefulsets", "jobs", "events", "services")
    }
    for pod in dev.installation.pods():
        name = pod["metadata"]["name"]
        logs = ("logs", name, "--namespace", namespace, "--all-containers", "--tail=-1")
        places[f"log of {name}"] = cluster.kubectl(*logs)
    places["Helm's notes"] = dev.installation.notes
    shown = [
        f"{name} in {place}"
        for name, password in passwords.items()
        for place, text in places.items()
        if password in text or base64.b64encode(password.encode()).decode() in text
    ]
    assert shown == []


@pytest.mark.short
def test_no_pod_began_anew(dev: Dev) -> None:
    assert {pod["metadata"]["name"]: restarts(pod) for pod in dev.installation.pods() if restarts(pod)} == {}
