"""What the indexer-worker does: rebuild, update and audit the search index."""

from __future__ import annotations

from sicargabox_core.search import indexing
from sicargabox_core.search.service import make_engine
from sicargabox_core.tasks.context import TaskContext
from sicargabox_core.tasks.contracts import (
    AUDIT_INDEX,
    REBUILD_INDEX,
    UPDATE_LINES,
    AuditIndex,
    AuditIndexResult,
    RebuildIndex,
    RebuildIndexResult,
    UpdateLines,
    UpdateLinesResult,
)
from sicargabox_core.tasks.worker import handles
from sicargabox_indexer.app import app


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


@handles(app, UPDATE_LINES)
def update_lines(payload: UpdateLines, ctx: TaskContext) -> UpdateLinesResult:
    """Writes these lines' documents anew; running it again changes nothing more."""
    replaced = indexing.update(ctx.database, make_engine(ctx.settings), payload.codes)
    return UpdateLinesResult(updated=replaced.updated, deleted=replaced.deleted)


@handles(app, AUDIT_INDEX)
def audit(_payload: AuditIndex, ctx: TaskContext) -> AuditIndexResult:
    """Compares database and index; a difference is a finding in the result, not a failure."""
    found = indexing.audit(ctx.database, make_engine(ctx.settings), on_step=ctx.progress)
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
