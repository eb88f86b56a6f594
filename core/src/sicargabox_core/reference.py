"""Writes ``docs/reference.md`` from the code: ``python -m sicargabox_core.reference FILE`` (`make reference`).

Settings, tasks, metrics, errors and commands are described where they are declared and nowhere else; a test holds the
file up to date. With ``--check`` nothing is written, and a file that differs is exit code 1.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sicargabox_core import errors, observability
from sicargabox_core.cli.application import EXIT_CODES, app
from sicargabox_core.settings import ENV_PREFIX, Settings
from sicargabox_core.tasks.contracts import TASKS, TaskSpec
from sicargabox_core.tasks.schedules import SCHEDULES


def render() -> str:
    """The whole page."""
    parts = [_HEAD, *_settings(), *_tasks(), *_metrics(), *_errors(), *_commands()]
    return "\n".join(parts).rstrip() + "\n"


_HEAD = """# Reference

Generated from the code by `make reference`; do not edit.

- [Settings](#settings)
- [Tasks](#tasks)
- [Metrics](#metrics)
- [Errors](#errors)
- [Commands](#commands)
"""


def _table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    columns = list(columns)
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(_cell(value) for value in row) + " |"
    yield ""


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _settings() -> Iterator[str]:
    yield "## Settings\n"
    yield f"Environment variables with the prefix `{ENV_PREFIX}`. Times are seconds, sizes bytes.\n"
    yield from _table(
        ("variable", "default", "meaning"),
        (
            (f"`{ENV_PREFIX}{name.upper()}`", _default(field), field.description or "")
            for name, field in Settings.model_fields.items()
        ),
    )


def _default(field: FieldInfo) -> str:
    value = field.default
    text = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    return f"`{text}`" if text != "" else ""


def _tasks() -> Iterator[str]:
    yield "## Tasks\n"
    yield (
        "`POST /api/v1/tasks/{name}` starts those that are startable. A failure or an expired lease counts against the "
        "attempts; a drain does not.\n"
    )
    for spec in TASKS.values():
        yield from _task(spec)
    yield "### Schedules\n"
    yield from _table(
        ("schedule", "task", "when (zone of `SICARGABOX_TIMEZONE`)"),
        ((one.name, f"`{one.spec.name}`", f"daily at {one.hour:02d}:{one.minute:02d}") for one in SCHEDULES),
    )


def _task(spec: TaskSpec[Any, Any]) -> Iterator[str]:
    yield f"### `{spec.name}`\n"
    yield _first_paragraph(spec.payload) + "\n"
    facts = [
        f"queue `{spec.queue.value}`",
        f"time limit {spec.time_limit:g} s",
        f"{spec.max_attempts} attempts",
        f"startable by {spec.role}" if spec.startable else "not startable by itself",
    ]
    if spec.exclusive is not None:
        facts.append("one at a time")
    if spec.follow_up:
        facts.append("asked for again after data changed, it runs once more")
    yield ", ".join(facts) + ".\n"
    for title, model in (("payload", spec.payload), ("result", spec.result)):
        if model.model_fields:
            yield from _table((title, "type", "default"), _fields(model))


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        kind = inspect.formatannotation(field.annotation).replace("typing.", "")
        yield f"`{name}`", f"`{kind}`", "required" if field.is_required() else f"`{field.default!r}`"


def _metrics() -> Iterator[str]:
    yield "## Metrics\n"
    yield (
        "`/metrics` of the API, and of each worker and scheduler at `SICARGABOX_WORKER_PORT`. A worker's figures are "
        "the sum over its children.\n"
    )
    yield from _table(
        ("metric", "type", "labels", "meaning"),
        (
            (
                f"`{family.name}{'_total' if family.type == 'counter' else ''}`",
                family.type,
                ", ".join(f"`{label}`" for label in metric._labelnames),
                family.documentation,
            )
            for metric in observability.METRICS
            for family in metric.describe()
        ),
    )


def _errors() -> Iterator[str]:
    yield "## Errors\n"
    yield "`code` stands in problems of the API and in failed tasks. Retryable: the same call may succeed later.\n"
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.SicargaBoxError) and kind is not errors.SicargaBoxError
    ]
    yield from _table(
        ("code", "retryable", "meaning"),
        ((f"`{kind.code}`", "yes" if kind.retryable else "", _first_paragraph(kind)) for kind in kinds),
    )


def _commands() -> Iterator[str]:
    yield "## Commands\n"
    yield from _table(("exit code", "meaning"), EXIT_CODES.items())
    yield from _command(typer.main.get_command(app), "sicargabox")


def _command(command: Any, name: str) -> Iterator[str]:
    children = getattr(command, "commands", {})
    if not children:
        yield f"### `{name}`\n"
        yield textwrap.dedent(_of_the_text(command.help or "")) + "\n"
        parameters = [one for one in command.params if one.name != "help"]
        if parameters:
            yield from _table(
                ("parameter", "meaning"), ((_usage(one), getattr(one, "help", None) or "") for one in parameters)
            )
    for child, found in sorted(children.items()):
        yield from _command(found, f"{name} {child}")


def _usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name).upper()}`"
    return ", ".join(f"`{one}`" for one in (*parameter.opts, *parameter.secondary_opts))


def _of_the_text(text: str) -> str:
    # Rich's markup of help texts is not Markdown.
    return re.sub(r"\[/?(?:bold|dim)\]", "", inspect.cleandoc(text))


def _first_paragraph(documented: type) -> str:
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split()).replace("``", "`")


def main() -> None:
    """Writes the page, or compares it."""
    arguments = [one for one in sys.argv[1:] if one != "--check"]
    path = Path(arguments[0] if arguments else "docs/reference.md")
    text = render()
    if "--check" in sys.argv:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is not what the code says; run `make reference`")
        return
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
