"""What can happen to the processes that accept work and to those that look after it."""

from __future__ import annotations

import time

from tests.faults.faults import Fault, fault
from tests.faults.installation import API, SCHEDULERS
from tests.faults.scene import Scene
from tests.servers.ports import wait_until


@fault
class SchedulersKilled(Fault):
    """Both at once, in the middle of whatever pass they make."""

    name = "schedulers-killed"
    title = "SIGKILL of both schedulers"
    order = 40
    resumes_unhealed = True

    def inject(self, scene: Scene) -> None:
        for name in SCHEDULERS:
            scene.installation.kill(name, whole=True)


@fault
class SchedulerFrozen(Fault):
    """What it has in hand when it stops it goes on with fifteen seconds later, beside the other."""

    name = "scheduler-frozen"
    title = "SIGSTOP of a scheduler for 15 s"
    order = 41
    hold_seconds = 15.0
    resumes_unhealed = True

    def inject(self, scene: Scene) -> None:
        scene.installation.freeze(SCHEDULERS[0])

    def heal(self, scene: Scene) -> None:
        scene.installation.thaw(SCHEDULERS[0])


@fault
class ApiKilledBeforePublishing(Fault):
    """The row is committed, no message was sent, nobody was answered; other requests are cut off wherever they are."""

    name = "api-killed-before-publishing"
    title = "The API killed between commit and publish"
    order = 42
    errors_allowed = True
    resumes_unhealed = True
    killed_at = 0.0

    def inject(self, scene: Scene) -> None:
        installation = scene.installation
        victim = installation.programs[API].process
        installation.let_die(API)
        installation.die_order.touch()
        wait_until(lambda: victim.poll() is not None, seconds=30, what="the API dies before it publishes")
        self.killed_at = time.time()

    def heal(self, scene: Scene) -> None:
        scene.installation.die_order.unlink(missing_ok=True)

    def inspect(self, scene: Scene) -> list[str]:
        asked_again = [one.id for one in scene.books.accepted if one.tries > 1 and one.at > self.killed_at]
        with scene.installation.sql() as cursor:
            cursor.execute(
                "SELECT count(*) FROM tasks WHERE id = ANY(%s) AND created_at < to_timestamp(%s)",
                (asked_again, self.killed_at),
            )
            committed_before = int(cursor.fetchone()[0])
        return [] if committed_before else ["no task was committed by the API that died"]
