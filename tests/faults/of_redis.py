"""What can happen to Redis and its Sentinels. Nobody's process of ours is hurt: no task may be executed twice."""

from __future__ import annotations

from tests.faults.faults import Fault, fault
from tests.faults.scene import Scene


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
        redis = scene.installation.redis
        self.primary = redis.primary
        with redis.sentinel(redis.sentinel_ports[0]) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", "mymaster")

    def heal(self, scene: Scene) -> None:
        scene.installation.redis.wait_promoted(self.primary)
        scene.installation.redis.wait_whole()
