"""The probe tasks' contracts, known to the tests that submit them and to the worker that misbehaves."""

from __future__ import annotations

from typing import Literal

from sicargabox_core.tasks.contracts import Payload, Queue, TaskSpec


class Act(Payload):
    """What to do: ``how`` names the behaviour, ``seconds`` how long it lasts, ``note`` is echoed and counted.

    ``once``: only the first attempt takes ``seconds``, so a test need not guess how long another worker needs to start.
    """

    how: Literal[
        "return",
        "sleep",
        "hang",
        "raise",
        "refuse",
        "retry",
        "exit",
        "die",
        "die_once",
        "too_large",
        "bad_effect",
        "parent",
        "publish",
        "grow",
        "leave",
        "freeze",
    ] = "return"
    seconds: float = 0.0
    once: bool = False
    note: str = ""
    children: int = 0


class Acted(Payload):
    """Echo of the note, and the attempt that got through."""

    note: str = ""
    attempt: int = 0
    done: int = 0


def _spec(queue: Queue, *, time_limit: float = 60.0) -> TaskSpec[Act, Acted]:
    name = f"probe.act_{queue.value}" + ("" if time_limit == 60.0 else "_limited")
    return TaskSpec(name=name, queue=queue, payload=Act, result=Acted, title="Prueba", time_limit=time_limit)


ACT = _spec(Queue.ELASTICSEARCH)
ACT_LIMITED = _spec(Queue.ELASTICSEARCH, time_limit=1.0)
ACT_AI = _spec(Queue.AI_GENERATION)
ACT_LEARNING = _spec(Queue.LEARNING)
# Nobody handles it: what a newer release may have left in a queue.
UNKNOWN = TaskSpec(name="probe.of_the_future", queue=Queue.ELASTICSEARCH, payload=Act, result=Acted, title="Futuro")
