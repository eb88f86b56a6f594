"""Seconds from the start of a container until its process says that it is ready: ``python -m benchmarks.image_start``.

One line for each process of the images that ``make images`` has built (SICARGABOX_TEST_IMAGE_TAG names another tag),
on a read-only root, beside a PostgreSQL and a Redis server of its own. Processor time is told too, since the seconds of
a busy machine say little: it is all that the container's first process took until then. Needs a Docker daemon on this
machine (DOCKER_HOST) that gives containers the machine's network. Loads no image and asks nothing else of the product.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx

from tests.servers.ports import free_port, wait_until
from tests.servers.postgres import PostgresCluster, required_programs
from tests.servers.valkey import ValkeyServer
from tests.settings import REPOSITORY, machine

ROUNDS = 5
# Process, image, arguments, the end of the variable of its port.
PROCESSES = (
    ("api", "api", (), "PORT"),
    ("admin", "api", ("admin",), "ADMIN_PORT"),
    ("scheduler", "api", ("scheduler",), "WORKER_PORT"),
    ("indexer-worker", "indexer-worker", (), "WORKER_PORT"),
    ("ai-worker", "ai-worker", (), "WORKER_PORT"),
    ("learning-worker", "learning-worker", (), "WORKER_PORT"),
)


def main() -> None:
    """Prints a line for each process: median and maximum of its seconds, median of its processor time."""
    version = tomllib.loads((REPOSITORY / "core" / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    prefix, tag = machine().image_prefix, machine().image_tag or version
    postgres, redis = PostgresCluster(required_programs()), ValkeyServer()
    try:
        postgres.start()
        redis.start()
        servers = {"DATABASE_URL": postgres.create(), "REDIS_URL": redis.url}
        sys.stdout.write(f"{prefix}…:{tag}, {ROUNDS} rounds, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
        for name, image, arguments, port in PROCESSES:
            found = [_start(f"{prefix}{image}:{tag}", arguments, port, servers) for _ in range(ROUNDS)]
            seconds, processor = zip(*found, strict=True)
            sys.stdout.write(
                f"{name:16} ready after {statistics.median(seconds):5.2f} s (at most {max(seconds):5.2f}), "
                f"processor {statistics.median(processor):5.2f} s\n"
            )
            sys.stdout.flush()
    finally:
        redis.stop()
        postgres.stop()


def _start(image: str, arguments: tuple[str, ...], port_variable: str, servers: dict[str, str]) -> tuple[float, float]:
    port = free_port()
    settings = {
        **servers,
        "HOST": "127.0.0.1",
        "SECRET_KEY": "k" * 48,
        # Nobody answers there: an engine that is away keeps no process from being ready.
        "SEARCH_URL": "http://127.0.0.1:1",
        port_variable: str(port),
    }
    variables = [f"--env=SICARGABOX_{name}={value}" for name, value in settings.items()]
    folders = ("--tmpfs=/tmp", "--tmpfs=/run/sicargabox:uid=10001,gid=10001")
    made = _docker("create", "--network=host", "--read-only", *folders, *variables, image, *arguments)
    try:
        began = time.monotonic()
        _docker("start", made)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as client:
            wait_until(lambda: _ready(client), seconds=60, what=f"{image} is ready", interval=0.02)
        seconds = time.monotonic() - began
        pid = json.loads(_docker("inspect", made))[0]["State"]["Pid"]
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
        return seconds, sum(int(one) for one in ticks) / os.sysconf("SC_CLK_TCK")
    finally:
        _docker("rm", "--force", made)


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
