"""Which processes `sicargabox run` starts, by which command lines and configuration files. It starts nothing.

Secrets never stand on a command line, where every user of the machine can read them: they are in files of mode 0600.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sicargabox_core.laptop.folders import Folders, kept_secret, write_private
from sicargabox_core.laptop.preflight import health_ports, redis_server
from sicargabox_core.settings import ENV_PREFIX, Settings

FLOWER_USER = "flower"
# Everything must have ended 10 s after Ctrl-C: 7 s for the programs, then 2 s at most (0.2 s as a rule) for the servers
# they write to; the rest is supervisord's own ticks of 1 s.
PROGRAM_STOP_SECONDS = 7
SERVER_STOP_SECONDS = 2
# What ends sooner than this is tried again after 1 s, 2 s, 3 s …; what ends later, at once. A program whose import
# fails was seen to take 1.3 s to say so, and then to be started again without a pause for ever.
PROGRAM_STEADY_SECONDS = 5
SERVER_STEADY_SECONDS = 1
# A worker that drains needs this long to hand its claims back before it is killed.
_SECONDS_TO_HAND_BACK = 2.0
REDIS_CONF = Path(__file__).with_name("redis.conf")

# Name, Celery application, queues, child processes. The indexer-worker has two children so that housekeeping never
# waits for a rebuild; the ai-worker has two because its chunks are many.
_WORKERS = (
    ("indexer-worker", "sicargabox_indexer.app", "elasticsearch,celery", 2),
    ("ai-worker", "sicargabox_ai.app", "ai_generation", 2),
    ("learning-worker", "sicargabox_learning.app", "learning", 1),
)


@dataclass(frozen=True)
class Program:
    """A process to keep running.

    ``environment`` is added to what all share. ``server``: the others need it, so it starts first and ends last.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    server: bool = False


def programs(settings: Settings, folders: Folders) -> list[Program]:
    """Every process of the product on one machine, in the order of their start."""
    redis = [Program("redis", _redis(settings, folders), server=True)] if settings.embedded_redis else []
    return [
        *redis,
        Program("api", _sicargabox("api")),
        Program("admin", _sicargabox("admin")),
        Program("scheduler", _sicargabox("scheduler"), _port(settings, 0)),
        *(
            Program(name, _celery_worker(app, queues, children), _worker_environment(settings, folders, name, number))
            for number, (name, app, queues, children) in enumerate(_WORKERS, start=1)
        ),
        Program("flower", _flower(folders)),
    ]


def environment(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of every process: ours, with what must not depend on the folder it starts in."""
    drain = min(settings.drain_seconds, PROGRAM_STOP_SECONDS - _SECONDS_TO_HAND_BACK)
    return {
        **inherited,
        f"{ENV_PREFIX}DATA_DIR": str(settings.data_dir.absolute()),
        f"{ENV_PREFIX}DRAIN_SECONDS": f"{drain:g}",
        # Log files are read while the process runs.
        "PYTHONUNBUFFERED": "1",
    }


def _worker_environment(settings: Settings, folders: Folders, name: str, number: int) -> dict[str, str]:
    # Each prefork worker sums its children's counts in a folder of its own.
    return {"PROMETHEUS_MULTIPROC_DIR": str(_metrics_folder(folders, name)), **_port(settings, number)}


def _port(settings: Settings, number: int) -> dict[str, str]:
    return {f"{ENV_PREFIX}WORKER_PORT": str(health_ports(settings)[number])}


def _metrics_folder(folders: Folders, name: str) -> Path:
    return folders.run / "metrics" / name


def _sicargabox(command: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name("sicargabox")), command)


def _celery_worker(app: str, queues: str, children: int) -> tuple[str, ...]:
    name = f"{queues.partition(',')[0]}@%h"
    return (
        *(sys.executable, "-m", "celery", "-A", app, "worker", "-Q", queues, "-n", name, "-c", str(children)),
        *("--pool", "prefork", "--without-gossip", "--without-mingle", "--loglevel", "INFO"),
    )


def _redis(settings: Settings, folders: Folders) -> tuple[str, ...]:
    return (str(redis_server(settings)), str(_redis_configuration(folders)))


def _flower(folders: Folders) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "celery", "-A", "sicargabox_api.flower_app", "flower"),
        f"--conf={_flower_configuration(folders)}",
    )


def configure(settings: Settings, folders: Folders) -> None:
    """Writes the configuration files that the command lines name, and makes the folders the environment names."""
    for name, *_ in _WORKERS:
        _metrics_folder(folders, name).mkdir(mode=0o700, parents=True, exist_ok=True)

    redis = [f'include "{REDIS_CONF}"', "bind 127.0.0.1", f"port {settings.redis_port}", f'dir "{folders.redis}"']
    if password := settings.effective_redis_password:
        redis.append(f"requirepass {_quoted(password)}")
    write_private(_redis_configuration(folders), "\n".join(redis) + "\n")

    password = kept_secret(flower_password_file(folders))
    flower = {
        "address": settings.host,
        "port": settings.flower_port,
        "basic_auth": [f"{FLOWER_USER}:{password}"],
    }
    write_private(_flower_configuration(folders), "".join(f"{key} = {value!r}\n" for key, value in flower.items()))


def flower_password_file(folders: Folders) -> Path:
    """Where Flower's generated password is kept."""
    return folders.run / "flower-password"


def _flower_configuration(folders: Folders) -> Path:
    return folders.run / "flower.py"


def _redis_configuration(folders: Folders) -> Path:
    return folders.run / "redis.conf"


def _quoted(text: str) -> str:
    # Redis reads C-like escapes inside double quotes.
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'
