"""What can happen to workers: killed, stopped and frozen, whole or in part, while they have tasks in hand."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time

from sicargabox_core.settings import Settings
from tests.faults.books import Run
from tests.faults.faults import Fault, fault
from tests.faults.installation import WORKERS
from tests.faults.scene import Scene

# Repetitions take the three kinds of workers in turn.
_TURNS = itertools.cycle(name for name, *_ in WORKERS)


class _Worker(Fault):
    order = 30
    resumes_unhealed = True

    def __init__(self) -> None:
        self.victim = next(_TURNS)


@fault
class WorkerKilled(_Worker):
    """As when its node dies: parent and children at once. What it had in hand is due again when the leases end."""

    name = "worker-killed"
    title = "SIGKILL of a worker"

    def inject(self, scene: Scene) -> None:
        scene.installation.kill(self.victim, whole=True)


@fault
class ChildKilled(_Worker):
    """As when the kernel's out-of-memory killer takes one process of a container."""

    name = "child-killed"
    title = "SIGKILL of a worker's child"

    def inject(self, scene: Scene) -> None:
        scene.installation.kill_child(self.victim)


@fault
class WorkerStopped(_Worker):
    """As a rolling update does it. The task of twelve seconds outlasts the drain and is given back."""

    name = "worker-stopped"
    title = "SIGTERM of a worker under load"
    own_clock = "the queue has no other worker, so its drain of 8 s and the start of the next are in it"
    # Celery's own way out after the drain.
    grace = 15.0
    took = 0.0
    stopped: subprocess.Popen[bytes] | None = None

    def inject(self, scene: Scene) -> None:
        self.stopped = scene.installation.programs[self.victim].process
        began = time.monotonic()
        scene.installation.kill(self.victim, signal.SIGTERM)
        drain = Settings.model_fields["drain_seconds"].default
        try:
            self.stopped.wait(timeout=drain + self.grace)
        except subprocess.TimeoutExpired:
            # The kubelet's answer; inspect() tells.
            scene.installation.kill(self.victim, whole=True)
            return
        self.took = time.monotonic() - began

    def inspect(self, scene: Scene) -> list[str]:
        return [] if self.took else ["the worker did not end within its drain and grace"]


@fault
class WorkerFrozen(_Worker):
    """Frozen past its leases while another does its work, then woken: it must not write over its successor."""

    name = "worker-frozen"
    title = "SIGSTOP of a worker for 20 s, past its leases, beside a second one"
    hold_seconds = 20.0
    second = ""
    frozen_at = 0.0

    def inject(self, scene: Scene) -> None:
        self.second = scene.installation.start_beside(self.victim)
        scene.installation.order("long")
        scene.sleep(1.0)
        self.frozen_at = time.time()
        self.frozen = set(scene.installation.children(self.victim))
        scene.installation.freeze(self.victim)

    def heal(self, scene: Scene) -> None:
        scene.installation.thaw(self.victim)
        if self.second:
            # Awake beside its successor for a while: what it still writes must be refused.
            scene.sleep(3.0)
            scene.installation.end_beside(self.second)

    def inspect(self, scene: Scene) -> list[str]:
        return [] if any(map(self._overtaken, scene.books.runs.values())) else ["the freeze overtook no task"]

    def _overtaken(self, runs: list[Run]) -> bool:
        begun = [run for run in runs if run.what == "begin"]
        return any(run.pid in self.frozen for run in begun) and begun[-1].at > self.frozen_at


@fault
class WorkerKilledAgainAndAgain(_Worker):
    """Tasks of at most two seconds get through between two kills; longer ones would need more time than they have."""

    name = "worker-killed-every-10-s"
    title = "A worker killed every 10 s, four times"
    long_tasks = False
    resumes_unhealed = False
    own_clock = "counted from the last kill"
    kills, pause_seconds = 4, 10.0

    def inject(self, scene: Scene) -> None:
        for number in range(self.kills):
            if number:
                scene.sleep(self.pause_seconds)
            scene.installation.kill(self.victim, whole=True)
