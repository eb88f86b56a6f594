"""Which processes `sicargabox run` starts, by which command lines and configuration files. It starts nothing.

Secrets never stand on a command line, where every user of the machine can read them: they are in files of mode 0600.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from sicargabox_core.laptop.folders import Folders, kept_secret, write_private
from sicargabox_core.laptop.preflight import redis_server
from sicargabox_core.settings import Settings

FLOWER_USER = "flower"
REDIS_CONF = Path(__file__).with_name("redis.conf")


@dataclass(frozen=True)
class Program:
    """A process to keep running. ``server``: the others need it, so it starts first and ends last."""

    name: str
    command: tuple[str, ...]
    server: bool = False


def programs(settings: Settings, folders: Folders) -> list[Program]:
    """Every process of the product on one machine, in the order of their start."""
    redis = [Program("redis", _redis(settings, folders), server=True)] if settings.embedded_redis else []
    return [
        *redis,
        Program("api", _sicargabox("api")),
        Program("admin", _sicargabox("admin")),
        Program("scheduler", _sicargabox("scheduler")),
        # Two children: a housekeeping task need not wait for a rebuild.
        Program("indexer-worker", _worker("sicargabox_indexer.app", "elasticsearch,celery", 2)),
        Program("ai-worker", _worker("sicargabox_ai.app", "ai_generation", 2)),
        Program("learning-worker", _worker("sicargabox_learning.app", "learning", 1)),
        Program("flower", _flower(folders)),
    ]


def _sicargabox(command: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name("sicargabox")), command)


def _worker(app: str, queues: str, children: int) -> tuple[str, ...]:
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
    """Writes the configuration files that the command lines name."""
    redis = [f'include "{REDIS_CONF}"', "bind 127.0.0.1", f"port {settings.redis_port}", f'dir "{folders.redis}"']
    if password := settings.redis_password.get_secret_value():
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
