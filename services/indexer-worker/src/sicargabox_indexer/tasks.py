"""What the indexer-worker does: rebuild, update, audit and delete the search index."""

from __future__ import annotations

from sqlalchemy.orm import Session

from sicargabox_core.accounts import audit as audit_trail
from sicargabox_core.errors import TaskFailed, Unavailable
from sicargabox_core.search import indexing
from sicargabox_core.search.service import make_engine
from sicargabox_core.tasks import views
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import (
    AUDIT_INDEX,
    DELETE_INDEX,
    REBUILD_INDEX,
    SEARCH_NO_OP,
    UPDATE_LINES,
    AuditIndex,
    AuditIndexResult,
    DeleteIndex,
    DeleteIndexResult,
    RebuildIndex,
    RebuildIndexResult,
    State,
    UpdateLines,
    UpdateLinesResult,
)
from sicargabox_core.tasks.trial import no_op
from sicargabox_core.tasks.worker import handles
from sicargabox_indexer.app import app

_UNFINISHED = (State.PENDING, State.RETRY, State.STARTED)

handles(app, SEARCH_NO_OP)(no_op)


@handles(app, REBUILD_INDEX)
def rebuild_index(_payload: RebuildIndex, ctx: TaskContext) -> RebuildIndexResult:
    """Builds a generation named by task and attempt, and puts it into service while the task's row is locked."""
    rebuilt = indexing.rebuild(
        ctx.database,
        make_engine(ctx.settings),
        generation=f"{ctx.task_id}-{ctx.attempt}",
        on_step=ctx.progress,
        publish=ctx.locked_attempt,
    )
    ctx.log.info("index rebuilt", documents=rebuilt.documents, seconds=rebuilt.seconds)
    return RebuildIndexResult(
        documents=rebuilt.documents, time=f"{max(1, round(rebuilt.seconds))}s", seconds=rebuilt.seconds
    )


@handles(app, DELETE_INDEX)
def delete_index(payload: DeleteIndex, ctx: TaskContext) -> DeleteIndexResult:
    """Removes the index while the task's row is locked, and writes into the audit trail who wanted it."""
    with ctx.session() as session:
        wanted_by = views.get(session, ctx.task_id).initiated_by
    documents = make_engine(ctx.settings).delete(payload.generation, publish=ctx.locked_attempt)
    ctx.log.warning("index deleted", generation=payload.generation, documents=documents, initiated_by=wanted_by)

    def record(session: Session) -> None:
        audit_trail.record(
            session,
            actor=wanted_by,
            action="index.delete",
            object_type="index",
            object_id=payload.generation[:100],
            before={"documents": documents},
        )

    ctx.effects(record)
    return DeleteIndexResult(documents=documents)


@handles(app, UPDATE_LINES)
def update_lines(payload: UpdateLines, ctx: TaskContext) -> UpdateLinesResult:
    """Writes these lines' documents anew; running it again changes nothing more."""
    done = indexing.update(ctx.database, make_engine(ctx.settings), payload.codes)
    return UpdateLinesResult(
        updated=done.updated, deleted=done.deleted, unknown=done.unknown, unknown_codes=done.unknown_codes
    )


@handles(app, AUDIT_INDEX)
def audit(_payload: AuditIndex, ctx: TaskContext) -> AuditIndexResult:
    """Compares database and index; a difference is a finding in the result, not a failure.

    Without an index it fails at once, since none comes by itself; while a rebuild is unfinished it is tried again.
    """
    # Asked before the index is read: a rebuild that ends in between has made it.
    with ctx.session() as session:
        coming = views.list_tasks(session, names=[REBUILD_INDEX.name], states=_UNFINISHED, limit=1).items
    engine = make_engine(ctx.settings)
    try:
        found = indexing.audit(ctx.database, engine, on_step=ctx.progress)
    except Unavailable as error:
        if coming or engine.status().fault != "no_index":
            raise
        raise TaskFailed("there is no search index, and none is being built", remedy="Rebuild it first.") from error
    return AuditIndexResult(
        ok=found.ok,
        database=found.database,
        index=found.index,
        missing=found.missing,
        extra=found.extra,
        stale=found.stale,
        missing_codes=found.missing_codes,
        extra_codes=found.extra_codes,
        stale_codes=found.stale_codes,
    )
