"""How Redis is reached and what each database is for; with ``tasks`` the only place that imports ``redis``.

One server, a database per purpose: 0 the broker, 1 Celery's result entries and live progress, 2 cache, limits and the
presence of workers. Every client made here has short time-outs and never repeats a command by itself: Redis is a
hub of hints, so the caller decides whether a second try is worth a user's wait.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from sicargabox_core.errors import InvalidSetting
from sicargabox_core.settings import ENV_PREFIX, Settings

__all__ = [
    "BUDGETS",
    "CONNECT_SECONDS",
    "EXPIRY_BYTES",
    "Db",
    "RedisAddress",
    "RedisError",
    "ask_sentinel",
    "connect",
    "parse_address",
    "sentinel_options",
]

CONNECT_SECONDS = 0.5
_MEGABYTE = 1024 * 1024


class Db(IntEnum):
    """The numbered databases in use; 3 to 15 are reserved."""

    BROKER = 0
    RESULTS = 1
    CACHE = 2


# Bytes each database is meant to stay under; of the 256 MB the rest is for buffers and forks.
BUDGETS: dict[Db, int] = {Db.BROKER: 50 * _MEGABYTE, Db.RESULTS: 100 * _MEGABYTE, Db.CACHE: 50 * _MEGABYTE}

# What MEMORY USAGE leaves out of a key that expires: measured as used_memory beside its sum (Redis 7.0.15: 61 bytes,
# Valkey 9.1: 28; 50,000 result entries of 400 bytes, 2026-11-23).
EXPIRY_BYTES = 60


@dataclass(frozen=True)
class RedisAddress:
    """Where Redis is: one server, or the Sentinels that know which server is the primary.

    ``tls``: how certificates are checked, in redis-py's names (kombu and Flower pass them on); empty: plain text.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    username: str = ""
    password: str = field(default="", repr=False)
    tls: dict[str, Any] = field(default_factory=dict)

    @property
    def sentinels(self) -> bool:
        """Whether ``hosts`` are Sentinels."""
        return self.scheme == "sentinel"

    def url(self, db: int) -> str:
        """The address with credentials and database number, in the form Celery and Flower understand."""
        user = quote(self.username, safe="")
        secret = f"{user}:{quote(self.password, safe='')}@" if self.password else ""
        return ";".join(f"{self.scheme}://{secret}{_host(host)}:{port}/{db}" for host, port in self.hosts)


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def parse_address(settings: Settings) -> RedisAddress:
    """Reads the Redis settings. Raises ``InvalidSetting`` for an address that is none."""
    hosts: list[tuple[str, int]] = []
    schemes: set[str] = set()
    username, password = settings.redis_username, settings.effective_redis_password
    for part in settings.effective_redis_url.split(";"):
        parsed = urlsplit(part.strip())
        try:
            port = parsed.port
        except ValueError as error:
            raise _not_an_address(str(error)) from error
        if parsed.scheme not in ("redis", "rediss", "sentinel") or not parsed.hostname:
            raise _not_an_address("expected redis://, rediss:// or sentinel:// with a host")
        if parsed.path.strip("/"):
            raise _not_an_address("the database number is ours to choose")
        schemes.add(parsed.scheme)
        hosts.append((parsed.hostname, port or (26379 if parsed.scheme == "sentinel" else 6379)))
        username = username or unquote(parsed.username or "")
        password = password or unquote(parsed.password or "")
    if len(schemes) != 1 or ("sentinel" not in schemes and len(hosts) > 1):
        raise _not_an_address("several addresses are possible for Sentinels only")
    scheme = schemes.pop()
    return RedisAddress(
        scheme="rediss" if scheme == "redis" and settings.redis_tls else scheme,
        hosts=tuple(hosts),
        username=username,
        password=password,
        tls=_tls(settings) if settings.redis_over_tls else {},
    )


def _tls(settings: Settings) -> dict[str, Any]:
    files = {
        "ssl_ca_certs": settings.redis_tls_ca_file,
        "ssl_certfile": settings.redis_tls_cert_file,
        "ssl_keyfile": settings.redis_tls_key_file,
    }
    # Without a check of the name whoever holds any certificate of that authority could pose as Redis.
    return {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        **{name: path for name, path in files.items() if path},
    }


def sentinel_options(settings: Settings, seconds: float) -> dict[str, Any]:
    """How the Sentinels are reached, for redis-py, kombu and Flower; ``seconds`` bound connect and answer."""
    tls = parse_address(settings).tls
    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "username": settings.redis_sentinel_username or None,
        "password": settings.effective_redis_sentinel_password or None,
        **({"ssl": True, **tls} if tls else {}),
    }


def ask_sentinel(settings: Settings, host: str, port: int, *, timeout: float = CONNECT_SECONDS) -> dict[str, Any]:
    """What one Sentinel says of the primary it watches, in its own words. Raises ``RedisError``."""
    options = sentinel_options(settings, timeout) | {"retry": Retry(NoBackoff(), 0)}
    with redis.Redis(host=host, port=port, decode_responses=True, **options) as client:
        told: dict[str, Any] = client.sentinel_master(settings.redis_sentinel_master)
        return told


def _not_an_address(why: str) -> InvalidSetting:
    return InvalidSetting(
        f"not a Redis address: {why}",
        field=f"{ENV_PREFIX}REDIS_URL",
        remedy="Use redis://host:port, rediss://host:port or sentinel://host:port;sentinel://host:port.",
    )


def connect(
    settings: Settings,
    db: int,
    *,
    replica_ok: bool = False,
    timeout: float = 1.0,
) -> redis.Redis:
    """A client of database ``db``; it connects at its first command.

    ``replica_ok``: behind Sentinels a replica may answer (views that may be a moment old). ``timeout`` seconds bound
    each answer. Commands raise ``RedisError``; nothing is tried a second time.
    """
    address = parse_address(settings)
    options: dict[str, Any] = {
        "db": int(db),
        "username": address.username or None,
        "password": address.password or None,
        "socket_timeout": timeout,
        "socket_connect_timeout": min(timeout, CONNECT_SECONDS),
        "socket_keepalive": True,
        # redis-py's default is three more tries with seconds of sleep between them.
        "retry": Retry(NoBackoff(), 0),
        **({"ssl": True, **address.tls} if address.tls else {}),
    }
    if not address.sentinels:
        host, port = address.hosts[0]
        return redis.Redis(host=host, port=port, **options)
    sentinel = Sentinel(
        list(address.hosts),
        sentinel_kwargs=sentinel_options(settings, min(timeout, CONNECT_SECONDS)) | {"retry": Retry(NoBackoff(), 0)},
        **options,
    )
    name = settings.redis_sentinel_master
    client: redis.Redis = sentinel.slave_for(name) if replica_ok else sentinel.master_for(name)
    return client
