"""What holds for every route: problems, headers, limits, documentation."""

from __future__ import annotations

import os
import re
import signal
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel
from services.api.tests.running import API, Api, serving
from starlette.requests import Request

from sicargabox_api import problems
from sicargabox_api.rate_limits import client_address
from sicargabox_core import errors
from sicargabox_core.settings import Settings, load_settings
from tests.servers.valkey import ValkeyServer


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidInput("x", field="f", remedy="r"), 422),
        (errors.NotFound("x"), 404),
        (errors.Conflict("x"), 409),
        (errors.AlreadyRunning("x", task_id="1"), 409),
        (errors.IdempotencyMismatch("x"), 422),
        (errors.SignInRequired("x"), 401),
        (errors.Forbidden("x"), 403),
        (errors.TooManyRequests("x", retry_after=1), 429),
        (errors.Unavailable("x"), 503),
        (errors.TaskFailed("x"), 500),
        (errors.DataFault("x"), 500),
        (errors.SicargaBoxError("x"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_error_has_its_status(error: errors.SicargaBoxError, status: int) -> None:
    assert problems.status_of(error) == status


def test_what_the_framework_refuses_is_a_problem_too(visitor: httpx.Client) -> None:
    for answer, status, code in (
        (visitor.get("/nothing"), 404, "not_found"),
        (visitor.get(f"{API}/nothing"), 404, "not_found"),
        (visitor.put(f"{API}/search"), 405, "method_not_allowed"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_body_that_is_no_json_is_said_to_be_so(visitor: httpx.Client) -> None:
    answer = visitor.post("/api/v1/selections", content=b'{"code": "8517', headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert (answer.json()["field"], answer.json()["detail"]) == ("body", "the body is not JSON")


def test_an_unforeseen_error_tells_nothing_but_its_request_id(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret in a message")

    monkeypatch.setattr(api.services.search, "search", broken)
    answer = api.visitor().get(f"{API}/search", params={"q": "x"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "secret" not in answer.text


def test_a_sane_request_id_is_kept_and_another_replaced(visitor: httpx.Client) -> None:
    assert visitor.get("/healthz", headers={"X-Request-ID": "order-17"}).headers["x-request-id"] == "order-17"
    for nonsense in ("a b", "x" * 65, "<script>"):
        assert visitor.get("/healthz", headers={"X-Request-ID": nonsense}).headers["x-request-id"] != nonsense


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_above_the_limit_is_413(onlooker: httpx.Client, announced: bool) -> None:
    body = b'{"note": "' + b"x" * (1024 * 1024) + b'"}'
    content: Any = body if announced else (body[at : at + 65536] for at in range(0, len(body), 65536))
    answer = onlooker.post(
        f"{API}/tasks/housekeeping.no_op", content=content, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.headers["content-type"] == "application/problem+json"
    assert onlooker.get(f"{API}/tasks").json()["items"] == []


# --- limits ----------------------------------------------------------------------------------------------------------
def test_one_address_has_its_limit_in_all_processes_together(settings: Settings) -> None:
    limited = settings.model_copy(update={"rate_limit_public": "3/hour"})
    with serving(limited) as one, serving(limited) as other:
        path = f"{API}/suggest?q=a"
        statuses = [api.visitor().get(path).status_code for api in (one, other, one)]
        refused = other.visitor().get(path)
        assert statuses == [200, 200, 200]
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert int(refused.headers["retry-after"]) >= 1
        assert other.visitor().get("/healthz").status_code == 200
        assert other.as_program().get(f"{API}/tasks").status_code == 200, "other classes have their own limit"


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_without_redis_a_process_counts_alone_and_nobody_waits(
    data_dir: Path, private_valkey: ValkeyServer, how: str
) -> None:
    settings = load_settings(data_dir=data_dir, redis_url=private_valkey.url, rate_limit_public="3/hour")
    with serving(settings) as api:
        if how == "killed":
            private_valkey.kill()
        else:
            os.kill(private_valkey.pid, signal.SIGSTOP)
        statuses = [api.visitor().get(f"{API}/suggest?q=a").status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


def test_false_tokens_are_limited_too(settings: Settings) -> None:
    with serving(settings.model_copy(update={"rate_limit_staff": "2/hour"})) as api:
        liar = api.visitor(headers={"Authorization": "Bearer sbx_nonsense"})
        assert [liar.get(f"{API}/tasks").status_code for _ in range(3)] == [401, 401, 429]


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:203.0.113.9", "::ffff:203.0.113.9"),
        ("unix", "unix"),
    ],
)
def test_a_limit_counts_an_address_or_of_ipv6_the_household(peer: str, counted: str) -> None:
    request = Request({"type": "http", "headers": [], "client": (peer, 1)})
    assert client_address(request) == counted


def test_an_empty_limit_is_none_and_nonsense_stops_the_start(settings: Settings) -> None:
    with serving(settings.model_copy(update={"rate_limit_public": ""})) as api:
        assert api.visitor().get(f"{API}/suggest?q=a").status_code == 200
    with (
        pytest.raises(errors.InvalidSetting, match="SICARGABOX_RATE_LIMIT_STAFF"),
        serving(settings.model_copy(update={"rate_limit_staff": "many"})),
    ):
        pass


# --- documentation ---------------------------------------------------------------------------------------------------
def _models() -> list[type[BaseModel]]:
    names = ("health", "lines", "queues", "search", "selections", "task_models")
    modules = [import_module(f"sicargabox_api.routes.{name}") for name in names]
    found = {
        value
        for module in (*modules, problems)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__.startswith("sicargabox_api")
    }
    return sorted(found, key=lambda model: model.__name__)


@pytest.mark.parametrize("model", _models(), ids=lambda model: model.__name__)
def test_every_model_has_examples_that_are_valid(model: type[BaseModel]) -> None:
    examples = model.model_json_schema()["examples"]
    assert examples
    for example in examples:
        again = model.model_validate(example).model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert again == example


def test_every_operation_is_described_and_its_references_exist(visitor: httpx.Client) -> None:
    document = visitor.get(f"{API}/openapi.json").json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            statuses = set(operation["responses"]) - {"200", "201", "202", "204"}
            assert path.startswith(API) is bool(statuses & {"422"}), (method, path)
    schemas = document["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/(\w+)"', str(document).replace("'", '"')):
        assert name in schemas
    assert "HTTPValidationError" not in schemas
    starts = document["paths"][f"{API}/tasks/{{name}}"]["post"]
    assert "search.rebuild_index" in starts["requestBody"]["content"]["application/json"]["examples"]


def test_the_documentation_asks_no_other_host(visitor: httpx.Client) -> None:
    page = visitor.get(f"{API}/docs")
    assert page.status_code == 200
    assert "//" not in re.sub(r"<!DOCTYPE[^>]*>", "", page.text)
    assert "unsafe-inline" not in page.headers["content-security-policy"].split("style-src")[0]
    for source in re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text):
        asset = visitor.get(f"{API}/{source}")
        assert asset.status_code == 200, source
        assert asset.headers["content-type"].split(";")[0] in ("text/javascript", "text/css")


# --- anything at all -------------------------------------------------------------------------------------------------
_NAMES = st.sampled_from(
    "q limit offset category chapter lang state name queue initiated_by parent since until before".split()  # noqa: SIM905
)
_VALUES = st.one_of(
    st.text(max_size=60),
    st.integers().map(str),
    st.datetimes().map(str),
    st.sampled_from(["", "\0", "-1", "1e9", "٣", "🎧", "%", "_", "'", '"', "8517", "85.", "null", "NaN", "PROGRESS"]),
)
_PATHS = st.sampled_from(
    [
        "/search",
        "/suggest",
        "/lines/8518300000",
        "/lines/8518/children",
        "/lines/8518/keywords",
        "/tasks",
        "/queues",
        "/queues/celery/messages",
        "/redis",
    ]
)


@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
@given(path=_PATHS, query=st.lists(st.tuples(_NAMES, _VALUES), max_size=5))
def test_no_query_string_makes_a_server_error(onlooker: httpx.Client, path: str, query: list[tuple[str, str]]) -> None:
    encoded = urlencode([(name, value.encode("utf-8", "replace")) for name, value in query])
    answer = onlooker.get(f"{API}{path}?{encoded}")
    assert answer.status_code in (200, 422), answer.text


@hypothesis_settings(max_examples=100, deadline=None, derandomize=True)
@given(segment=st.text(min_size=1, max_size=40).filter(lambda text: text not in (".", "..")))
def test_no_path_makes_a_server_error(onlooker: httpx.Client, segment: str) -> None:
    text = quote(segment.encode("utf-8", "replace"), safe="")
    for path in (f"/lines/{text}", f"/tasks/{text}", f"/queues/{text}/messages"):
        assert onlooker.get(f"{API}{path}").status_code in (200, 404, 422)
