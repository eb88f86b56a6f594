"""Every setting of every process, read once from the environment at start and passed down.

Prefix ``SICARGABOX_``. Nothing here connects to anything; ``sicargabox doctor`` does. Logic never reads a global:
it takes a ``Settings``. A wrong or contradictory value raises ``InvalidSetting`` naming the variable and the remedy.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sicargabox_core.errors import InvalidSetting

ENV_PREFIX = "SICARGABOX_"
# Read by the test suite, not by the product.
_OF_TESTS = (f"{ENV_PREFIX}TEST_", f"{ENV_PREFIX}REQUIRE_")
_RATE_LIMIT = re.compile(r"[1-9]\d*/(second|minute|hour|day)")
_LEAST_SECRET_KEY = 32
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKLY = re.compile(rf"({'|'.join(_WEEKDAYS)}) ([01]?\d|2[0-3]):([0-5]\d)", re.IGNORECASE | re.ASCII)
# What Elasticsearch takes for the name of an index, short enough that a generation's name fits behind it.
_INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")


class Settings(BaseSettings):
    """The settings of all processes. Times are seconds, sizes bytes, unless a name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True, str_strip_whitespace=True)

    environment: Literal["development", "production"] = Field(
        "development", description="`production` refuses SQLite, the embedded Redis and a generated secret."
    )
    data_dir: Path = Field(Path(".data"), description="Folder of everything embedded mode stores.")
    timezone: str = Field("America/Tegucigalpa", description="IANA zone in which schedules are due and times shown.")

    host: str = Field("127.0.0.1", description="Address on which API, admin and Flower listen.")
    port: int = Field(8000, ge=1, le=65535, description="Port of the API and the public page.")
    admin_port: int = Field(8001, ge=1, le=65535, description="Port of the staff pages.")
    flower_port: int = Field(5555, ge=1, le=65535, description="Port of Flower.")
    redis_port: int = Field(6390, ge=1, le=65535, description="Port of the embedded Redis-protocol server.")
    worker_port: int = Field(
        0,
        ge=0,
        le=65500,
        description="Port of a worker's or scheduler's /healthz, /readyz and /metrics; 0: none. `sicargabox run` gives "
        "its four processes this one and the next three; 0 there: 10 above the API's.",
    )
    public_url: str = Field("", description="Address of the API as browsers see it; empty: http://host:port.")
    admin_url: str = Field(
        "", description="Address of the staff pages as browsers see it; empty: http://host:admin_port."
    )

    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data folder.")
    database_pool_size: int = Field(10, ge=1, le=200, description="Connections a process keeps at most (PostgreSQL).")
    database_statement_seconds: float = Field(
        30.0, gt=0, le=3600, description="PostgreSQL ends a statement that runs longer; the API's after 10 at most."
    )
    database_lock_seconds: float = Field(
        5.0, gt=0, le=3600, description="PostgreSQL ends a statement that waits longer for another's lock."
    )
    database_idle_transaction_seconds: float = Field(
        60.0, gt=0, le=3600, description="PostgreSQL ends a connection that does nothing for longer in a transaction."
    )
    redis_url: str = Field(
        "", description="`redis://…`, `rediss://…` or `sentinel://host:port;sentinel://host:port`; empty: embedded."
    )
    redis_server: str = Field("", description="Path of a redis-server to use for the embedded one; empty: the wheel's.")
    redis_sentinel_master: str = Field("mymaster", description="Name under which the Sentinels watch the primary.")
    redis_username: str = Field("", description="ACL user; empty: the default user.")
    redis_password: SecretStr = Field(SecretStr(""), description="Password of the Redis servers.")
    redis_password_file: str = Field("", description="File that holds that password, in its place.")
    redis_sentinel_username: str = Field("", description="ACL user of the Sentinels; empty: their default user.")
    redis_sentinel_password: SecretStr = Field(SecretStr(""), description="Password of the Sentinels.")
    redis_sentinel_password_file: str = Field("", description="File that holds that password, in its place.")
    redis_tls: bool = Field(
        False, description="Speak TLS with Redis and its Sentinels; a `rediss://` address does so by itself."
    )
    redis_tls_ca_file: str = Field(
        "", description="Certificates that Redis' own must be signed by; empty: the system's."
    )
    redis_tls_cert_file: str = Field("", description="Certificate we show Redis, where it asks for one.")
    redis_tls_key_file: str = Field("", description="Private key of that certificate.")
    search_url: str = Field(
        "", description="Elasticsearch: `https://host:port`, several with `;` between them; empty: the embedded engine."
    )
    search_api_key: SecretStr = Field(SecretStr(""), description="API key of Elasticsearch, encoded as it gives it.")
    search_api_key_file: str = Field("", description="File that holds that key, in its place.")
    search_username: str = Field("", description="User of Elasticsearch, where there is no API key.")
    search_password: SecretStr = Field(SecretStr(""), description="Password of that user.")
    search_password_file: str = Field("", description="File that holds that password, in its place.")
    search_ca_file: str = Field(
        "", description="Certificates that Elasticsearch's own must be signed by; empty: those the client carries."
    )
    search_index: str = Field(
        "partidas_arancelarias",
        description="Alias that is searched; indexes are named after it. Each installation of a cluster has its own.",
    )
    search_replicas: int = Field(
        0, ge=0, le=10, description="Copies of the index on other nodes of Elasticsearch; 1 or more where it has nodes."
    )
    search_timeout_seconds: float = Field(
        0.2, gt=0, le=10, description="A search that Elasticsearch has not answered by then is answered from SQL."
    )

    secret_key: SecretStr = Field(
        SecretStr(""), description="Key that signs CSRF cookies; empty: generated into the data folder (development)."
    )
    session_seconds: int = Field(12 * 3600, ge=60, description="Life of a staff session without use.")
    secure_cookies: bool = Field(False, description="Send cookies over HTTPS only; set wherever TLS ends before us.")

    trusted_proxies: str = Field(
        "127.0.0.1",
        description="Addresses or networks, separated by commas, whose X-Forwarded-For is believed; `*`: everyone's.",
    )
    rate_limit_public: str = Field(
        "1200/minute", description="Searches, suggestions and lines read by one address; empty: no limit."
    )
    rate_limit_choices: str = Field(
        "120/minute", description="Choices recorded or undone by one address; empty: no limit."
    )
    rate_limit_staff: str = Field("6000/minute", description="Staff requests of one address; empty: no limit.")
    public_metrics: bool = Field(
        False, description="Serve the API's /metrics to public addresses and through proxies too."
    )

    task_lease_seconds: float = Field(10.0, gt=0, description="A claim not renewed for this long may be taken over.")
    task_heartbeat_seconds: float = Field(3.0, gt=0, description="Interval at which a running task renews its lease.")
    reconcile_interval_seconds: float = Field(0.5, gt=0, description="Pause between two passes of the reconciler.")
    task_cancel_grace_seconds: float = Field(30.0, ge=0, description="Time a running task has to notice a cancel.")
    drain_seconds: float = Field(8.0, gt=0, description="Time a stopping worker gives its running tasks.")
    worker_max_memory_per_child_kb: int = Field(
        0,
        ge=0,
        description="Resident size at which a worker's child is replaced after its task; 0: what fits the container's "
        "memory limit, or 512 MB above what the worker holds when it starts.",
    )
    worker_max_tasks_per_child: int = Field(
        10_000, ge=0, description="Tasks after which a worker's child is replaced; 0: however many."
    )
    result_ttl_seconds: int = Field(7 * 24 * 3600, ge=60, description="Life of Celery's result entries in Redis.")
    task_retention_days: int = Field(90, ge=1, description="Finished tasks older than this are deleted.")
    search_log_retention_days: int = Field(180, ge=1, description="Logged searches older than this are deleted.")

    evaluation_schedule: str = Field(
        "sunday 04:00",
        description="Weekday and time at which the search is measured with our own labelled queries; empty: never.",
    )
    evaluation_reports_kept: int = Field(
        104, ge=2, le=2000, description="Reports of such measurements that are kept; older ones are deleted."
    )

    ai_provider: Literal["offline"] = Field("offline", description="Where generated keywords come from.")

    log_format: Literal["", "json", "console"] = Field("", description="Empty: json in production, console otherwise.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.task_heartbeat_seconds * 2 > self.task_lease_seconds:
            raise InvalidSetting(
                "a heartbeat must fit twice into the lease, or one late beat loses the task",
                field=f"{ENV_PREFIX}TASK_HEARTBEAT_SECONDS",
                remedy=f"Set it to at most {self.task_lease_seconds / 2:g}.",
            )
        if self.environment == "production":
            # SQLite is for one machine: several pods on one file of a network share corrupt it.
            embedded_database = not self.database_url or self.database_url.startswith("sqlite")
            for name, embedded in (("DATABASE_URL", embedded_database), ("REDIS_URL", not self.redis_url)):
                if embedded:
                    raise InvalidSetting(
                        "production needs a server of its own, not the embedded one",
                        field=ENV_PREFIX + name,
                        remedy="Set its address.",
                    )
            if len(self.secret_key.get_secret_value()) < _LEAST_SECRET_KEY:
                raise InvalidSetting(
                    "production needs a key that all replicas share and nobody guesses",
                    field=f"{ENV_PREFIX}SECRET_KEY",
                    remedy=f"Set at least {_LEAST_SECRET_KEY} random characters.",
                )
        self._check_forms()
        self._check_redis()
        self._check_search()
        return self

    def _check_forms(self) -> None:
        # Here and not where they are used: the scheduler met a wrong zone at 02:00, the API a wrong limit after
        # `sicargabox run` had begun to restart it again and again.
        try:
            ZoneInfo(self.timezone)
        except (ValueError, OSError, LookupError) as error:
            raise InvalidSetting(
                f"{self.timezone!r} is not a time zone",
                field=f"{ENV_PREFIX}TIMEZONE",
                remedy="Use a name like America/Tegucigalpa.",
            ) from error
        for name in ("rate_limit_public", "rate_limit_choices", "rate_limit_staff"):
            text: str = getattr(self, name)
            if text and not _RATE_LIMIT.fullmatch(text):
                raise InvalidSetting(
                    f"{text!r} is not a limit",
                    field=ENV_PREFIX + name.upper(),
                    remedy="Write it like 1200/minute (second, minute, hour or day), or leave it empty.",
                )
        if self.evaluation_schedule and not _WEEKLY.fullmatch(self.evaluation_schedule):
            raise InvalidSetting(
                f"{self.evaluation_schedule!r} is not a time of the week",
                field=f"{ENV_PREFIX}EVALUATION_SCHEDULE",
                remedy="Write it like sunday 04:00, or leave it empty.",
            )
        for name in ("public_url", "admin_url"):
            address: str = getattr(self, name)
            if address and not address.startswith(("http://", "https://")):
                raise InvalidSetting(
                    f"{address!r} is not an address of a page",
                    field=ENV_PREFIX + name.upper(),
                    remedy="Begin it with http:// or https://.",
                )
        for proxy in self.trusted_proxies.split(","):
            if (name := proxy.strip()) not in ("", "*"):
                try:
                    ip_network(name)
                except ValueError as error:
                    # A name would never match, and every visitor would count as the proxy.
                    raise InvalidSetting(
                        f"{name!r} is neither an address nor a network",
                        field=f"{ENV_PREFIX}TRUSTED_PROXIES",
                        remedy="Write them like 10.0.0.7 or 10.0.0.0/8, separated by commas.",
                    ) from error

    def _check_redis(self) -> None:
        self._check_secrets("redis_password", "redis_sentinel_password")
        if self.redis_tls and self.embedded_redis:
            raise InvalidSetting(
                "the embedded Redis listens on this machine only and speaks no TLS",
                field=f"{ENV_PREFIX}REDIS_TLS",
                remedy=f"Set {ENV_PREFIX}REDIS_URL, or unset it.",
            )
        for name in ("redis_tls_ca_file", "redis_tls_cert_file", "redis_tls_key_file"):
            path: str = getattr(self, name)
            if path:
                # Here and not at the first connection: nothing but a wrong address would be told there.
                _content(name, path)
                if not self.redis_over_tls:
                    raise InvalidSetting(
                        "a certificate is of use over TLS only, and Redis is spoken to in plain text",
                        field=ENV_PREFIX + name.upper(),
                        remedy=f"Set {ENV_PREFIX}REDIS_TLS=true, or unset it.",
                    )
        if bool(self.redis_tls_cert_file) != bool(self.redis_tls_key_file):
            missing = "KEY" if self.redis_tls_cert_file else "CERT"
            raise InvalidSetting(
                "a certificate and its private key belong together",
                field=f"{ENV_PREFIX}REDIS_TLS_{missing}_FILE",
                remedy="Set both or none.",
            )

    def _check_search(self) -> None:
        self._check_secrets("search_api_key", "search_password")
        if not _INDEX_NAME.fullmatch(self.search_index):
            raise InvalidSetting(
                f"{self.search_index!r} is not a name for an index",
                field=f"{ENV_PREFIX}SEARCH_INDEX",
                remedy="Use small letters, digits, dashes, dots and underscores, a letter or digit first; 100 at most.",
            )
        if self.effective_search_api_key and self.search_username:
            raise InvalidSetting(
                "an API key and a user cannot both sign in",
                field=f"{ENV_PREFIX}SEARCH_USERNAME",
                remedy="Unset it or the API key.",
            )
        if bool(self.search_username) != bool(self.effective_search_password):
            missing = "PASSWORD" if self.search_username else "USERNAME"
            raise InvalidSetting(
                "a user and a password belong together",
                field=f"{ENV_PREFIX}SEARCH_{missing}",
                remedy="Set both or none.",
            )
        if self.search_ca_file:
            _content("search_ca_file", self.search_ca_file)
            if not self.search_url.startswith("https://"):
                raise InvalidSetting(
                    "a certificate is of use over TLS only, and Elasticsearch is spoken to in plain text",
                    field=f"{ENV_PREFIX}SEARCH_CA_FILE",
                    remedy=f"Begin {ENV_PREFIX}SEARCH_URL with https://, or unset it.",
                )

    def _check_secrets(self, *names: str) -> None:
        for name in names:
            if getattr(self, name).get_secret_value() and getattr(self, f"{name}_file"):
                raise InvalidSetting(
                    "a password and a file that holds it cannot both be right",
                    field=f"{ENV_PREFIX}{name.upper()}_FILE",
                    remedy=f"Unset it or {ENV_PREFIX}{name.upper()}.",
                )
            self._secret(name)

    def _secret(self, name: str) -> str:
        path: str = getattr(self, f"{name}_file")
        if not path:
            secret: SecretStr = getattr(self, name)
            return secret.get_secret_value()
        # An editor ends the last line; a password never does.
        content = _content(f"{name}_file", path).rstrip("\r\n")
        if not content:
            raise InvalidSetting(
                f"{path} is empty", field=f"{ENV_PREFIX}{name.upper()}_FILE", remedy="Write the password into it."
            )
        return content

    @property
    def evaluation_time(self) -> tuple[int, int, int] | None:
        """Weekday (0: Monday), hour and minute at which the search is measured; none: never."""
        found = _WEEKLY.fullmatch(self.evaluation_schedule)
        return found and (_WEEKDAYS.index(found[1].lower()), int(found[2]), int(found[3]))

    @property
    def effective_redis_password(self) -> str:
        """The password of the Redis servers, read anew from its file when one is named. Raises ``InvalidSetting``."""
        return self._secret("redis_password")

    @property
    def effective_redis_sentinel_password(self) -> str:
        """The same of the Sentinels."""
        return self._secret("redis_sentinel_password")

    @property
    def effective_search_api_key(self) -> str:
        """The API key of Elasticsearch, likewise."""
        return self._secret("search_api_key")

    @property
    def effective_search_password(self) -> str:
        """The password of the user of Elasticsearch, likewise."""
        return self._secret("search_password")

    @property
    def redis_over_tls(self) -> bool:
        """Whether Redis and its Sentinels are spoken to over TLS."""
        return self.redis_tls or self.redis_url.startswith("rediss://")

    @property
    def effective_database_url(self) -> str:
        """The database's SQLAlchemy URL, embedded SQLite when none is set."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'sicargabox.db').absolute()}"

    @property
    def effective_redis_url(self) -> str:
        """The Redis address without a database number, the embedded server when none is set."""
        return self.redis_url or f"redis://127.0.0.1:{self.redis_port}"

    @property
    def embedded_redis(self) -> bool:
        """Whether `sicargabox run` starts the Redis-protocol server itself."""
        return not self.redis_url

    @property
    def effective_public_url(self) -> str:
        """Where browsers find the API, without a trailing slash."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def effective_admin_url(self) -> str:
        """Where browsers find the staff pages, without a trailing slash."""
        return (self.admin_url or f"http://{self.host}:{self.admin_port}").rstrip("/")

    @property
    def effective_log_format(self) -> Literal["json", "console"]:
        """How log lines are written."""
        if self.log_format:
            return self.log_format
        return "json" if self.environment == "production" else "console"


def _content(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise InvalidSetting(
            f"{path} cannot be read: {reason}",
            field=ENV_PREFIX + name.upper(),
            remedy="Name a file that this process may read, or unset it.",
        ) from error


def misspelt(variables: Iterable[str]) -> dict[str, str | None]:
    """Of names of environment variables those of ours that no setting reads, each with the setting it may mean."""
    known = [name.upper() for name in Settings.model_fields]
    found: dict[str, str | None] = {}
    for name in sorted(variables):
        upper = name.upper()
        ours = upper.removeprefix(ENV_PREFIX)
        if ours != upper and ours not in known and not upper.startswith(_OF_TESTS):
            near = difflib.get_close_matches(ours, known, n=1)
            found[name] = ENV_PREFIX + near[0] if near else None
    return found


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment; keyword arguments win over it.

    Raises ``InvalidSetting`` for the first wrong value, naming its variable.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # values are validated by pydantic, not by the call
    except ValidationError as error:
        first = error.errors()[0]
        fields = [str(part) for part in first["loc"]]
        name = ENV_PREFIX + "_".join(fields).upper()
        secret = any(
            Settings.model_fields[field].annotation is SecretStr for field in fields if field in Settings.model_fields
        )
        raise InvalidSetting(
            first["msg"] if secret else f"{first['msg']} (got {first['input']!r})",
            field=name,
            remedy="Correct or unset it; `sicargabox doctor` lists all settings.",
        ) from error
