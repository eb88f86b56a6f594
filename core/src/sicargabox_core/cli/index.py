"""Commands about the search index: `index status`, `index rebuild`, `index audit`, `index delete`.

`rebuild-index` is `index rebuild` by the name that scripts know from before.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import to_jsonable_python

from sicargabox_core.cli.invocation import Invocation, invocation
from sicargabox_core.cli.output import Json, complain, console, moment, print_json, print_table, say
from sicargabox_core.errors import InvalidInput

if TYPE_CHECKING:
    from sicargabox_core.search.report import IndexReport
    from sicargabox_core.tasks.contracts import AuditIndexResult
    from sicargabox_core.tasks.store import Submission, TaskView

index = typer.Typer(no_args_is_help=True, help="Look at the search index, build it anew, audit it, delete it.")

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end and show how far it is.")]
Timeout = Annotated[float, typer.Option(help="Wait at most this many seconds.", min=1)]

INTERRUPTED = 130
_LISTED_CODES = 10


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(index, name="index")
    app.command("rebuild-index")(rebuild)


@index.command("status")
def status(ctx: typer.Context, json: Json = False) -> None:
    """Show the engine's health, the generations, and what the last rebuild and the last audit found.

    Exit code 1: there is no index to answer from, so SQL answers.

    Example: sicargabox index status --json
    """
    from sicargabox_core.search.report import index_report
    from sicargabox_core.search.service import make_engine

    here = invocation(ctx)
    report = index_report(make_engine(here.settings), here.tasks)
    if json:
        found = to_jsonable_python(report)
        print_json({**found.pop("status"), **found})
    else:
        _show(report, here.settings.timezone)
    if not report.status.ready:
        raise typer.Exit(1)


@index.command("rebuild")
def rebuild(ctx: typer.Context, wait: Wait = True, timeout: Timeout = 1800, json: Json = False) -> None:
    """Build the search index anew; the old one answers until the new one is complete.

    Ctrl-C ends the waiting, not the task. Exit code 1 when the task does not succeed.

    Examples: sicargabox index rebuild · sicargabox index rebuild --no-wait --json
    """
    from sicargabox_core.tasks.contracts import REBUILD_INDEX, RebuildIndex, RebuildIndexResult, State

    here = invocation(ctx)
    task = _follow(
        here, here.tasks.submit(REBUILD_INDEX, RebuildIndex(), initiated_by=here.principal), wait, timeout, json
    )
    if task.state is State.SUCCESS and not json:
        result = RebuildIndexResult.model_validate(task.result)
        say(f"{result.documents:,} documents indexed in {result.time}.")
    _end(task, wait, json)


@index.command("audit")
def audit(ctx: typer.Context, wait: Wait = True, timeout: Timeout = 1800, json: Json = False) -> None:
    """Compare every document of the index with the database; changes nothing.

    Exit code 1 when they differ, or when the task does not succeed.

    Examples: sicargabox index audit · sicargabox index audit --json
    """
    from sicargabox_core.tasks.contracts import AUDIT_INDEX, AuditIndex, AuditIndexResult, State

    here = invocation(ctx)
    task = _follow(here, here.tasks.submit(AUDIT_INDEX, AuditIndex(), initiated_by=here.principal), wait, timeout, json)
    differs = False
    if task.state is State.SUCCESS:
        result = AuditIndexResult.model_validate(task.result)
        differs = not result.ok
        if not json:
            _show_audit(result)
    _end(task, wait, json)
    if differs:
        raise typer.Exit(1)


@index.command("delete")
def delete(
    ctx: typer.Context,
    yes: Annotated[
        str | None,
        typer.Option("--yes", metavar="NAME", help="The generation that serves, for scripts; else it is asked for."),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 300,
    json: Json = False,
) -> None:
    """Remove the search index with all its generations; SQL answers searches until it is built anew.

    Exit code 2 when another name is given than that of the generation that serves.

    Examples: sicargabox index delete · sicargabox index delete --yes 0192f0c1-5e7a-7cc3-9f5e-1c2d3e4f5a6b-1
    """
    from sicargabox_core.search.report import request_delete, what_serves
    from sicargabox_core.search.service import make_engine
    from sicargabox_core.tasks.contracts import DeleteIndexResult, State

    here = invocation(ctx)
    engine = make_engine(here.settings)
    now = engine.status()
    serving = what_serves(now)
    name = yes if yes is not None else _typed_name(serving, now.documents)
    if name != serving:
        raise InvalidInput(
            f"{name[:100]!r} is not the generation that serves", field="--yes", remedy=f"It is {serving}."
        )
    task = _follow(here, request_delete(engine, here.tasks, name, by=here.principal), wait, timeout, json)
    if task.state is State.SUCCESS and not json:
        documents = DeleteIndexResult.model_validate(task.result).documents
        say(f"The index is deleted, with {documents:,} documents.")
        say("`sicargabox index rebuild` builds it anew; so does the next start of `sicargabox run`.")
    _end(task, wait, json)


def _typed_name(serving: str, documents: int) -> str:
    complain(f"Generation {serving} with {documents:,} documents serves. Without it searches are slower and poorer.")
    try:
        typed: str = typer.prompt("Type its name to delete the index", err=True)
    except typer.Abort as error:
        raise InvalidInput("no name was typed", field="--yes", remedy="Give the name with --yes NAME.") from error
    return typed.strip()


# --- what is shown ---------------------------------------------------------------------------------------------------
def _show(report: IndexReport, zone: str) -> None:
    from datetime import datetime

    from sicargabox_core.redis_report import megabytes
    from sicargabox_core.tasks.contracts import AuditIndexResult, State

    def when(text: str | None) -> str | None:
        return moment(datetime.fromisoformat(text), zone) if text else None

    def size(count: int | None) -> str | None:
        return None if count is None else megabytes(count)

    now = report.status
    say(f"{now.engine} {now.version or ''}: {now.health}, {now.documents:,} documents, {megabytes(now.size)}")
    if now.generations:
        print_table(
            ("generation", "role", "documents", "size", "built"),
            [
                (
                    one.name,
                    one.role,
                    one.documents,
                    None if one.size is None else megabytes(one.size),
                    when(one.built_at),
                )
                for one in now.generations
            ],
        )
    if now.proof:
        say(f"Proof: {now.proof}" + (f", in {now.seconds:g} s" if now.seconds is not None else ""))
    for task in report.running:
        say(f"{task.name} {task.shown_state}: task {task.id} {task.progress_message or ''}".rstrip())
    if report.last_rebuild and report.last_rebuild.state is not State.SUCCESS:
        complain(
            f"The last rebuild ended as {report.last_rebuild.state}: {report.last_rebuild.error_message or 'cancelled'}"
        )
    if report.last_audit:
        ended = moment(report.last_audit.finished_at, zone)
        say(f"Last audit: {ended}" + (", of an earlier generation" if report.audit_outdated else ""))
        if report.last_audit.state is State.SUCCESS:
            _show_audit(AuditIndexResult.model_validate(report.last_audit.result), mended=report.audit_outdated)
        else:
            complain(f"It ended as {report.last_audit.state}: {report.last_audit.error_message or 'cancelled'}")
    if now.problem:
        complain(now.problem)


def _show_audit(result: AuditIndexResult, *, mended: bool = False) -> None:
    """``mended``: the index that was audited serves no longer."""
    if result.ok:
        say(f"Index and database agree: {result.index:,} documents.")
        return
    complain(f"Index ({result.index:,}) and database ({result.database:,}) differ:")
    for word, count, codes in (
        ("missing", result.missing, result.missing_codes),
        ("extra", result.extra, result.extra_codes),
        ("stale", result.stale, result.stale_codes),
    ):
        if count:
            more = " …" if count > _LISTED_CODES else ""
            complain(f"  {word}: {count:,} ({', '.join(codes[:_LISTED_CODES])}{more})")
    if not mended:
        complain("`sicargabox index rebuild` mends it.")


# --- tasks -----------------------------------------------------------------------------------------------------------
def _follow(here: Invocation, submission: Submission, wait: bool, timeout: float, json: bool) -> TaskView:
    """Says how the task began and, if wanted, waits for its end."""
    if not json:
        say(_how_it_began(submission))
    if not wait:
        return submission.task
    try:
        with _heeding_ctrl_c() as heed:
            _warn_without_worker(here, submission.task.queue)
            return _wait(here, submission.task.id, timeout, heed)
    except KeyboardInterrupt as error:
        complain(f"The task goes on; look at it with `sicargabox tasks show {submission.task.id}`.")
        raise typer.Exit(INTERRUPTED) from error


@contextmanager
def _heeding_ctrl_c() -> Iterator[Callable[[], None]]:
    """Gives what raises ``KeyboardInterrupt`` once Ctrl-C was pressed, should the exception itself have been lost.

    Python drops what is raised within a destructor. Of 150 interruptions just after Redis had not answered, 19 in a
    hundred met redis-py's ``Redis.__del__``, and the command waited on for its time-out of minutes.
    """
    pressed = False

    def press(_signal: int, _frame: object) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    def heed() -> None:
        if pressed:
            raise KeyboardInterrupt

    before: Any = signal.getsignal(signal.SIGINT)
    # A shell's background job ignores it, and is to go on ignoring it.
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, press)
    try:
        yield heed
    finally:
        signal.signal(signal.SIGINT, before)


def _end(task: TaskView, wait: bool, json: bool) -> None:
    from sicargabox_core.tasks.contracts import State

    if json:
        print_json(task)
    elif task.is_final and task.state is not State.SUCCESS:
        complain(f"{task.state}: {task.error_message or 'cancelled'}")
    if wait and task.state is not State.SUCCESS:
        raise typer.Exit(1)


def _how_it_began(submission: Submission) -> str:
    task_id = submission.task.id
    if submission.follow_up:
        return f"Task {task_id} begins when task {submission.task.waits_for} has ended."
    if submission.already_running:
        return f"Task {task_id} was already asked for by {submission.task.initiated_by}."
    return f"Task {task_id} accepted."


def _warn_without_worker(here: Invocation, queue: str) -> None:
    from sicargabox_core.redis_server import Db, RedisError, connect
    from sicargabox_core.tasks.presence import workers

    try:
        with connect(here.settings, Db.BROKER) as broker:
            present = workers(broker)
    except RedisError:
        complain("Redis does not answer; the task is safe in the database and starts when Redis is back.")
        return
    if not any(queue in worker.queues for worker in present):
        complain(f"No worker listens to the queue {queue}; the task waits for one.")


def _wait(here: Invocation, task_id: str, timeout: float, heed: Callable[[], None]) -> TaskView:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from sicargabox_core.tasks.contracts import State

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console(stderr=True),
    ) as progress:
        bar = progress.add_task("waiting for a worker", total=None)

        def show(task: TaskView) -> None:
            heed()
            # A task that has ended keeps no progress: what it did is in its result.
            done = task.state is State.SUCCESS
            progress.update(
                bar,
                completed=1 if done else task.progress_current or 0,
                total=1 if done else task.progress_total,
                description=task.progress_message or task.shown_state.lower(),
            )

        return here.tasks.wait(task_id, timeout, on_change=show)
