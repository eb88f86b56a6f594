"""Commands to look at and steer background work: `tasks`, `queues`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer
from pydantic_core import to_jsonable_python

from sicargabox_core.cli.invocation import Invocation, invocation
from sicargabox_core.cli.output import Json, complain, moment, print_json, print_table, say
from sicargabox_core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from sicargabox_core.tasks.store import Skipped, TaskView

tasks = typer.Typer(no_args_is_help=True, help="Look at background tasks, cancel them, run them again.")
_ID_LENGTH = 36
TaskId = Annotated[str, typer.Argument(metavar="ID", help="A task's id, or its beginning if no other begins so.")]

Name = Annotated[list[str] | None, typer.Option(help="A kind of task, e.g. search.rebuild_index (repeatable).")]
Queues = Annotated[list[str] | None, typer.Option("--queue", help="A queue, e.g. elasticsearch.")]
Errors = Annotated[list[str] | None, typer.Option("--error", help="A code of an error, e.g. unavailable.")]
Since = Annotated[str | None, typer.Option(help="Accepted at or after: 24h, 7d (ago), or 2026-03-02T08:00.")]
Until = Annotated[str | None, typer.Option(help="Accepted before; written like --since.")]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(tasks, name="tasks")
    app.command("queues")(queues)


@tasks.command("start")
def start_task(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A kind of task, e.g. search.audit.")],
    payload: Annotated[str, typer.Option(help="What it is to work on, as JSON.")] = "{}",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
    timeout: Annotated[float, typer.Option(help="Wait at most this many seconds.", min=1)] = 300,
    json: Json = False,
) -> None:
    """Start a task that people may start. Exit code 1: it was waited for and did not succeed.

    Example: sicargabox tasks start housekeeping.no_op --payload '{"note": "hello"}' --wait
    """
    from pydantic import ValidationError

    from sicargabox_core.tasks.contracts import TASKS, State

    spec = TASKS.get(name)
    if spec is None or not spec.startable:
        known = ", ".join(sorted(one.name for one in TASKS.values() if one.startable))
        raise InvalidInput(f"{name[:100]!r} cannot be started", field="NAME", remedy=f"Use one of: {known}.")
    try:
        content = spec.payload.model_validate_json(payload)
    except ValidationError as error:
        raise InvalidInput(
            error.errors()[0]["msg"], field="--payload", remedy="See the task in docs/reference.md."
        ) from error
    here = invocation(ctx)
    task = here.tasks.submit(spec, content, initiated_by=here.principal).task
    if not json:
        say(f"Task {task.id} accepted.")
    if wait:
        task = here.tasks.wait(task.id, timeout)
    if json:
        print_json(task)
    elif wait:
        say(f"{task.shown_state}{f': {task.error_message}' if task.error_message else ''}")
        for field, found in (task.result or {}).items():
            say(f"  {field}: {', '.join(map(str, found)) if isinstance(found, list) else found}")
    if wait and task.state is not State.SUCCESS:
        raise typer.Exit(1)


@tasks.command("list")
def list_tasks(
    ctx: typer.Context,
    state: Annotated[list[str] | None, typer.Option(help="PENDING, RETRY, STARTED, PROGRESS, … (repeatable).")] = None,
    name: Annotated[list[str] | None, typer.Option(help="A kind of task, e.g. search.rebuild_index.")] = None,
    queue: Annotated[list[str] | None, typer.Option(help="A queue, e.g. elasticsearch.")] = None,
    by: Annotated[str | None, typer.Option(help="Who started it, e.g. user:ana.")] = None,
    parent: Annotated[str | None, typer.Option(help="Only the children of this task.")] = None,
    before: Annotated[str | None, typer.Option(help="next_cursor of the page before.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most (1 to 500).")] = 20,
    json: Json = False,
) -> None:
    """List tasks, the newest first.

    Example: sicargabox tasks list --state FAILURE --queue ai_generation
    """
    here = invocation(ctx)
    page = here.tasks.list(
        states=[one.upper() for one in state or ()],
        names=name or (),
        queues=queue or (),
        initiated_by=by,
        parent_id=parent,
        before=before,
        limit=limit,
    )
    if json:
        print_json({"items": page.items, "next_cursor": page.next_cursor})
        return
    zone = here.settings.timezone
    print_table(
        ("id", "task", "state", "progress", "by", "created", "seconds", "attempt"),
        [
            (
                task.id,
                task.name,
                task.shown_state,
                _progress(task),
                task.initiated_by,
                moment(task.created_at, zone),
                _seconds(task),
                task.attempt,
            )
            for task in page.items
        ],
    )
    if page.next_cursor:
        say(f"More: --before {page.next_cursor}")


@tasks.command("show")
def show_task(
    ctx: typer.Context,
    task_id: TaskId,
    traceback: Annotated[bool, typer.Option("--traceback", help="Also the traceback of the last error.")] = False,
    json: Json = False,
) -> None:
    """Show everything known of one task.

    Example: sicargabox tasks show 0192f0c1 --traceback
    """
    from sicargabox_core.tasks import store

    here = invocation(ctx)
    task = here.tasks.get(_whole_id(here, task_id))
    text = None
    if traceback:
        with here.database.read() as session:
            text = store.traceback_of(session, task.id)
    if json:
        print_json(to_jsonable_python(task) | ({"traceback": text} if traceback else {}))
        return
    zone = here.settings.timezone
    print_table(("field", "value"), [(name, value) for name, value in _details(task, zone) if value not in (None, "")])
    if task.no_worker_knows_it:
        complain("No worker of this release knows this task; it was offered several times in vain.")
    if text:
        say(text)


@tasks.command("cancel")
def cancel_task(ctx: typer.Context, task_id: TaskId, json: Json = False) -> None:
    """Cancel a task: one that waits never runs; one that runs is asked to stop. Exit code 1: it had already ended.

    Example: sicargabox tasks cancel 0192f0c1
    """
    here = invocation(ctx)
    whole = _whole_id(here, task_id)
    outcome = here.tasks.cancel(whole, by=here.principal)
    if json:
        print_json({"id": whole, "state": outcome.state, "revoked": outcome.revoked, "requested": outcome.requested})
    elif outcome.revoked:
        say(f"Task {whole} is cancelled.")
    elif outcome.requested:
        say(f"Task {whole} was asked to stop.")
    else:
        complain(f"Task {whole} had already ended as {outcome.state}.")
    if not (outcome.revoked or outcome.requested):
        raise typer.Exit(1)


@tasks.command("dead")
def list_dead_letters(
    ctx: typer.Context,
    name: Name = None,
    queue: Queues = None,
    error: Errors = None,
    since: Since = None,
    until: Until = None,
    before: Annotated[str | None, typer.Option(help="next_cursor of the page before.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most (1 to 500).")] = 20,
    json: Json = False,
) -> None:
    """List dead letters: tasks that failed for good and that nobody repeated, the newest first.

    Example: sicargabox tasks dead --error unavailable --since 24h
    """
    here = invocation(ctx)
    conditions = _conditions(here, name, queue, error, since, until)
    page = here.tasks.list(dead=True, before=before, limit=limit, **conditions)
    if json:
        print_json({"items": page.items, "next_cursor": page.next_cursor})
        return
    zone = here.settings.timezone
    print_table(
        ("id", "task", "error", "message", "by", "accepted", "failed"),
        [
            (
                *(task.id, task.name, task.error_code, (task.error_message or "")[:80], task.initiated_by),
                *(moment(task.created_at, zone), moment(task.finished_at, zone)),
            )
            for task in page.items
        ],
    )
    if page.next_cursor:
        say(f"More: --before {page.next_cursor}")


@tasks.command("retry")
def retry_task(
    ctx: typer.Context,
    task_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="One task: its id, or the id's beginning.")
    ] = None,
    state: Annotated[str | None, typer.Option(help="FAILURE: all dead letters that the options below choose.")] = None,
    name: Name = None,
    queue: Queues = None,
    error: Errors = None,
    since: Since = None,
    until: Until = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Run a finished task again, as a new task; of a parent only the parts that failed. Or every dead letter chosen.

    Repeating many is safe to do again: what was repeated is not repeated twice. Exit code 1: some were left.

    Example: sicargabox tasks retry 0192f0c1

    Example: sicargabox tasks retry --state FAILURE --name ai.generate_keywords --since 24h
    """
    here = invocation(ctx)
    conditions = _conditions(here, name, queue, error, since, until)
    if task_id is None:
        if (state or "").upper() != "FAILURE":
            raise InvalidInput(
                "which task?", field="ID", remedy="Give an id, or --state FAILURE for all dead letters chosen."
            )
        _retry_many(here, conditions, yes=yes, json=json)
        return
    if state is not None or any(conditions.values()):
        raise InvalidInput("one task and a choice of many", field="ID", remedy="Give an id, or options; not both.")
    submission = here.tasks.retry(_whole_id(here, task_id), by=here.principal)
    if json:
        print_json(submission.task)
    else:
        say(f"Task {submission.task.id} runs it again.")


def _retry_many(here: Invocation, conditions: dict[str, Any], *, yes: bool, json: bool) -> None:
    from sicargabox_core.tasks.store import REPEATED_AT_ONCE

    # What is chosen is chosen before the first is repeated: a repeat that fails at once must not be repeated again.
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = here.tasks.list(dead=True, before=cursor, limit=REPEATED_AT_ONCE, **conditions)
        ids += [task.id for task in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    if ids and not yes:
        typer.confirm(f"Repeat {len(ids):,} {'task' if len(ids) == 1 else 'tasks'}?", abort=True, err=True)
    repeated: dict[str, str] = {}
    skipped: list[Skipped] = []
    for start in range(0, len(ids), REPEATED_AT_ONCE):
        done = here.tasks.retry_dead(ids[start : start + REPEATED_AT_ONCE], by=here.principal)
        repeated |= {old: submission.task.id for old, submission in done.repeated.items()}
        skipped += done.skipped
    if json:
        print_json({"repeated": repeated, "skipped": skipped})
    else:
        say(f"{len(repeated):,} repeated, {len(skipped):,} left.")
        if skipped:
            print_table(("left", "because", ""), [(one.id, one.code, one.detail) for one in skipped])
    if skipped:
        raise typer.Exit(1)


def _conditions(
    here: Invocation,
    name: list[str] | None,
    queue: list[str] | None,
    error: list[str] | None,
    since: str | None,
    until: str | None,
) -> dict[str, Any]:
    return {
        "names": name or (),
        "queues": queue or (),
        "error_codes": error or (),
        "since": _moment(here, since, "--since"),
        "until": _moment(here, until, "--until"),
    }


def _moment(here: Invocation, text: str | None, option: str) -> datetime | None:
    """``24h``, ``7d``, ``30m`` ago by the database's clock, or a date and time, of the office's zone unless it names
    its own.
    """
    if text is None:
        return None
    ago = re.fullmatch(r"(\d{1,4})([mhd])", text.strip())
    if ago:
        return here.database.now() - int(ago[1]) * {"m": timedelta(minutes=1), "h": timedelta(hours=1)}.get(
            ago[2], timedelta(days=1)
        )
    try:
        told = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is no time", field=option, remedy="Write 24h, 7d, 30m or 2026-03-02T08:00."
        ) from error
    return (told if told.tzinfo else told.replace(tzinfo=ZoneInfo(here.settings.timezone))).astimezone(UTC)


def queues(ctx: typer.Context, json: Json = False) -> None:
    """Show what waits and runs in each queue, and how many workers listen.

    Example: sicargabox queues --json
    """
    from sicargabox_core.redis_server import Db, connect
    from sicargabox_core.tasks.queues import queue_figures

    here = invocation(ctx)
    with connect(here.settings, Db.BROKER, replica_ok=True) as broker:
        figures = queue_figures(here.database, broker)
    if json:
        print_json(figures)
        return
    if any(one.workers is None for one in figures):
        complain("Redis does not answer: workers and messages are not known.")
    print_table(
        (
            *("queue", "waiting", "delayed", "running", "oldest waits (s)", "workers", "messages in Redis"),
            "without a message",
        ),
        [
            (
                *(one.queue, one.waiting, one.delayed, one.running, one.oldest_age_seconds, one.workers),
                *(one.published, one.without_message),
            )
            for one in figures
        ],
    )


def _whole_id(here: Invocation, given: str) -> str:
    if len(given) == _ID_LENGTH:
        return given
    try:
        found = here.tasks.list(id_prefix=given, limit=2).items
    except InvalidInput as error:
        raise InvalidInput(error.message, field="ID", remedy="See `sicargabox tasks list`.") from error
    if not found:
        raise NotFound(f"there is no task {given}.", remedy="See `sicargabox tasks list`.")
    if len(found) > 1:
        raise InvalidInput(f"several tasks begin with {given}.", field="ID", remedy="Give more of the id.")
    return found[0].id


def _progress(task: TaskView) -> str | None:
    if task.progress_current is None:
        return None
    total = task.progress_total
    return f"{task.progress_current:,}" if not total else f"{task.progress_current:,}/{total:,}"


def _seconds(task: TaskView) -> float | None:
    if task.started_at is None or task.finished_at is None:
        return None
    return (task.finished_at - task.started_at).total_seconds()


def _details(task: TaskView, zone: str) -> list[tuple[str, Any]]:
    times = ("created_at", "run_at", "published_at", "started_at", "lease_until", "finished_at", "cancel_requested_at")
    plain = (
        *("id", "name", "queue", "shown_state", "initiated_by", "request_id", "retried_from", "parent_id"),
        *("children_total", "children_open", "children_failed", "attempt", "failures", "max_attempts", "worker"),
        *("schedule", "progress_message", "error_code", "error_message"),
    )
    return [
        *((name, getattr(task, name)) for name in plain),
        ("progress", _progress(task)),
        *((name, moment(getattr(task, name), zone)) for name in times),
        ("seconds", _seconds(task)),
        ("payload", task.payload),
        ("result", task.result),
    ]
