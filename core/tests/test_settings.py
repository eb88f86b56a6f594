"""Laws of the settings: a wrong one is named with its remedy, and never shows a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from sicargabox_core.errors import InvalidSetting
from sicargabox_core.settings import load_settings, misspelt

PRODUCTION = {
    "environment": "production",
    "database_url": "postgresql://db/sicargabox",
    "redis_url": "redis://redis",
    "secret_key": "k" * 32,
}


def test_a_wrong_value_names_its_variable_and_the_value() -> None:
    with pytest.raises(InvalidSetting, match=r"SICARGABOX_PORT: .*99999") as caught:
        load_settings(port=99999)
    assert caught.value.remedy


def test_a_value_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SICARGABOX_PORT", "8123")
    assert load_settings().effective_public_url == "http://127.0.0.1:8123"


def test_a_lease_shorter_than_two_heartbeats_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="SICARGABOX_TASK_HEARTBEAT_SECONDS"):
        load_settings(task_lease_seconds=5, task_heartbeat_seconds=3)


def test_production_with_servers_of_its_own_and_a_key_is_taken() -> None:
    assert load_settings(**PRODUCTION).effective_log_format == "json"


@pytest.mark.parametrize(
    ("missing", "variable"),
    [
        ({"database_url": ""}, "SICARGABOX_DATABASE_URL"),
        ({"database_url": "sqlite:////srv/sicargabox.db"}, "SICARGABOX_DATABASE_URL"),
        ({"redis_url": ""}, "SICARGABOX_REDIS_URL"),
        ({"secret_key": ""}, "SICARGABOX_SECRET_KEY"),
        ({"secret_key": "k" * 31}, "SICARGABOX_SECRET_KEY"),
    ],
)
def test_production_refuses_what_is_embedded_or_generated(missing: dict[str, str], variable: str) -> None:
    with pytest.raises(InvalidSetting, match=variable):
        load_settings(**{**PRODUCTION, **missing})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timezone", "Mars/Olympus"),
        ("timezone", ""),
        ("timezone", "/etc/passwd"),
        ("rate_limit_public", "lots"),
        ("rate_limit_choices", "0/minute"),
        ("rate_limit_staff", "1200"),
        ("public_url", "sicargabox.example"),
        ("admin_url", "ftp://sicargabox.example"),
        ("trusted_proxies", "127.0.0.1,proxy"),
        ("evaluation_schedule", "domingo 04:00"),
        ("evaluation_schedule", "sunday 24:00"),
        ("evaluation_schedule", "04:00"),
        ("trusted_proxies", "10.0.0.7/8"),
    ],
)
def test_a_value_of_the_wrong_form_is_refused_by_every_process_and_not_met_later(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"SICARGABOX_{name.upper()}: ") as caught:
        load_settings(**{name: value})
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "*", "127.0.0.1", "10.0.0.0/8, ::1"])
def test_proxies_are_addresses_networks_everyone_or_nobody(value: str) -> None:
    assert load_settings(trusted_proxies=value).trusted_proxies == value


def test_a_misspelt_variable_is_found_with_the_one_it_may_mean() -> None:
    names = ["PATH", "SICARGABOX_PORT", "SICARGABOX_PROT", "SICARGABOX_COLOUR", "SICARGABOX_TEST_TARIFF_CSV"]
    assert misspelt(names) == {"SICARGABOX_COLOUR": None, "SICARGABOX_PROT": "SICARGABOX_PORT"}


def test_no_secret_is_in_an_error_or_in_the_settings_text() -> None:
    settings = load_settings(**PRODUCTION, redis_password="hunter22hunter22")
    assert "hunter22" not in repr(settings)
    assert "kkkk" not in repr(settings)
    with pytest.raises(InvalidSetting) as caught:
        load_settings(redis_password=["hunter22hunter22"])
    assert "hunter22" not in str(caught.value)


def test_a_password_is_read_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    (tmp_path / "of-redis").write_text(" p ä'\n")
    (tmp_path / "of-sentinels").write_text("s")
    settings = load_settings(
        redis_password_file=f"{tmp_path}/of-redis", redis_sentinel_password_file=f"{tmp_path}/of-sentinels"
    )
    assert settings.effective_redis_password == " p ä'"
    assert settings.effective_redis_sentinel_password == "s"


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"redis_password_file": "/nowhere"}, "SICARGABOX_REDIS_PASSWORD_FILE: /nowhere cannot be read"),
        ({"redis_sentinel_password_file": "/nowhere"}, "SICARGABOX_REDIS_SENTINEL_PASSWORD_FILE"),
        ({"redis_password_file": "/dev/null"}, "SICARGABOX_REDIS_PASSWORD_FILE: /dev/null is empty"),
        ({"redis_password_file": "/dev/null", "redis_password": "p"}, "SICARGABOX_REDIS_PASSWORD_FILE: a password and"),
        (
            {"redis_url": "redis://h", "redis_tls": True, "redis_tls_ca_file": "/nowhere"},
            "SICARGABOX_REDIS_TLS_CA_FILE: /nowhere",
        ),
        ({"redis_tls": True}, "SICARGABOX_REDIS_TLS: "),
        ({"redis_tls_ca_file": "/dev/null"}, "SICARGABOX_REDIS_TLS_CA_FILE: .*plain text"),
        (
            {"redis_url": "redis://h", "redis_tls": True, "redis_tls_cert_file": "/dev/null"},
            "SICARGABOX_REDIS_TLS_KEY_FILE",
        ),
        (
            {"redis_url": "redis://h", "redis_tls": True, "redis_tls_key_file": "/dev/null"},
            "SICARGABOX_REDIS_TLS_CERT_FILE",
        ),
    ],
)
def test_files_of_redis_that_cannot_be_meant_are_refused_at_start(given: dict[str, object], variable: str) -> None:
    with pytest.raises(InvalidSetting, match=variable) as caught:
        load_settings(**given)
    assert caught.value.remedy


def test_an_api_key_is_read_from_its_file_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a2V5OnNlY3JldA==\n")
    settings = load_settings(search_url="https://h:9200", search_api_key_file=f"{tmp_path}/key")
    assert settings.effective_search_api_key == "a2V5OnNlY3JldA=="
    assert "a2V5" not in repr(load_settings(search_api_key="a2V5OnNlY3JldA=="))


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"search_api_key_file": "/nowhere"}, "SICARGABOX_SEARCH_API_KEY_FILE: /nowhere cannot be read"),
        ({"search_api_key_file": "/dev/null", "search_api_key": "k"}, "SICARGABOX_SEARCH_API_KEY_FILE"),
        ({"search_password_file": "/dev/null"}, "SICARGABOX_SEARCH_PASSWORD_FILE: /dev/null is empty"),
        ({"search_username": "u", "search_password": "p", "search_api_key": "k"}, "SICARGABOX_SEARCH_USERNAME"),
        ({"search_username": "u"}, "SICARGABOX_SEARCH_PASSWORD"),
        ({"search_password": "p"}, "SICARGABOX_SEARCH_USERNAME"),
        ({"search_url": "http://h:9200", "search_ca_file": "/dev/null"}, "SICARGABOX_SEARCH_CA_FILE: .*plain text"),
        ({"search_url": "https://h:9200", "search_ca_file": "/nowhere"}, "SICARGABOX_SEARCH_CA_FILE: /nowhere"),
        ({"search_index": "Partidas"}, "SICARGABOX_SEARCH_INDEX"),
        ({"search_index": "partidas,*"}, "SICARGABOX_SEARCH_INDEX"),
        ({"search_index": ""}, "SICARGABOX_SEARCH_INDEX"),
        ({"search_replicas": -1}, "SICARGABOX_SEARCH_REPLICAS"),
        ({"search_timeout_seconds": 0}, "SICARGABOX_SEARCH_TIMEOUT_SECONDS"),
    ],
)
def test_settings_of_a_search_server_that_cannot_be_meant_are_refused_at_start(
    given: dict[str, object], variable: str
) -> None:
    with pytest.raises(InvalidSetting, match=variable) as caught:
        load_settings(**given)
    assert caught.value.remedy
