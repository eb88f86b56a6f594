from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from services.api.tests.running import Api, serving
from sqlalchemy import text

from sicargabox_core.settings import Settings, load_settings
from tests.servers.ports import free_port


def test_a_ready_process_says_of_what_it_is_ready(visitor: httpx.Client) -> None:
    assert visitor.get("/healthz").json() == {"status": "ok"}
    answer = visitor.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "database": "ok", "redis": "ok", "search": "ok"}


def test_readiness_depends_on_sql_alone(settings: Settings, tmp_path: Path) -> None:
    away = settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}"})
    with serving(away) as api:
        answer = api.visitor().get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["redis"] == "away"

    broken = load_settings(
        data_dir=tmp_path / "other", redis_url=settings.redis_url, database_url=f"sqlite:///{tmp_path}/none/none.db"
    )
    with serving(broken) as api:
        answer = api.visitor().get("/readyz")
        assert answer.status_code == 503
        assert (answer.json()["redis"], answer.json()["database"]) == ("ok", "the database does not answer")
        assert api.visitor().get("/healthz").status_code == 200


def test_an_older_schema_is_not_ready_until_it_is_migrated(api: Api) -> None:
    with api.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    answer = api.visitor().get("/readyz")
    assert answer.status_code == 503
    assert "sicargabox migrate" in answer.json()["database"]


def test_without_a_database_a_route_is_503_and_says_when_to_come_back(settings: Settings, tmp_path: Path) -> None:
    broken = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/none/none.db"})
    with serving(broken) as api:
        answer = api.visitor().get("/api/v1/lines/8517")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"]
    assert "sqlite" not in answer.text.lower()


def test_figures_are_for_the_same_network_only(api: Api) -> None:
    visitor = api.visitor()
    assert "sicargabox_http_requests_total" in visitor.get("/metrics").text
    for header in ("X-Forwarded-For", "Forwarded"):
        refused = visitor.get("/metrics", headers={header: "203.0.113.9"})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_figures_may_be_made_public(settings: Settings) -> None:
    with serving(settings.model_copy(update={"public_metrics": True})) as api:
        assert api.visitor().get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 200


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/task-row/list?page=2", "/admin//evil.example/"])
def test_the_staff_pages_are_found_at_their_own_address(api: Api, path: str) -> None:
    answer = api.visitor().get(path)
    assert answer.status_code == 307
    assert answer.headers["location"] == f"{api.services.settings.effective_admin_url}{path}"
