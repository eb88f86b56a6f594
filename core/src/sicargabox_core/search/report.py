"""How the index is and what its tasks last did: one report for the staff page, the API and the command line.

Also the one way in which people ask to delete the index, so that each of them refuses the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sicargabox_core.errors import Conflict, Unavailable
from sicargabox_core.search.engine import EngineStatus, SearchEngine
from sicargabox_core.tasks.contracts import (
    AUDIT_INDEX,
    DELETE_INDEX,
    FINAL_STATES,
    REBUILD_INDEX,
    DeleteIndex,
    State,
)
from sicargabox_core.tasks.service import TaskService
from sicargabox_core.tasks.store import Submission, TaskView

_OF_THE_WHOLE = (REBUILD_INDEX.name, AUDIT_INDEX.name, DELETE_INDEX.name)
_ENDED = sorted(FINAL_STATES)
_UNFINISHED = sorted(set(State) - FINAL_STATES)
# One of each kind, one more rebuild that waits for the one that runs, and room for rows of other releases.
_MOST_RUNNING = 10


@dataclass(frozen=True, slots=True)
class IndexReport:
    """The engine's status and the tasks of the whole index: those unfinished, and of each kind the last that ended.

    ``audit_outdated``: what the audit looked at does not serve any more.
    """

    status: EngineStatus
    running: tuple[TaskView, ...]
    last_rebuild: TaskView | None
    last_audit: TaskView | None
    audit_outdated: bool


def index_report(engine: SearchEngine, tasks: TaskService) -> IndexReport:
    """The report as of now; an engine that is away is a finding in it, not an error."""
    status = engine.status()
    running = tasks.list(states=_UNFINISHED, names=_OF_THE_WHOLE, limit=_MOST_RUNNING).items
    audit = _last(tasks, AUDIT_INDEX.name)
    return IndexReport(
        status=status,
        running=tuple(tasks.get(task.id) if task.state is State.STARTED else task for task in running),
        last_rebuild=_last(tasks, REBUILD_INDEX.name),
        last_audit=audit,
        audit_outdated=audit is not None and _outdated(audit, status),
    )


def request_delete(
    engine: SearchEngine,
    tasks: TaskService,
    generation: str,
    *,
    by: str,
    request_id: str | None = None,
    idempotency_key: str | None = None,
) -> Submission:
    """Starts the task that deletes the index, if ``generation`` serves; the task looks again before it removes.

    Raises ``Conflict`` (field ``generation``) when another or none serves, ``Unavailable`` when the engine does not
    answer, and what ``TaskService.submit`` raises.
    """
    # A request sent again is answered by its task, though the index it named is gone by now.
    known = idempotency_key is not None and tasks.key_is_known(
        DELETE_INDEX, initiated_by=by, idempotency_key=idempotency_key
    )
    if not known and what_serves(engine.status()) != generation:
        raise Conflict(
            "another generation serves than the one that was named",
            field="generation",
            remedy="Look at the index again, and name the generation that serves now.",
        )
    return tasks.submit(
        DELETE_INDEX,
        DeleteIndex(generation=generation),
        initiated_by=by,
        request_id=request_id,
        idempotency_key=idempotency_key,
    )


def what_serves(status: EngineStatus) -> str:
    """The generation that serves; raises ``Unavailable`` when nobody can say, ``Conflict`` when there is none."""
    if status.health == "away":
        raise Unavailable(
            status.problem or "the search engine does not answer", remedy="Nothing was deleted; try again later."
        )
    if status.fault == "several_indexes":
        raise Conflict(status.problem or "several indexes serve", field="generation")
    if status.generation is None:
        raise Conflict("there is no index to delete", field="generation", remedy="Nothing needs to be done.")
    return status.generation


def _last(tasks: TaskService, name: str) -> TaskView | None:
    return next(iter(tasks.list(states=_ENDED, names=[name], limit=1).items), None)


def _outdated(audit: TaskView, status: EngineStatus) -> bool:
    if status.health == "away" or audit.started_at is None:
        return False
    if status.built_at is None:
        return True
    return audit.started_at < datetime.fromisoformat(status.built_at)
