"""What a visitor without JavaScript, account or patience meets."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Iterator

import httpx
import pytest
from services.api.tests.running import Api, serving
from sqlalchemy import select, text

from sicargabox_api.public.pages import marked, percent
from sicargabox_api.routes.search import Highlight
from sicargabox_core.catalogue.models import Selection
from sicargabox_core.settings import Settings

PAGES = (
    "/",
    "/?q=audífonos",
    "/?q=aparatos",
    "/?q=zzzzqqq",
    "/partida/8518",
    "/partida/8518300000?q=x",
    "/capitulos",
    "/partida/0101",
)


@pytest.fixture
def person(api: Api) -> Iterator[httpx.Client]:
    """Somebody on our own pages, as browsers say."""
    with api.visitor(headers={"Origin": api.url}) as client:
        yield client


def shown(answer: httpx.Response) -> str:
    """The words of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def test_everyday_words_lead_to_a_line_with_its_place_duties_category_and_reason(visitor: httpx.Client) -> None:
    answer = visitor.get("/", params={"q": "audifonos"})
    assert answer.status_code == 200
    words = shown(answer)
    for said in (
        "8518.30.00.00",
        "85 Aparatos eléctricos",
        "DAI 15 %",
        "ISV 15 %",
        "Puede venir por courier",
        "Por qué:",
    ):
        assert said in words, said
    assert "<mark>Audífonos</mark>" in answer.text
    assert "resultado" in words
    banned = shown(visitor.get("/", params={"q": "porras"}))
    assert "✕ Prohibido" in banned
    assert "Está prohibido" in banned


def test_every_page_is_accessible_and_asks_nobody_else_for_anything(visitor: httpx.Client) -> None:
    for page in PAGES:
        answer = visitor.get(page)
        assert len(re.findall(r"<h1[\s>]", answer.text)) == 1, page
        assert '<html lang="es"' in answer.text, page
        assert 'href="#content"' in answer.text, page
        assert '<main id="content"' in answer.text, page
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy, page
        assert "script-src 'self'" in policy, page
        assert not re.findall(r"\s(?:style|on\w+)=", answer.text), page
        assert not re.findall(r"<script(?![^>]*\ssrc=)", answer.text), page
        assert not re.findall(r'(?:src|href|action)="(?:https?:)?//', answer.text), page
        for field in re.findall(r"<input(?![^>]*hidden)[^>]*id=\"(\w+)\"", answer.text):
            assert f'<label for="{field}"' in answer.text, page
        assert len(answer.content) < 30_000, page


def test_files_are_kept_for_a_year_under_an_address_that_changes_with_them(visitor: httpx.Client) -> None:
    page = visitor.get("/").text
    for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        answer = visitor.get(html.unescape(address))
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"].startswith(("text/css", "text/javascript"))
    assert visitor.get("/static/../routes.py").status_code == 404
    assert visitor.get("/static/nothing.js").status_code == 404


def test_what_is_typed_is_shown_as_text_and_kept_in_the_box(visitor: httpx.Client) -> None:
    evil = '"><script>alert(1)</script>'
    answer = visitor.get("/", params={"q": evil})
    assert "<script>alert" not in answer.text
    assert 'value="&#34;&gt;&lt;script&gt;' in answer.text
    assert "\x00" not in visitor.get("/", params={"q": "a\x00b"}).text


def test_marks_never_break_the_text() -> None:
    one = [Highlight(field="description", start=0, end=2), Highlight(field="description", start=1, end=3)]
    assert str(marked("<b>", one, "description")) == "<mark>&lt;b</mark>&gt;"
    assert str(marked("abc", [Highlight(field="path.0", start=0, end=1)], "description")) == "abc"
    assert str(marked("abc", [Highlight(field="description", start=2, end=9)], "description")) == "abc"
    assert [percent(value) for value in ("15.00", "0.00", "7.5", "100", None)] == [
        "15 %",
        "0 %",
        "7.5 %",
        "100 %",
        None,
    ]


def test_no_answer_says_what_to_try(visitor: httpx.Client) -> None:
    answer = visitor.get("/", params={"q": "zzzzqqq"})
    assert answer.status_code == 200
    assert "Sin resultados para «zzzzqqq»" in shown(answer)
    assert 'href="/capitulos"' in answer.text


def test_a_vague_word_is_asked_about_by_links_above_its_results(visitor: httpx.Client) -> None:
    page = visitor.get("/", params={"q": "aparatos"}).text
    assert "¿Para qué es la máquina?" in page
    assert page.index('class="guide"') < page.index('class="hits"')
    links = [html.unescape(address) for address in re.findall(r'<a href="(/\?q=[^"]+)" rel="nofollow"', page)]
    assert len(links) >= 3
    for address in links:
        assert visitor.get(address).status_code == 200
    assert "guide" not in visitor.get("/", params={"q": "audífonos"}).text


def test_a_vague_word_without_results_is_asked_about_all_the_same(visitor: httpx.Client) -> None:
    page = shown(visitor.get("/", params={"q": "tiliches", "lang": "en"}))
    assert "What kind of thing is it?" in page
    assert "“tiliches” alone does not decide the line" in page
    assert "No results for “tiliches”" in page


def test_a_choice_is_a_link_whatever_was_typed(visitor: httpx.Client) -> None:
    page = visitor.get("/", params={"q": "regalo 5% & +1 <b>"}).text
    (address, *_) = re.findall(r'<a href="(/\?q=[^"]+)" rel="nofollow"', page)
    kept = visitor.get(html.unescape(address)).text
    assert 'value="perfume 5% &amp; +1 &lt;b&gt;"' in kept


def test_too_many_letters_are_refused_and_kept(visitor: httpx.Client) -> None:
    answer = visitor.get("/", params={"q": "a" * 300})
    assert answer.status_code == 422
    assert "a lo sumo 200 letras" in shown(answer)
    assert f'value="{"a" * 200}"' in answer.text


def test_a_node_shows_where_it_stands_and_what_is_below(visitor: httpx.Client) -> None:
    heading = shown(visitor.get("/partida/85.18"))
    assert "8518 Micrófonos, altavoces y auriculares" in heading
    assert "8518.30.00.00 Audífonos" in heading
    assert "Elegir" not in heading
    assert "Elegir" in shown(visitor.get("/partida/8518300000?q=cascos"))
    for code in ("0101", "abc", "9" * 60, "%00"):
        answer = visitor.get(f"/partida/{code}")
        assert answer.status_code in (404, 422), code
        assert answer.headers["content-type"].startswith("text/html"), code
        assert answer.headers["x-request-id"] in answer.text, code


def test_a_dead_link_is_a_page_for_people_and_a_problem_for_programs(visitor: httpx.Client) -> None:
    page = visitor.get("/nothing", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert "No existe esa página" in shown(page)
    for path, accept in (("/nothing", "*/*"), ("/api/v1/nothing", "text/html")):
        answer = visitor.get(path, headers={"Accept": accept})
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
    assert visitor.get("/elegir", headers={"Accept": "text/html"}).status_code == 405


def test_the_language_changes_with_the_words_kept_and_is_remembered(visitor: httpx.Client) -> None:
    page = visitor.get("/", params={"q": "audifonos"}).text
    other = re.search(r'href="([^"]+)" lang="en"', page)
    assert other is not None
    english = visitor.get(html.unescape(other.group(1)))
    assert '<html lang="en"' in english.text
    assert 'value="audifonos"' in english.text
    assert "Headphones" in english.text
    assert '<html lang="en"' in visitor.get("/").text
    assert visitor.get("/", params={"lang": "xx"}).status_code == 200
    visitor.cookies.set("theme", "dark")
    assert 'data-theme="dark"' in visitor.get("/").text


def test_a_choice_is_kept_thanked_for_and_taken_back_by_the_one_who_made_it(api: Api, person: httpx.Client) -> None:
    form = {"code": "8518300000", "q": "audífonos", "rank": "1"}
    chosen = person.post("/elegir", data=form)
    assert chosen.status_code == 303
    page = person.get(chosen.headers["location"])
    assert "Gracias. Eligió 8518.30.00.00" in shown(page)
    with api.database.read() as session:
        kept = session.scalars(select(Selection)).one()
    assert (kept.line_code, kept.query, kept.rank, kept.staff) == ("8518300000", "audífonos", 1, False)
    undo = re.search(r'action="(/deshacer/[^"]+)"', page.text)
    assert undo is not None

    stranger = api.visitor(headers={"Origin": api.url})
    assert stranger.get(chosen.headers["location"]).status_code == 404
    assert stranger.post(undo.group(1)).status_code == 404

    assert person.post(undo.group(1)).status_code == 303
    assert "La elección se deshizo" in shown(person.get(chosen.headers["location"]))
    assert person.post(undo.group(1)).status_code == 303
    with api.database.read() as session:
        assert session.scalars(select(Selection.undone_at)).one() is not None


def test_another_sites_page_cannot_choose(api: Api) -> None:
    stranger = api.visitor()
    form = {"code": "8518300000", "q": "audífonos"}
    for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": api.url, "Sec-Fetch-Site": "cross-site"}):
        answer = stranger.post("/elegir", data=form, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    with api.database.read() as session:
        assert session.scalars(select(Selection)).all() == []


def test_a_choice_that_cannot_be_is_a_page_that_says_so(person: httpx.Client) -> None:
    for form in ({"code": "0101", "q": "x"}, {"code": "8518", "q": "x"}, {"q": "x"}, {"code": "8518300000", "q": " "}):
        answer = person.post("/elegir", data=form)
        assert answer.status_code in (404, 422), form
        assert answer.headers["content-type"].startswith("text/html")
    assert person.get("/elegido/00000000-0000-0000-0000-000000000000").status_code == 404
    assert person.get("/elegido/nonsense").status_code == 422


def test_without_an_index_sql_answers_and_the_page_says_so(settings: Settings) -> None:
    shutil.rmtree(settings.data_dir / "search")
    with serving(settings) as api:
        answer = api.visitor().get("/", params={"q": "audífonos"})
        assert answer.status_code == 200
        assert "El índice de búsqueda no está disponible" in shown(answer)
        assert "8518.30.00.00" in answer.text


def test_too_many_requests_are_told_when_to_come_back(settings: Settings) -> None:
    with serving(settings.model_copy(update={"rate_limit_public": "2/minute"})) as api:
        client = api.visitor()
        answers = [client.get("/", params={"q": "audífonos"}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert int(answers[2].headers["retry-after"]) > 0
        assert "Demasiadas búsquedas" in shown(answers[2])
        assert 'value="audífonos"' in answers[2].text


def test_nothing_of_an_error_inside_is_shown(api: Api, person: httpx.Client) -> None:
    with api.database.write() as session:
        session.execute(text("DROP TABLE keywords"))
        session.execute(text("DROP TABLE selections"))
        session.execute(text("DROP TABLE tariff_lines"))
    for page in ("/capitulos", "/partida/8518"):
        answer = person.get(page)
        assert answer.status_code in (500, 503), shown(answer)
        assert answer.headers["x-request-id"] in answer.text
        for secret in ("SELECT", "sqlite", "sqlalchemy", "Traceback", "no such table"):
            assert secret not in answer.text
