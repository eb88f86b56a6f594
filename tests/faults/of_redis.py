"""What can happen to Redis and its Sentinels. Nobody's process of ours is hurt: no task may be executed twice."""

from __future__ import annotations

import contextlib
import os
import subprocess

import redis as redis_client
from redis.exceptions import OutOfMemoryError

from tests.faults.faults import Fault, fault
from tests.faults.installation import RESTART_SECONDS
from tests.faults.scene import Scene
from tests.servers.secured_redis import SHIPPED

_MEGABYTE = 1024 * 1024


class _Redis(Fault):
    """After each of these Redis must be whole again."""

    order = 10
    resumes_unhealed = True


@fault
class PrimaryKilled(_Redis):
    """A replica is promoted; the dead one comes back as a replica."""

    name = "primary-killed"
    title = "SIGKILL of the Redis primary"
    primary = 0

    def inject(self, scene: Scene) -> None:
        self.primary = scene.installation.redis.primary
        scene.installation.redis.kill(self.primary)

    def heal(self, scene: Scene) -> None:
        redis = scene.installation.redis
        if self.primary and not redis.running(self.primary):
            redis.wait_promoted(self.primary)
            redis.restart(self.primary)
        redis.wait_whole()


@fault
class PrimaryFrozen(_Redis):
    """It keeps its connections and comes back believing that it is the primary."""

    name = "primary-frozen"
    title = "SIGSTOP of the Redis primary for 15 s"
    hold_seconds = 15.0
    primary = 0

    def inject(self, scene: Scene) -> None:
        self.primary = scene.installation.redis.primary
        scene.installation.redis.freeze(self.primary)

    def heal(self, scene: Scene) -> None:
        redis = scene.installation.redis
        if self.primary:
            redis.thaw(self.primary)
        redis.wait_whole()

    def inspect(self, scene: Scene) -> list[str]:
        if scene.installation.redis.primary == self.primary:
            return ["the frozen primary was never replaced"]
        return []


@fault
class FailoverUnprepared(_Redis):
    """The old primary takes writes until it is told, and drops them then."""

    name = "failover-unprepared"
    title = "`SENTINEL FAILOVER`, unprepared"
    primary = 0

    def inject(self, scene: Scene) -> None:
        # As the control: with an empty queue nothing could be lost.
        scene.pile_up()
        redis = scene.installation.redis
        self.primary = redis.primary
        with redis.sentinel(redis.sentinel_ports[0]) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", "mymaster")

    def heal(self, scene: Scene) -> None:
        scene.installation.redis.wait_promoted(self.primary)
        scene.installation.redis.wait_whole()


@fault
class FailoverPrepared(_Redis):
    """As a pod's preStop hook does it: writes are held, roles change, then the old primary is stopped."""

    name = "failover-prepared"
    title = "Prepared failover (`redis/hand-over.sh`), then SIGTERM"
    needs = ("redis-cli",)
    primary = 0
    said = ""

    def inject(self, scene: Scene) -> None:
        redis = scene.installation.redis
        self.primary = redis.primary
        passwords = redis.folder / "passwords"
        environment = os.environ | {
            "REDIS_PORT": str(self.primary),
            "REDIS_USER": "hand-over",
            "REDIS_PASSWORD_FILE": str(passwords / "redis" / "hand-over"),
            "SENTINELS": " ".join(f"localhost:{port}" for port in redis.sentinel_ports),
            "SENTINEL_USER": "hand-over",
            "SENTINEL_PASSWORD_FILE": str(passwords / "sentinels" / "hand-over"),
        }
        done = subprocess.run(
            [str(SHIPPED / "hand-over.sh")], env=environment, capture_output=True, text=True, check=False
        )
        self.said = f"{done.returncode}: {done.stdout}{done.stderr}"
        redis.terminate(self.primary)

    def heal(self, scene: Scene) -> None:
        redis = scene.installation.redis
        if self.primary and not redis.running(self.primary):
            redis.restart(self.primary)
        redis.wait_whole()

    def inspect(self, scene: Scene) -> list[str]:
        return [] if self.said.startswith("0: handed over") else [f"the hook ended with {self.said}"]


@fault
class SentinelsKilled(_Redis):
    """No failover is possible meanwhile; work goes on all the same."""

    name = "sentinels-killed"
    title = "Two of three Sentinels killed"
    hold_seconds = 5.0

    def inject(self, scene: Scene) -> None:
        redis = scene.installation.redis
        for port in redis.sentinel_ports[:2]:
            redis.kill(port)

    def heal(self, scene: Scene) -> None:
        redis = scene.installation.redis
        for port in redis.sentinel_ports:
            if not redis.running(port):
                redis.restart(port)
        redis.wait_whole()


@fault
class Flushed(_Redis):
    """Every message is gone, with its acknowledgement, its result and who is present."""

    name = "flushall"
    title = "`FLUSHALL` with a backlog"

    def inject(self, scene: Scene) -> None:
        scene.pile_up()
        redis = scene.installation.redis
        with redis.operator(redis.primary) as client:
            client.flushall()


class _AllDown(_Redis):
    """All servers end at once and are back a second later, roles unchanged; the Sentinels live."""

    empty = False
    primary = 0

    def down(self, scene: Scene) -> None:
        raise AssertionError("a kind of end is missing")

    def inject(self, scene: Scene) -> None:
        self.primary = scene.installation.redis.primary
        scene.pile_up()
        self.down(scene)
        scene.sleep(RESTART_SECONDS)
        self._up(scene)

    def heal(self, scene: Scene) -> None:
        self._up(scene)
        scene.installation.redis.wait_whole()

    def _up(self, scene: Scene) -> None:
        redis = scene.installation.redis
        for port in sorted(redis.ports, key=lambda port: port != self.primary):
            if not redis.running(port):
                redis.restart(port, empty=self.empty)


@fault
class AllWiped(_AllDown):
    """As when the volumes are lost."""

    name = "all-wiped"
    title = "All Redis servers killed, back with empty disks"
    empty = True

    def down(self, scene: Scene) -> None:
        for port in scene.installation.redis.ports:
            scene.installation.redis.kill(port)


@fault
class AllRestarted(_AllDown):
    """What was written is there again."""

    name = "all-restarted"
    title = "All Redis servers restarted, data kept (AOF)"
    canary = "sicargabox:faults"

    def down(self, scene: Scene) -> None:
        redis = scene.installation.redis
        with redis.operator(self.primary) as client:
            client.set(self.canary, "kept")
        for port in redis.ports:
            redis.terminate(port)

    def inspect(self, scene: Scene) -> list[str]:
        redis = scene.installation.redis
        with redis.operator(redis.primary) as client:
            kept = client.get(self.canary)
            client.delete(self.canary)
        return [] if kept == "kept" else ["what was written before the restart is gone"]


@fault
class MemoryFull(_Redis):
    """Nothing that may be evicted is left; workers run on. Counted from when there is memory again."""

    name = "memory-full"
    title = "Redis' memory full for 15 s"
    hold_seconds = 15.0
    resumes_unhealed = False
    own_clock = "counted from when there is memory again"
    canary = "sicargabox:faults"
    filler = "sicargabox:filler"
    waiting = 50
    found = 0
    refused = False

    def inject(self, scene: Scene) -> None:
        redis = scene.installation.redis
        with redis.operator(redis.primary) as client:
            client.delete(self.canary)
            client.rpush(self.canary, *range(self.waiting))
            client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 4 * _MEGABYTE)
            self._fill(client)
        scene.pile_up()

    def _fill(self, client: redis_client.Redis) -> None:
        for size in (_MEGABYTE // 4, 4096, 64):
            for number in range(5000):
                try:
                    client.set(f"{self.filler}:{size}:{number}", "x" * size)
                except OutOfMemoryError:
                    self.refused = True
                    break

    def heal(self, scene: Scene) -> None:
        redis = scene.installation.redis
        for port in redis.ports:
            with redis.operator(port) as client:
                client.config_set("maxmemory", "256mb")
        with redis.operator(redis.primary) as client:
            self.found = int(client.llen(self.canary))
            client.delete(self.canary, *client.scan_iter(f"{self.filler}:*", count=1000))
        redis.wait_whole()

    def inspect(self, scene: Scene) -> list[str]:
        wrong = [] if self.refused else ["Redis was never full"]
        return wrong if self.found == self.waiting else [*wrong, f"a queue lost {self.waiting - self.found} messages"]


@fault
class PrimaryCutOff(_Redis):
    """It lives and hears nobody: clients' connections are half open, and it believes that it is the primary."""

    name = "primary-cut-off"
    title = "The Redis primary cut off the network for 20 s"
    needs = ("root", "iptables")
    hold_seconds = 20.0
    primary = 0

    def inject(self, scene: Scene) -> None:
        self.primary = scene.installation.redis.primary
        scene.installation.redis.cut_off(self.primary)

    def heal(self, scene: Scene) -> None:
        redis = scene.installation.redis
        if self.primary:
            redis.join(self.primary)
        redis.wait_whole()

    def inspect(self, scene: Scene) -> list[str]:
        if scene.installation.redis.primary == self.primary:
            return ["the server that was cut off was never replaced"]
        return []


@fault
class DiskFull(_Redis):
    """Redis refuses writes and PING when its AOF cannot be written (MISCONF), so the Sentinels take it for dead."""

    name = "disk-full"
    title = "The disk of the Redis primary full for 15 s"
    needs = ("root",)
    hold_seconds = 15.0
    primary = 0

    def inject(self, scene: Scene) -> None:
        redis = scene.installation.redis
        self.primary = redis.primary
        with (redis.disks[self.primary] / "filler").open("wb", buffering=0) as filler:
            with contextlib.suppress(OSError):
                while True:
                    filler.write(b"\0" * _MEGABYTE)
            with contextlib.suppress(OSError):
                while True:
                    filler.write(b"\0" * 512)

    def heal(self, scene: Scene) -> None:
        redis = scene.installation.redis
        if self.primary:
            (redis.disks[self.primary] / "filler").unlink(missing_ok=True)
        redis.wait_whole()

    def inspect(self, scene: Scene) -> list[str]:
        log = (scene.installation.redis.folder / str(self.primary) / "log").read_text()
        return [] if "while writing to the AOF" in log else ["Redis never met the full disk"]
