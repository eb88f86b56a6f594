"""How Redis is: memory against its budgets, whether it takes writes, what is kept on disk, who follows the primary.

One report for the doctor, the staff page, the API and the metrics, and one list of what is wrong with it, so that they
never say different things. It writes nothing and its work is bounded, however much Redis holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sicargabox_core.errors import Unavailable
from sicargabox_core.redis_server import BUDGETS, EXPIRY_BYTES, Db, RedisError, ask_sentinel, connect, parse_address
from sicargabox_core.tasks.contracts import Queue

if TYPE_CHECKING:
    import redis

    from sicargabox_core.settings import Settings

POLICY = "volatile-lru"
MEMORY_HIGH = 0.85
# A server that refuses a message may have room for the next byte: what it uses swings by some kilobytes per client.
_FULL = 0.99
# A database with more keys than this is estimated from a random sample of as many.
_SAMPLE = 200
# Of a long list so many nodes of 8 kB are measured and scaled: a backlog of a million costs no more than one of ten.
_NODES = 20
# One backlog may be most of a database, and a sample of 200 keys would miss it: these are always measured.
_LARGE = {Db.BROKER: [*(queue.value for queue in Queue), "unacked", "unacked_index"]}
# Redis 7 refuses a script without flags wherever it would refuse a write, before it runs. Its argument asks for room,
# since the command itself is counted as used memory.
_WRITE_PROBE = "#!lua\nreturn 1"
_PROBE_ROOM = b" " * 16_384

# redis-py has classes of its own for some of these and drops the first word of the answer then.
_REFUSALS = {
    "memory": ("OUTOFMEMORY", "OOM "),
    "replicas": ("NOREPLICAS", "NOT ENOUGH GOOD REPLICAS"),
    "disk": ("MISCONF", "ERRORS WRITING TO THE AOF"),
    "read_only": ("READONLY",),
}
REFUSALS = tuple(_REFUSALS)


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
class SentinelSeen:
    """One Sentinel of the settings: whether it answers, the primary it names and how many others it knows."""

    address: str
    answers: bool
    primary: str
    others: int
    quorum: int


@dataclass(frozen=True)
class SlowCommand:
    """A slow command: when (Unix time), how long, and its name and key only, since values may be anybody's."""

    at: int
    microseconds: int
    command: str


@dataclass(frozen=True)
class RedisFault:
    """Something wrong: ``grave`` when tasks wait for it. ``about``: writes, memory, policy, persistence, replication.

    ``code`` is stable, with the figures of its sentence in ``values``; ``detail`` and ``remedy`` are that sentence.
    """

    code: str
    about: str
    grave: bool
    detail: str
    remedy: str
    values: dict[str, str]


@dataclass(frozen=True)
class RedisReport:
    """What Redis says about itself; sizes in bytes, times in seconds, ``last_save_at`` Unix time.

    ``used``/``maximum``: of the primary; ``maximum`` 0: no limit. ``evicted``: keys since it started.
    ``refusing``: why it takes no write now (memory, replicas, disk, read_only), none when it takes them.
    """

    version: str
    role: str
    uptime: int
    used: int
    maximum: int
    peak: int
    policy: str
    evicted: int
    clients: int
    refusing: str | None
    persistence_ok: bool
    last_save_at: int
    last_save_ok: bool
    append_only: bool
    append_only_ok: bool
    databases: tuple[DatabaseMemory, ...]
    replicas: tuple[Replica, ...]
    sentinels: tuple[SentinelSeen, ...]
    slow: tuple[SlowCommand, ...]
    faults: tuple[RedisFault, ...]


def memory_report(settings: Settings) -> RedisReport:
    """Everything about Redis that people ask, and what is wrong with it.

    The primary tells about itself; keys are measured on a replica where there is one, since that is the dear part.
    Bounded work: some 200 keys per database are measured. Raises ``Unavailable`` when Redis does not answer.
    """
    try:
        with connect(settings, Db.BROKER) as client:
            info: dict[str, Any] = client.info()
            slow = client.slowlog_get(16)
            refusing = refusal(client)
        databases = tuple(_databases(settings, info))
    except RedisError as error:
        raise Unavailable("Redis does not answer") from error
    replicas = tuple(
        Replica(address=f"{value['ip']}:{value['port']}", state=value["state"], lag=int(value.get("lag", 0)))
        for name, value in info.items()
        if name.startswith("slave") and isinstance(value, dict)
    )
    sentinels = tuple(_sentinels(settings))
    facts: dict[str, Any] = {
        "version": str(info.get("valkey_version") or info.get("redis_version", "")),
        "role": str(info.get("role", "")),
        "uptime": int(info.get("uptime_in_seconds", 0)),
        "used": int(info.get("used_memory", 0)),
        "maximum": int(info.get("maxmemory", 0)),
        "peak": int(info.get("used_memory_peak", 0)),
        "policy": str(info.get("maxmemory_policy", "")),
        "evicted": int(info.get("evicted_keys", 0)),
        "clients": int(info.get("connected_clients", 0)),
        "refusing": refusing,
        "last_save_at": int(info.get("rdb_last_save_time", 0)),
        "last_save_ok": info.get("rdb_last_bgsave_status") == "ok",
        "append_only": bool(info.get("aof_enabled")),
        "append_only_ok": info.get("aof_last_write_status", "ok") == "ok",
    }
    return RedisReport(
        **facts,
        persistence_ok=facts["last_save_ok"] and facts["append_only_ok"],
        databases=databases,
        replicas=replicas,
        sentinels=sentinels,
        slow=tuple(
            SlowCommand(
                at=int(entry["start_time"]),
                microseconds=int(entry["duration"]),
                command=" ".join(bytes(entry["command"]).decode(errors="replace").split(" ")[:2])[:120],
            )
            for entry in slow
        ),
        faults=tuple(_faults(facts, databases, replicas, sentinels)),
    )


def refusal(client: redis.Redis) -> str | None:
    """Why the server of ``client`` would take no message now, none when it would. It writes nothing.

    A server older than Redis 7 cannot be asked without writing, so none is answered then. Raises ``RedisError`` when
    it does not answer.
    """
    try:
        client.eval(_WRITE_PROBE, 0, _PROBE_ROOM)
    except RedisError as error:
        told = f"{type(error).__name__} {error}".upper()
        for reason, words in _REFUSALS.items():
            if any(word in told for word in words):
                return reason
        if "COMPIL" in told or "SCRIPT" in told:
            return None
        raise
    return None


# --- keys ------------------------------------------------------------------------------------------------------------
def _databases(settings: Settings, info: dict[str, Any]) -> list[DatabaseMemory]:
    databases = []
    for number in range(16):
        found = info.get(f"db{number}")
        known = number in BUDGETS
        if not found and not known:
            continue
        keys, expiring = (int(found["keys"]), int(found["expires"])) if found else (0, 0)
        size = 0
        if keys:
            with connect(settings, number, replica_ok=True) as client:
                size = _estimate(client, keys, _LARGE.get(Db(number), []) if known else []) + expiring * EXPIRY_BYTES
        databases.append(
            DatabaseMemory(
                db=number,
                name=Db(number).name.lower() if known else "reserved",
                keys=keys,
                expiring=expiring,
                bytes=size,
                budget=BUDGETS[Db(number)] if known else None,
            )
        )
    return databases


def _estimate(client: redis.Redis, keys: int, large: list[str]) -> int:
    """Bytes of all ``keys`` keys: every one is measured when there are few, else a random sample is scaled.

    Those named ``large`` are always measured and never scaled.
    """
    if keys <= _SAMPLE:
        names = set(list(client.scan_iter(count=_SAMPLE))[:_SAMPLE])
    else:
        with client.pipeline(transaction=False) as pipe:
            for _ in range(_SAMPLE):
                pipe.randomkey()
            names = {name for name in pipe.execute() if name is not None}
    known = {name.encode() for name in large}
    of_known, of_others = _sizes(client, sorted(known)), _sizes(client, sorted(names - known))
    others = keys - len(of_known)
    scaled = sum(of_others) / len(of_others) * others if of_others else 0.0
    return sum(of_known) + round(scaled)


def _sizes(client: redis.Redis, names: list[bytes]) -> list[int]:
    if not names:
        return []
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.memory_usage(name, samples=_NODES)
        # None: the key is not there, or has expired meanwhile.
        return [size for size in pipe.execute() if size is not None]


# --- Sentinels -------------------------------------------------------------------------------------------------------
def _sentinels(settings: Settings) -> list[SentinelSeen]:
    address = parse_address(settings)
    return [_sentinel(settings, host, port) for host, port in address.hosts] if address.sentinels else []


def _sentinel(settings: Settings, host: str, port: int) -> SentinelSeen:
    try:
        told = ask_sentinel(settings, host, port)
    except RedisError:
        return SentinelSeen(f"{host}:{port}", answers=False, primary="", others=0, quorum=0)
    return SentinelSeen(
        f"{host}:{port}",
        answers=True,
        primary=f"{told.get('ip', '')}:{told.get('port', '')}",
        others=int(told.get("num-other-sentinels", 0)),
        quorum=int(told.get("quorum", 0)),
    )


# --- what is wrong ---------------------------------------------------------------------------------------------------
def _faults(
    facts: dict[str, Any],
    databases: tuple[DatabaseMemory, ...],
    replicas: tuple[Replica, ...],
    sentinels: tuple[SentinelSeen, ...],
) -> list[RedisFault]:
    of_writes = _of_writes(facts, databases)
    of_memory = _of_memory(facts, databases)
    if any(one.code == "memory_full" for one in of_writes):
        # What is full is nearly full too; once is enough.
        of_memory = [one for one in of_memory if one.code != "memory_high"]
    return [
        *of_writes,
        *of_memory,
        *_of_policy(facts["policy"]),
        *_of_persistence(facts),
        *_of_replication(replicas, sentinels),
    ]


def _of_writes(facts: dict[str, Any], databases: tuple[DatabaseMemory, ...]) -> list[RedisFault]:
    # Of the broker's keys only the presence of workers expires: a few hundred bytes.
    expiring = any(one.expiring for one in databases if one.db != Db.BROKER)
    evictable = facts["policy"].startswith("allkeys") or (facts["policy"].startswith("volatile") and expiring)
    full = facts["maximum"] and facts["used"] >= _FULL * facts["maximum"] and not evictable
    if facts["refusing"] == "memory" or (full and facts["refusing"] is None):
        values = {"used": megabytes(facts["used"]), "maximum": megabytes(facts["maximum"])}
        return [
            RedisFault(
                "memory_full",
                "writes",
                True,
                f"memory is full ({values['used']} of {values['maximum']}) and nothing in it may be evicted: no "
                "message is taken; tasks are accepted and wait in SQL",
                "Nothing is lost, and all starts by itself once there is room: add workers if the broker is over its "
                "budget, remove keys that are not ours, or raise maxmemory.",
                values,
            )
        ]
    if facts["refusing"] is None:
        return []
    detail, remedy = _REFUSED[facts["refusing"]]
    return [RedisFault(f"refuses_{facts['refusing']}", "writes", True, detail, remedy, {})]


_REFUSED = {
    "replicas": (
        "the primary takes no writes: too few replicas follow it (min-replicas-to-write)",
        "Start the replicas, or see their logs; tasks are accepted meanwhile and start by themselves.",
    ),
    "disk": (
        "it takes no writes: its append-only file cannot be written",
        "Make room on its disk; tasks are accepted meanwhile and start by themselves.",
    ),
    "read_only": (
        "the server that answers is a replica and takes no writes",
        "If this lasts longer than a failover (15 s), see the Sentinels; tasks are accepted meanwhile.",
    ),
}


def _of_memory(facts: dict[str, Any], databases: tuple[DatabaseMemory, ...]) -> list[RedisFault]:
    found = []
    if not facts["maximum"]:
        found.append(
            RedisFault(
                "memory_unlimited",
                "memory",
                False,
                f"{megabytes(facts['used'])} used, no limit",
                "Set maxmemory, as redis/redis.conf does.",
                {"used": megabytes(facts["used"])},
            )
        )
    elif facts["used"] > MEMORY_HIGH * facts["maximum"]:
        values = {"used": megabytes(facts["used"]), "maximum": megabytes(facts["maximum"])}
        found.append(
            RedisFault(
                "memory_high",
                "memory",
                False,
                f"{values['used']} of {values['maximum']} used",
                "See which database is over its budget: `sicargabox redis show`.",
                values,
            )
        )
    for one in databases:
        if one.budget is not None and one.bytes > one.budget:
            values = {
                "db": str(one.db),
                "name": one.name,
                "used": megabytes(one.bytes),
                "budget": megabytes(one.budget),
            }
            found.append(
                RedisFault(
                    f"over_budget_{one.name}",
                    "memory",
                    False,
                    f"DB {one.db} ({one.name}) holds {values['used']} of {values['budget']}",
                    _WHEN_OVER[Db(one.db)],
                    values,
                )
            )
    return found


_WHEN_OVER = {
    Db.BROKER: "More waits than is worked off: add workers.",
    Db.RESULTS: "Lower SICARGABOX_RESULT_TTL_SECONDS; SQL keeps every result.",
    Db.CACHE: "See which addresses ask so much; counts expire within their limit's time.",
}


def _of_policy(policy: str) -> list[RedisFault]:
    if policy == POLICY:
        return []
    grave = policy.startswith("allkeys")
    return [
        RedisFault(
            "policy_evicts_queues" if grave else "policy_other",
            "policy",
            grave,
            f"{policy} deletes whole queues when memory is full" if grave else policy,
            f"Set {POLICY}, as redis/redis.conf does.",
            {"policy": policy},
        )
    ]


def _of_persistence(facts: dict[str, Any]) -> list[RedisFault]:
    if not facts["last_save_ok"]:
        code, grave, detail, remedy = (
            "save_failed",
            True,
            "its last save to disk failed",
            "See its log: a full disk or missing rights.",
        )
    elif not facts["append_only_ok"]:
        code, grave, detail, remedy = (
            "append_failed",
            True,
            "its append-only file could not be written",
            "See its log: a full disk or missing rights.",
        )
    elif not facts["append_only"]:
        code, grave, detail, remedy = (
            "no_append_only",
            False,
            "no append-only file: a restart forgets messages, which the scheduler then sends again",
            "Set appendonly yes, as redis/redis.conf does.",
        )
    else:
        return []
    return [RedisFault(code, "persistence", grave, detail, remedy, {})]


def _of_replication(replicas: tuple[Replica, ...], sentinels: tuple[SentinelSeen, ...]) -> list[RedisFault]:
    if not sentinels:
        return []
    found = []
    if not any(one.state == "online" for one in replicas):
        found.append(
            RedisFault(
                "no_replica",
                "replication",
                False,
                "no replica follows the primary: nothing can take its place",
                "Start the replicas, or see their logs.",
                {},
            )
        )
    silent = [one.address for one in sentinels if not one.answers]
    if silent:
        known = max((one.others + 1 for one in sentinels if one.answers), default=len(sentinels))
        values = {"silent": ", ".join(silent), "answering": str(len(sentinels) - len(silent)), "all": str(known)}
        # A failover needs the votes of most Sentinels, however small the quorum is.
        grave = 2 * (len(sentinels) - len(silent)) <= len(sentinels)
        found.append(
            RedisFault(
                "sentinels_silent",
                "replication",
                grave,
                f"Sentinels that do not answer: {values['silent']}" + ("; no failover is possible" if grave else ""),
                "Start them, or correct their addresses in SICARGABOX_REDIS_URL.",
                values,
            )
        )
    if len({one.primary for one in sentinels if one.answers}) > 1:
        found.append(
            RedisFault(
                "sentinels_disagree",
                "replication",
                False,
                "the Sentinels name different primaries",
                "A failover is going on; if this lasts, see their logs.",
                {},
            )
        )
    return found


def megabytes(size: int) -> str:
    """A size for people: 12.3 MB."""
    return f"{size / 1024 / 1024:.1f} MB"
