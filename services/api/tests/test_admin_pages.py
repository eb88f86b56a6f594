"""What every staff page keeps to: words, errors, policy, and nothing of SQL or of a trace."""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from jinja2.ext import babel_extract
from services.api.tests.staff import StaffSite, csrf_of, serving_staff
from sqlalchemy import select

import sicargabox_api.admin
import sicargabox_api.public
import sicargabox_api.translations
from sicargabox_api.admin.fields import actor_words
from sicargabox_api.admin.safe_view import SafeModelView
from sicargabox_api.admin.views.accounts import ACTION_WORDS
from sicargabox_api.authentication import SESSION_COOKIE
from sicargabox_core.accounts import users
from sicargabox_core.accounts.models import AuditEntry, Role
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.contracts import REBUILD_INDEX, RebuildIndex

ADMIN = Path(sicargabox_api.admin.__file__).parent
PUBLIC = Path(sicargabox_api.public.__file__).parent
CATALOGUES = Path(sicargabox_api.translations.__file__).parent / "es"
PAGES = ["", *(f"{key}/list" for key in ("tasks", "keywords", "tariff", "searches", "selections", "users", "tokens"))]
PAGES += [
    "dead-letters/list",
    "index",
    "redis",
    "audit/list",
    "users/create",
    "keywords/create",
    "tariff/detail?pk=8518300000",
    "nothing",
    "users/detail?pk=x",
]
SECRET = "una-clave-larga"


@pytest.fixture
def site(settings: Settings) -> Iterator[StaffSite]:
    with serving_staff(settings) as running:
        yield running


@pytest.fixture
def chief(site: StaffSite) -> httpx.Client:
    return site.signed_in(Role.ADMIN, "jefa")


# --- every page -------------------------------------------------------------------------------------------------------
def test_every_page_has_one_heading_a_way_past_the_menu_and_a_strict_policy(chief: httpx.Client) -> None:
    for page in [*PAGES, "login"]:
        answer = chief.get(f"/admin/{page}") if page != "login" else httpx.get(f"{chief.base_url}/admin/login")
        text = answer.text
        assert len(re.findall(r"<h1[\s>]", text)) == 1, page
        assert '<main id="content"' in text, page
        assert 'href="#content"' in text, page
        assert '<html lang="es"' in text, page
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert "unsafe-inline" not in policy["script-src"], page
        assert policy["default-src"] == "'none'", page
        nonce = re.search(r"'nonce-([^']+)'", policy["script-src"])
        assert nonce is not None
        for tag in re.findall(r"<(?:script|style)\b[^>]*>", text):
            assert f'nonce="{nonce.group(1)}"' in tag, (page, tag)
        assert not re.findall(r"\son(?:click|change|load|submit)=", text), page
        assert "apexcharts" not in text, page
        assert not re.findall(r'(?:src|href)="https?://(?!127\.0\.0\.1)', text), page
        assert answer.headers["cache-control"] == "no-store", page
        assert answer.headers["x-frame-options"] == "DENY", page


def test_pages_are_squeezed_and_versioned_files_are_kept_for_a_year(chief: httpx.Client) -> None:
    answer = chief.get("/admin/tasks/list", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    static = re.search(r'href="([^"]+staff\.css\?v=\w+)"', answer.text)
    assert static is not None
    assert "immutable" in chief.get(static.group(1)).headers["cache-control"]


def test_a_page_follows_the_chosen_language_and_colours(chief: httpx.Client) -> None:
    chief.cookies.set("language", "en")
    chief.cookies.set("theme", "dark")
    text = chief.get("/admin/").text
    assert '<html lang="en"' in text
    assert 'data-bs-theme="dark"' in text
    assert "Rebuild index" in text
    assert "Reconstruir" not in text


# --- words ------------------------------------------------------------------------------------------------------------
def _ids(path: Path) -> set[str]:
    with path.open("rb") as text:
        return {_id(message.id) for message in read_po(text) if message.id and message.string}


def _id(message: object) -> str:
    # Of a plural the compiled file and the text give a list and a tuple.
    return str(tuple(message)) if isinstance(message, list | tuple) else str(message)


def test_every_message_of_the_library_is_said_in_spanish() -> None:
    import starlette_admin

    shipped = Path(starlette_admin.__file__).parent / "translations" / "fr" / "LC_MESSAGES" / "admin.mo"
    with shipped.open("rb") as compiled:
        needed = {_id(message.id) for message in read_mo(compiled) if message.id}
    assert len(needed) == 208
    assert needed <= _ids(CATALOGUES / "starlette_admin.po")


@pytest.mark.parametrize(("folder", "names"), [(ADMIN, ("starlette_admin", "admin")), (PUBLIC, ("public",))])
def test_every_text_of_ours_is_said_in_spanish(folder: Path, names: tuple[str, ...]) -> None:
    said = set().union(*(_ids(CATALOGUES / f"{name}.po") for name in names))
    used: set[str] = set()
    for template in folder.rglob("*.html"):
        with template.open("rb") as text:
            for _line, function, message, _comments in babel_extract(text, ["_", "gettext", "ngettext"], [], {}):
                found = message if isinstance(message, tuple) else (message,)
                strings = tuple(part for part in found if isinstance(part, str))
                used.add(str(strings) if function == "ngettext" else strings[0])
    for module in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("_", "gettext") and node.args:
                argument = node.args[0]
                if isinstance(argument, ast.Constant):
                    used.add(str(argument.value))
    assert len(used) > 30
    assert used <= said


def _shown(page: str) -> set[str]:
    """The texts of a page as people see or hear them: between tags, and in the attributes that are read out."""
    body = re.sub(r"(?s)<(script|style)\b.*?</\1>", "", page)
    texts = re.findall(r">([^<>]+)<", body) + re.findall(r'(?:aria-label|title|placeholder|alt)="([^"]*)"', body)
    return {" ".join(html.unescape(text).split()) for text in texts}


@pytest.mark.parametrize("language", ["es", "en"])
def test_a_page_speaks_one_language(site: StaffSite, chief: httpx.Client, language: str) -> None:
    pairs: set[tuple[str, str]] = set()
    for name in ("starlette_admin", "admin"):
        with (CATALOGUES / f"{name}.po").open("rb") as text:
            pairs |= {(str(one.id), str(one.string)) for one in read_po(text) if one.id and isinstance(one.id, str)}
    same = {english for english, spanish in pairs if english == spanish}
    foreign = {english if language == "es" else spanish for english, spanish in pairs} - same
    # Words of the one that are words of the other too, and the names of the languages.
    foreign -= {"error", "Error", "Panel", "Admin", "Courier", "English", "Español"}
    site.services.tasks.submit(REBUILD_INDEX, RebuildIndex(), initiated_by="user:jefa")
    chief.cookies.set("language", language)
    for page in PAGES:
        said = _shown(chief.get(f"/admin/{page}").text)
        assert sorted(said & foreign) == [], page
        assert not said & {"-null-", "close", "Open user menu", "Toggle navigation"}, page


def test_a_page_that_is_too_old_is_refused_in_the_language_of_the_page(site: StaffSite) -> None:
    answer = site.browser().post("/admin/login", data={"username": "ana", "password": "x"})
    assert answer.status_code == 403
    assert "Vuelva a cargarla" in answer.text
    assert "CSRF token missing" not in answer.text


# --- bad input --------------------------------------------------------------------------------------------------------
def test_a_key_that_is_none_is_not_found(chief: httpx.Client) -> None:
    for key in ("users", "tokens", "audit", "keywords", "searches", "tasks", "tariff", "selections"):
        for pk in ("abc", "", "99999999999999999999", "-1", "1.5", "%00", "☃", "1;DROP", "1 OR 1=1"):
            answer = chief.get(f"/admin/{key}/detail", params={"pk": pk})
            assert answer.status_code == 404, (key, pk)
    assert chief.get("/admin/nothing/list").status_code == 404


def test_a_page_far_beyond_the_last_is_empty_and_no_error(chief: httpx.Client) -> None:
    for page in ("99999999999999999999", "-5", "x"):
        assert chief.get("/admin/tasks/list", params={"page": page}).status_code == 200


def test_an_address_that_cannot_be_leads_to_the_whole_list_and_says_so(chief: httpx.Client) -> None:
    for key, query, told in (
        ("searches", {"filter": "total__eq=99999999999999999999999"}, "total__eq=9999"),
        ("tasks", {"filter": "nonsense__eq=1", "page": "3"}, "nonsense__eq=1"),
        ("tasks", {"filter": "created_at__between=x,y"}, "created_at__between=x,y"),
        ("tasks", {"page_size": "7"}, "page_size=7"),
    ):
        answer = chief.get(f"/admin/{key}/list", params=query)
        # A redirect: what is done to "all that match" goes by the address, which must not hold the refused filter.
        assert answer.status_code == 303, (key, query)
        assert answer.headers["location"].endswith(f"/admin/{key}/list")
        shown = chief.get(answer.headers["location"])
        assert shown.status_code == 200
        assert "Filtro no válido" in shown.text, (key, query)
        assert told in shown.text, (key, query)
    script = {"filter": "<script>alert(1)</script>__eq=1"}
    assert "<script>alert" not in chief.get("/admin/tasks/list", params=script, follow_redirects=True).text
    assert chief.get("/admin/keywords/list", params={"q": "\x00%_'"}).status_code in (200, 303)
    assert chief.post("/admin/_api/keywords/action").status_code == 400
    refused = {"name": "approve", "all": "1", "_list_query": "filter=nonsense__eq=1"}
    assert chief.post("/admin/_api/keywords/action", params=refused).status_code == 400


def test_a_long_list_says_more_than_so_many_and_goes_on(
    chief: httpx.Client, site: StaffSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site.database.write() as session:
        for number in range(20):
            session.add(AuditEntry(actor="user:jefa", action="user.role", object_type="user", object_id=f"p{number}"))
    monkeypatch.setattr(SafeModelView, "counted_rows", 15)
    first = chief.get("/admin/audit/list", params={"page_size": "10"}).text
    assert "Del 1 al 10 de más de 15" in " ".join(first.split())
    assert "page=2" in first
    assert "Última" not in first
    assert "data-sb-uncounted" in first
    assert "data-sb-uncounted" not in chief.get("/admin/audit/list", params={"page_size": "10", "q": "p1"}).text
    exported = chief.post(
        "/admin/_api/audit/action",
        params={"name": "export", "all": "1"},
        data={"format": "csv", "fields": ["object_id"], "scope": "all"},
    )
    assert len(exported.text.split()) > 20


def test_codes_have_their_dots_and_their_lines_words_and_place(chief: httpx.Client) -> None:
    keywords = " ".join(chief.get("/admin/keywords/list").text.split())
    assert ">8518.30.00.00</a>" in keywords
    assert "Audífonos, también con micrófono" in keywords
    lines = chief.get("/admin/tariff/list", params={"q": "8518.90"}).text
    assert ">8518.90.00.00</a>" in lines
    above = re.search(r'class="sb-above">([^<]+)<', lines)
    assert above is not None
    assert "Micrófonos" in above.group(1)
    for typed in ("8518.30", "85183"):
        found = chief.get("/admin/keywords/list", params={"filter": f"line_code__startswith={typed}"}).text
        assert ">8518.30.00.00</a>" in found, typed
    assert chief.get("/admin/tariff/detail?pk=8518900000").text.count("sb-above") > 0
    chief.cookies.set("language", "en")
    assert "Headphones, also with a microphone" in chief.get("/admin/keywords/list").text


def test_people_are_named_and_looked_for_by_their_name_alone(site: StaffSite, chief: httpx.Client) -> None:
    site.services.tasks.submit(REBUILD_INDEX, RebuildIndex(), initiated_by="user:jefa")
    for query in ({}, {"q": "jefa"}, {"filter": "initiated_by__eq=jefa"}):
        text = chief.get("/admin/tasks/list", params=query).text
        assert "Reconstruir" in text, query
        assert "user:jefa" not in re.sub(r"(?s)<(script|style).*?</\1>", "", text), query
    assert actor_words("token:escaner") == "program escaner"
    assert actor_words("x:y") == "x:y"
    assert actor_words("task:ai.generate_keywords") == "task Generate keywords"


def test_moments_are_exact_in_the_offices_zone_and_relative(site: StaffSite, chief: httpx.Client) -> None:
    chief.cookies.set("timezone", "Asia/Tokyo")
    site.services.tasks.submit(REBUILD_INDEX, RebuildIndex(), initiated_by="user:jefa")
    told = re.search(
        r'<time datetime="([^"]+)">([^<]+)</time> <span class="sb-ago">([^<]+)<', chief.get("/admin/tasks/list").text
    )
    assert told is not None
    office = datetime.fromisoformat(told.group(1)).astimezone(ZoneInfo("America/Tegucigalpa"))
    assert told.group(2) == office.strftime("%d/%m/%Y %H:%M:%S")
    assert told.group(3).startswith("hace ")


def test_a_form_offers_no_way_to_a_form_that_nobody_has(chief: httpx.Client) -> None:
    for page in ("users/create", "keywords/create"):
        assert "_continue_editing" not in chief.get(f"/admin/{page}").text, page


def test_the_trail_is_told_in_words(site: StaffSite, chief: httpx.Client) -> None:
    with site.database.write() as session:
        users.create_user(session, "ana", SECRET, Role.REVIEWER, by="cli:root")
        users.set_role(session, "ana", Role.VIEWER, by="user:jefa")
    text = html.unescape(chief.get("/admin/audit/list").text)
    for words in ("Creó un usuario", "Cambió un rol", "Rol: Revisor → Visor", "terminal root"):
        assert words in text, words
    with site.database.read() as session:
        assert {entry.action for entry in session.scalars(select(AuditEntry))} <= dict(ACTION_WORDS).keys()


def test_lists_filter_by_what_the_people_need(chief: httpx.Client) -> None:
    def codes(**query: str) -> list[str]:
        text = chief.get("/admin/tariff/list", params=query).text
        return re.findall(r'data-sa-pk="(\d+)"', text)

    assert codes(filter="code__chapter=93") == ["93", "9304", "9304000000"]
    assert codes(filter="level__eq=CHAPTER") == ["85", "93"]
    assert codes(q="8518.30") == ["8518300000"]
    assert codes(q="bastones") == ["9304000000"]
    assert codes(filter="retired_at__is_not_null") == []
    assert "-null-" not in chief.get("/admin/tariff/list").text


def test_what_goes_wrong_inside_is_never_shown(site: StaffSite, chief: httpx.Client) -> None:
    with site.database.write() as session:
        from sqlalchemy import text

        session.execute(text("DROP TABLE audit"))
    broken = chief.get("/admin/audit/list")
    assert broken.status_code == 500
    refused = chief.post("/admin/_api/keywords/action", params={"name": "approve", "pks": "3"})
    assert refused.status_code == 400
    for answer in (broken, refused):
        assert "Id de la solicitud" in answer.text
        assert answer.headers["x-request-id"] in answer.text
        for secret in ("SELECT", "INSERT", "sqlite", "sqlalchemy", "Traceback", "no such table", ".py"):
            assert secret not in answer.text, secret


# --- signing in -------------------------------------------------------------------------------------------------------
def _attempt(client: httpx.Client, name: str, password: str, **query: str) -> httpx.Response:
    token = csrf_of(client.get("/admin/login", params=query).text)
    form = {"username": name, "password": password, "csrftoken": token}
    return client.post("/admin/login", params=query, data=form)


def test_sign_in_says_the_same_of_a_wrong_name_and_a_wrong_password_and_stops_guessing(site: StaffSite) -> None:
    with site.database.write() as session:
        users.create_user(session, "ana", SECRET, Role.VIEWER, by="test")
    client = site.browser()
    wrong = [_attempt(client, "ana", "no-es-esta"), _attempt(client, "nadie", SECRET)]
    said = {re.search(r'id="sign-in-error"[^>]*>([^<]+)', answer.text) for answer in wrong}
    assert {match.group(1) for match in said if match} == {"Usuario o contraseña incorrectos."}
    assert {answer.status_code for answer in wrong} == {400}
    for _ in range(users.LIMIT_PER_NAME - 1):
        _attempt(client, "ana", "no-es-esta")
    stopped = _attempt(client, "ana", SECRET)
    assert stopped.status_code == 429
    assert int(stopped.headers["retry-after"]) > 0
    assert "Demasiados intentos" in stopped.text


def test_a_session_is_a_row_that_signing_out_ends(site: StaffSite) -> None:
    with site.database.write() as session:
        users.create_user(session, "ana", SECRET, Role.VIEWER, by="test")
    client = site.browser()
    entered = _attempt(client, "ANA", SECRET, next="https://evil.example/")
    assert entered.status_code == 303
    assert entered.headers["location"].startswith(site.url)
    cookie = next(line for line in entered.headers.get_list("set-cookie") if SESSION_COOKIE in line)
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert "Path=/" in cookie
    token = client.cookies[SESSION_COOKIE]
    page = client.get("/admin/")
    assert page.status_code == 200
    assert client.post("/admin/logout", data={"csrftoken": csrf_of(page.text)}).status_code == 303
    copied = site.browser()
    copied.cookies.set(SESSION_COOKIE, token)
    assert copied.get("/admin/").status_code == 303


# --- how it is made ---------------------------------------------------------------------------------------------------
def test_no_view_writes_through_the_sessions_of_requests() -> None:
    writes = re.compile(r"state\.session\.(?:add|delete|flush|commit|execute|merge)")
    for module in ADMIN.rglob("*.py"):
        assert not writes.search(module.read_text()), module
