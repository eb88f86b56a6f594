"""Redis and Sentinel pods without Kubernetes: the chart's own start scripts, files and users on the machine's servers.

Each pod is a process with an address of the loopback network of its own, which takes the place of its name, so that all
keep the ports they have in a cluster. What a container starts anew is started by the test.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from tests.kubernetes.rendering import CHART
from tests.servers.ports import wait_until
from tests.servers.secured_redis import SENTINEL_USERS, USERS, program

PORT, SENTINEL_PORT = 6379, 26379
MEMBERS = range(3)
_ONLOOKER = "onlooker"


class RedisPods:
    """Three servers and three Sentinels by number; nothing runs before it is started."""

    def __init__(self) -> None:
        """Makes folders and passwords; skips the test (or fails it) where there is no redis-server."""
        program()
        if shutil.which("redis-cli") is None:
            raise AssertionError("redis-server is here and redis-cli is not")
        self.folder = Path(tempfile.mkdtemp(prefix="sicargabox-redis-pods-"))
        chance = random.SystemRandom()
        self._domain = f"{chance.randint(2, 250)}.{chance.randint(1, 250)}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for kind, users in (("redis", USERS), ("sentinel", SENTINEL_USERS)):
            (self.folder / "secrets" / kind).mkdir(parents=True)
            for user in users:
                # What Redis' own quoting must survive.
                (self.folder / "secrets" / kind / user).write_text(f'{kind}-{user} "quoted" \\ pässword')

    def stop(self) -> None:
        """Ends everything and removes its folder."""
        for name in list(self._processes):
            self.kill(*name.split("-"))
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- pods --------------------------------------------------------------------------------------------------------
    def name(self, kind: str, number: int) -> str:
        """What stands for the pod's host name."""
        return f"127.{self._domain}.{number + (11 if kind == 'redis' else 21)}"

    def _environment(self, kind: str, number: int) -> dict[str, str]:
        own = self.folder / f"{kind}-{number}"
        pod, _, domain = self.name(kind, number).partition(".")
        return {
            "PATH": os.environ["PATH"],
            "POD_NAME": pod,
            "POD_DOMAIN": domain,
            "MEMBERS": " ".join(f"{self.name('redis', one)}:{PORT}" for one in MEMBERS),
            "SENTINELS": " ".join(f"{self.name('sentinel', one)}:{SENTINEL_PORT}" for one in MEMBERS),
            "FIRST_PRIMARY": self.name("redis", 0),
            "QUEUES": "photos elasticsearch",
            "SCRIPTS": str(CHART / "files" / "scripts"),
            "CONFIG": str(own / "config"),
            "RUN": str(own / "run"),
            "DATA": str(own / "data"),
            "SECRETS": str(self.folder / "secrets" / ("redis" if kind == "redis" else "")),
            "SENTINEL_READER_PASSWORD_FILE": str(self.folder / "secrets" / "sentinel" / "reader"),
            "REDIS_HOST": self.name("redis", number),
            "SENTINEL_HOST": self.name("sentinel", number),
            # Of hand-over.sh.
            "REDIS_USER": "hand-over",
            "REDIS_PASSWORD_FILE": str(self.folder / "secrets" / "redis" / "hand-over"),
            "SENTINEL_USER": "hand-over",
            "SENTINEL_PASSWORD_FILE": str(self.folder / "secrets" / "sentinel" / "hand-over"),
        }

    def start(self, kind: str, number: int) -> None:
        """Starts a pod's first process with its volume as it is; it may not be ready for long."""
        own = self.folder / f"{kind}-{number}"
        for name in ("config", "run"):
            shutil.rmtree(own / name, ignore_errors=True)
        shutil.copytree(CHART / "files" / "redis", own / "config")
        for name in ("run", "data"):
            (own / name).mkdir(parents=True, exist_ok=True)
        for name in ("redis.conf", "sentinel.conf"):
            with (own / "config" / name).open("a") as file:
                file.write(f"\nbind {self.name(kind, number)}\n")
        with (own / "config" / "users.acl").open("a") as file:
            file.write(f"\nuser {_ONLOOKER} on nopass +ping +role +info +client|setname +acl|log\n")
        with (own / "log").open("ab") as log:
            self._processes[f"{kind}-{number}"] = subprocess.Popen(
                ["sh", str(CHART / "files" / "scripts" / f"start-{kind}.sh")],
                env=self._environment(kind, number),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=own / "data",
            )

    def kill(self, kind: str, number: int | str) -> None:
        """SIGKILL, as of a pod that is deleted with --force."""
        process = self._processes.pop(f"{kind}-{number}")
        process.kill()
        process.wait()

    def empty(self, kind: str, number: int) -> None:
        """Takes away what is on its volume."""
        shutil.rmtree(self.folder / f"{kind}-{number}" / "data")

    def run(self, script: str, kind: str, number: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs another script of the chart inside a pod."""
        folder = "redis" if script == "hand-over.sh" else "scripts"
        return subprocess.run(
            ["sh", str(CHART / "files" / folder / script), *arguments],
            env=self._environment(kind, number),
            capture_output=True,
            text=True,
            check=False,
        )

    def ready(self, kind: str, number: int) -> bool:
        """What the readiness probe says."""
        return self.run(f"probe-{kind}.sh", kind, number, "ready").returncode == 0

    def log(self, kind: str, number: int) -> str:
        """What it has said so far."""
        return (self.folder / f"{kind}-{number}" / "log").read_text()

    # --- what is -----------------------------------------------------------------------------------------------------
    @contextmanager
    def client(self, kind: str, number: int, user: str = _ONLOOKER) -> Iterator[redis.Redis]:
        """Signed in as a user."""
        password = "" if user == _ONLOOKER else (self.folder / "secrets" / kind / user).read_text()
        port = PORT if kind == "redis" else SENTINEL_PORT
        with redis.Redis(
            host=self.name(kind, number),
            port=port,
            username=user,
            password=password,
            socket_timeout=1,
            socket_connect_timeout=1,
            decode_responses=True,
        ) as client:
            yield client

    def role(self, number: int) -> str:
        """``master``, ``slave``, or nothing when it does not answer."""
        try:
            with self.client("redis", number) as client:
                told: Any = client.role()
                return str(told[0])
        except RedisError:
            return ""

    def primaries(self) -> list[int]:
        """Those that say they are."""
        return [one for one in MEMBERS if self.role(one) == "master"]

    def told(self, sentinel: int) -> dict[str, str]:
        """What a Sentinel says of the primary; nothing when it does not answer."""
        try:
            with self.client("sentinel", sentinel, "reader") as client:
                answer: Any = client.execute_command("SENTINEL", "MASTER", "mymaster")
        except RedisError:
            return {}
        return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))

    def whole(self) -> bool:
        """A primary with two replicas in sync, and three Sentinels that agree on it."""
        primaries = self.primaries()
        if len(primaries) != 1 or not all(self.ready("redis", one) for one in MEMBERS):
            return False
        told = [self.told(one) for one in MEMBERS]
        return all(
            one.get("ip") == self.name("redis", primaries[0])
            and str(one.get("num-slaves")) == "2"
            and str(one.get("num-other-sentinels")) == "2"
            and "down" not in str(one.get("flags"))
            for one in told
        )

    def wait_whole(self, seconds: float = 60) -> int:
        """The primary's number, once all is well."""
        wait_until(self.whole, seconds=seconds, what="a primary, two replicas and three Sentinels", interval=0.2)
        return self.primaries()[0]

    @contextmanager
    def never_two_primaries(self) -> Iterator[None]:
        """Looks all the while and fails when two say that they are primary at the same look."""
        stop, seen = threading.Event(), []

        def look() -> None:
            while not stop.is_set():
                if len(found := self.primaries()) > 1:
                    seen.append((time.monotonic(), found))
                stop.wait(0.05)

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
        assert seen == []
