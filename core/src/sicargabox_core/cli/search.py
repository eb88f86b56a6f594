"""Command to search: `search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sicargabox_core.cli.invocation import invocation
from sicargabox_core.cli.output import Json, complain, print_json, print_table, say

if TYPE_CHECKING:
    from sicargabox_core.search.guidance import Guidance


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command("search")(search)


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
        complain(
            "The index cannot answer, so SQL did; `sicargabox index status` says why, and `sicargabox rebuild-index` "
            "builds one that is missing."
        )
    if not answer["results"]:
        say("Nothing found.")
        _ask(answer["guidance"])
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
    _ask(answer["guidance"])


def _ask(guidance: Guidance | None) -> None:
    """Words too vague to classify: what to say instead."""
    if guidance is None:
        return
    say(f"\n«{guidance['about']}»: {guidance['question']}")
    for choice in guidance["choices"]:
        say(f"  {choice['label']}: sicargabox search {choice['query']}")
