"""The tests' own tasks: one kind for each queue, run inside the real workers and accepted by the real API process."""

from __future__ import annotations

from pydantic import Field

from sicargabox_core.tasks.contracts import Payload, Queue, TaskSpec


class Work(Payload):
    """What to do. ``key`` names this piece of work in every ledger; ``children`` pieces are handed out at its end."""

    key: str = Field(max_length=80)
    seconds: float = Field(0.0, ge=0, le=60)
    children: int = Field(0, ge=0, le=20)


class Worked(Payload):
    """The attempt that got through."""

    attempt: int = 0


def _spec(queue: Queue) -> TaskSpec[Work, Worked]:
    # Five attempts: a task that several kills in a row strike must not end as if it had killed its workers.
    return TaskSpec(
        name=f"faults.work_{queue.value}",
        queue=queue,
        payload=Work,
        result=Worked,
        title="Prueba",
        time_limit=90.0,
        max_attempts=5,
    )


WORK: dict[Queue, TaskSpec[Work, Worked]] = {
    queue: _spec(queue) for queue in (Queue.ELASTICSEARCH, Queue.AI_GENERATION, Queue.LEARNING)
}
# An effect is a row here, written in the transaction that ends the task; nothing but the protocol keeps it single.
EFFECTS_TABLE = (
    "CREATE TABLE fault_effects (key text NOT NULL, task_id text NOT NULL, attempt int NOT NULL,"
    " at timestamptz NOT NULL DEFAULT clock_timestamp());"
    "CREATE INDEX ON fault_effects (key)"
)
