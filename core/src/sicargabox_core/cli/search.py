"""Commands around search: `search`, `rebuild-index`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sicargabox_core.cli.invocation import Invocation, invocation
from sicargabox_core.cli.output import Json, complain, console, print_json, print_table, say

if TYPE_CHECKING:
    from sicargabox_core.tasks.store import Submission, TaskView

INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command("search")(search)
    app.command("rebuild-index")(rebuild_index)


def search(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(help="What the parcel holds, in Spanish or English, or a code.")],
    limit: Annotated[int, typer.Option(help="How many lines at most.")] = 10,
    offset: Annotated[int, typer.Option(help="How many lines to skip.")] = 0,
    category: Annotated[str | None, typer.Option(help="ALLOWED, RESTRICTED or PROHIBITED only.")] = None,
    chapter: Annotated[str | None, typer.Option(help="Two digits: this chapter only.")] = None,
    lang: Annotated[str, typer.Option(help="Language of the answer: es or en.")] = "es",
    json: Json = False,
) -> None:
    """Find tariff lines for WORDS, best first, with the reason for each.

    Examples: sicargabox search audífonos bluetooth · sicargabox search 8517.13 --lang en --json
    """
    from sicargabox_core.search.service import SearchService

    here = invocation(ctx)
    answer = SearchService(here.database, here.settings).search(
        " ".join(words), limit=limit, offset=offset, category=category, chapter=chapter, lang=lang
    )
    if json:
        print_json(answer)
        return
    if answer["degraded"]:
        complain("The index cannot answer, so SQL did; `sicargabox rebuild-index` builds it.")
    if not answer["results"]:
        say("Nothing found.")
        return
    print_table(
        ("code", "description", "DAI %", "ISV %", "courier", "why"),
        [
            (
                result["display_code"],
                " › ".join([*(step["description"] for step in result["path"][-1:]), result["description"]]),
                result["duties"]["dai"],
                result["duties"]["isv"],
                result["courier_category"],
                result["reason"],
            )
            for result in answer["results"]
        ],
        title=f"{answer['total']:,} found in {answer['took_ms']:.0f} ms ({answer['engine']})",
    )


def rebuild_index(
    ctx: typer.Context,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end and show how far it is.")] = True,
    timeout: Annotated[float, typer.Option(help="Wait at most this many seconds.", min=1)] = 1800,
    json: Json = False,
) -> None:
    """Build the search index anew; the old one answers until the new one is complete.

    Ctrl-C ends the waiting, not the task. Exit code 1 when the task does not succeed.

    Examples: sicargabox rebuild-index · sicargabox rebuild-index --no-wait --json
    """
    from sicargabox_core.tasks.contracts import REBUILD_INDEX, RebuildIndex, RebuildIndexResult, State

    here = invocation(ctx)
    submission = here.tasks.submit(REBUILD_INDEX, RebuildIndex(), initiated_by=here.principal)
    task = submission.task
    if not json:
        say(_how_it_began(submission))
    if wait:
        try:
            _warn_without_worker(here, task.queue)
            task = _wait(here, task.id, timeout)
        except KeyboardInterrupt as error:
            complain(f"The task goes on; look at it with `sicargabox tasks show {task.id}`.")
            raise typer.Exit(INTERRUPTED) from error
    if json:
        print_json(task)
    elif task.state is State.SUCCESS:
        result = RebuildIndexResult.model_validate(task.result)
        say(f"{result.documents:,} documents indexed in {result.time}.")
    elif task.is_final:
        complain(f"{task.state}: {task.error_message or 'cancelled'}")
    if wait and task.state is not State.SUCCESS:
        raise typer.Exit(1)


def _how_it_began(submission: Submission) -> str:
    task_id = submission.task.id
    if submission.follow_up:
        return f"Task {task_id} begins when the rebuild that runs now has ended, since data changed meanwhile."
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


def _wait(here: Invocation, task_id: str, timeout: float) -> TaskView:
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
            # A task that has ended keeps no progress: what it did is in its result.
            done = task.state is State.SUCCESS
            progress.update(
                bar,
                completed=1 if done else task.progress_current or 0,
                total=1 if done else task.progress_total,
                description=task.progress_message or task.shown_state.lower(),
            )

        return here.tasks.wait(task_id, timeout, on_change=show)
