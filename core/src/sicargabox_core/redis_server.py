"""How Redis is reached and what it holds; with ``tasks`` the only place that imports ``redis``.

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

from sicargabox_core.errors import InvalidSetting, Unavailable
from sicargabox_core.settings import ENV_PREFIX, Settings

__all__ = [
    "BUDGETS",
    "CONNECT_SECONDS",
    "DatabaseMemory",
    "Db",
    "RedisAddress",
    "RedisError",
    "RedisReport",
    "Replica",
    "SlowCommand",
    "connect",
    "memory_report",
    "parse_address",
    "sentinel_options",
]

CONNECT_SECONDS = 0.5
_MEGABYTE = 1024 * 1024
# A database with more keys than this is estimated from a random sample of as many.
_SAMPLE = 200


class Db(IntEnum):
    """The numbered databases in use; 3 to 15 are reserved."""

    BROKER = 0
    RESULTS = 1
    CACHE = 2


# Bytes each database is meant to stay under; of the 256 MB the rest is for buffers and forks.
BUDGETS: dict[Db, int] = {Db.BROKER: 50 * _MEGABYTE, Db.RESULTS: 100 * _MEGABYTE, Db.CACHE: 50 * _MEGABYTE}


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


@dataclass(frozen=True)
class DatabaseMemory:
    """One numbered database; ``bytes`` is an estimate from its keys, ``budget`` is none for a reserved one."""

    db: int
    name: str
    keys: int
    expiring: int
    bytes: int
    budget: int | None


@dataclass(frozen=True)
class Replica:
    """One replica as its primary sees it; ``lag`` in seconds."""

    address: str
    state: str
    lag: int


@dataclass(frozen=True)
class SlowCommand:
    """A slow command: its name and key only, since values may be anybody's."""

    at: int
    microseconds: int
    command: str


@dataclass(frozen=True)
class RedisReport:
    """What Redis says about itself; sizes in bytes, times in seconds."""

    version: str
    role: str
    uptime: int
    used: int
    maximum: int
    policy: str
    evicted: int
    clients: int
    persistence_ok: bool
    append_only: bool
    databases: tuple[DatabaseMemory, ...]
    replicas: tuple[Replica, ...]
    slow: tuple[SlowCommand, ...]


def memory_report(settings: Settings) -> RedisReport:
    """Memory against the budgets of each database, keyspace, replication and slow log.

    The primary tells about itself; keys are measured on a replica where there is one, since that is the dear part.
    Bounded work: at most 200 keys per database are measured. Raises ``Unavailable`` when Redis does not answer.
    """
    try:
        with connect(settings, Db.BROKER) as client:
            info: dict[str, Any] = client.info()
            slow = client.slowlog_get(16)
        keyspace = {number: info.get(f"db{number}") for number in range(16)}
        databases = []
        for number, found in keyspace.items():
            known = number in BUDGETS
            if not found and not known:
                continue
            keys = int(found["keys"]) if found else 0
            with connect(settings, number, replica_ok=True) as client:
                databases.append(
                    DatabaseMemory(
                        db=number,
                        name=Db(number).name.lower() if known else "reserved",
                        keys=keys,
                        expiring=int(found["expires"]) if found else 0,
                        bytes=_estimate(client, keys) if keys else 0,
                        budget=BUDGETS[Db(number)] if known else None,
                    )
                )
    except RedisError as error:
        raise Unavailable("Redis does not answer") from error
    return RedisReport(
        version=str(info.get("valkey_version") or info.get("redis_version", "")),
        role=str(info.get("role", "")),
        uptime=int(info.get("uptime_in_seconds", 0)),
        used=int(info.get("used_memory", 0)),
        maximum=int(info.get("maxmemory", 0)),
        policy=str(info.get("maxmemory_policy", "")),
        evicted=int(info.get("evicted_keys", 0)),
        clients=int(info.get("connected_clients", 0)),
        persistence_ok=info.get("rdb_last_bgsave_status") == "ok" and info.get("aof_last_write_status", "ok") == "ok",
        append_only=bool(info.get("aof_enabled")),
        databases=tuple(databases),
        replicas=tuple(
            Replica(address=f"{value['ip']}:{value['port']}", state=value["state"], lag=int(value.get("lag", 0)))
            for name, value in info.items()
            if name.startswith("slave") and isinstance(value, dict)
        ),
        slow=tuple(
            SlowCommand(
                at=int(entry["start_time"]),
                microseconds=int(entry["duration"]),
                command=" ".join(bytes(entry["command"]).decode(errors="replace").split(" ")[:2])[:120],
            )
            for entry in slow
        ),
    )


def _estimate(client: redis.Redis, keys: int) -> int:
    """Bytes of all ``keys`` keys: every one is measured when there are few, else a random sample is scaled."""
    if keys <= _SAMPLE:
        names = list(client.scan_iter(count=_SAMPLE))[:_SAMPLE]
    else:
        with client.pipeline(transaction=False) as pipe:
            for _ in range(_SAMPLE):
                pipe.randomkey()
            names = [name for name in pipe.execute() if name is not None]
    if not names:
        return 0
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            # Of a long list five nodes are measured and scaled: a backlog of a million costs no more than one of ten.
            pipe.memory_usage(name, samples=5)
        sizes = [size or 0 for size in pipe.execute()]
    return round(sum(sizes) / len(sizes) * keys)
