"""Commands that judge the search: `evaluate` against labelled queries, `lexicon check` of our own vocabulary."""

from __future__ import annotations

import json as json_module
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sicargabox_core.cli.invocation import Invocation, invocation
from sicargabox_core.cli.output import Json, console, print_json, print_table, say
from sicargabox_core.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from sicargabox_core.search.baseline import Change
    from sicargabox_core.search.evaluate import Outcome, Score
    from sicargabox_core.search.service import SearchAnswer

Half = Literal["all", "open", "counted"]
_LINES = 20
_LISTED = 20
_TIMEOUT_SECONDS = 30
_MOST_WAITS = 60

lexicon = typer.Typer(no_args_is_help=True, help="Look at our own vocabulary of everyday words.")


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command("evaluate")(evaluate)
    app.add_typer(lexicon, name="lexicon")


def evaluate(
    ctx: typer.Context,
    labelled: Annotated[
        Path | None, typer.Option("--set", help="CSV with query,headings[,lang,kind]; without it our own set.")
    ] = None,
    half: Annotated[Half, typer.Option(help="Which half of the set: all, open or counted.")] = "counted",
    url: Annotated[str, typer.Option(help="Ask this installation over HTTP instead of the search here.")] = "",
    baseline: Annotated[Path | None, typer.Option(help="Compare with what this file says.")] = None,
    save_baseline: Annotated[Path | None, typer.Option(help="Write the outcome here, to compare with later.")] = None,
    misses: Annotated[
        bool, typer.Option(help="List queries of the open half whose heading is not among five.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure how often the right heading comes first, among five, among ten and not at all.

    Shares have 95 % intervals. Exit code 1: against the baseline more was lost than chance explains.

    Examples: sicargabox evaluate · sicargabox evaluate --set ours.csv --half all --url https://tariff.example.org
    """
    from sicargabox_core.search.baseline import Baseline, compare
    from sicargabox_core.search.evaluate import OWN_SET, measure, read_set, score

    queries = [one for one in read_set(labelled or OWN_SET) if half == "all" or one.counted == (half == "counted")]
    if not queries:
        raise InvalidInput("the set has no query in that half", field="set", remedy="Use --half all.")
    before = Baseline.read(baseline) if baseline else None
    search = _over_http(url) if url else _here(invocation(ctx))
    engines: set[str] = set()

    def codes(query: str) -> list[str]:
        answer = search(query)
        engines.add(answer["engine"])
        return [result["code"] for result in answer["results"]]

    with console(stderr=True).status(f"{len(queries):,} queries …"):
        outcomes = measure(queries, codes)
    engine = ", ".join(sorted(engines))
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        groups["all"].append(one)
        groups[f"kind {one.labelled.kind or '–'}"].append(one)
        groups[f"lang {one.labelled.lang or '–'}"].append(one)
    scores = {name: score(group) for name, group in sorted(groups.items())}
    changes = compare(before, outcomes) if before else []
    if save_baseline:
        save_baseline.write_text(Baseline.of(engine, outcomes).model_dump_json(indent=1) + "\n", encoding="utf-8")
    if json:
        print_json({"engine": engine, "half": half, "scores": scores, "changes": changes})
    else:
        _show(scores, changes, f"{engine}, {half} half, by heading")
        if misses:
            _show_misses(outcomes)
    if any(change.loss for change in changes):
        raise typer.Exit(1)


def _here(here: Invocation) -> Callable[[str], SearchAnswer]:
    from sicargabox_core.search.service import SearchService

    service = SearchService(here.database, here.settings)
    return lambda query: service.search(query, limit=_LINES)


def _over_http(url: str) -> Callable[[str], SearchAnswer]:
    """Asks ``GET /api/v1/search``; an installation that asks for patience (429) gets it."""
    import urllib3

    pool = urllib3.PoolManager(
        retries=urllib3.Retry(
            _MOST_WAITS, connect=3, read=3, redirect=0, status_forcelist=[429, 503], backoff_factor=0.2
        ),
        timeout=_TIMEOUT_SECONDS,
    )

    def ask(query: str) -> SearchAnswer:
        try:
            answer = pool.request("GET", f"{url.rstrip('/')}/api/v1/search", fields={"q": query, "limit": str(_LINES)})
            if answer.status != 200:
                raise Unavailable(f"{url} answered {answer.status}.", remedy="Look whether it is a SicargaBox.")
            found: SearchAnswer = json_module.loads(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise Unavailable(f"{url} cannot be asked: {error}.", remedy="Check --url and that it runs.") from error
        return found

    return ask


def _show(scores: dict[str, Score], changes: list[Change], title: str) -> None:
    print_table(
        ("group", "queries", "first", "among 5", "among 10", "nothing found", "MRR"),
        [
            (name, one.queries, str(one.hit1), str(one.hit5), str(one.hit10), str(one.none), f"{one.mrr:.3f}")
            for name, one in scores.items()
        ],
        title=title,
    )
    if changes:
        say("")
        print_table(
            ("group", "among", "lost", "gained", "chance", ""),
            [
                (one.group, one.depth, one.lost, one.gained, f"{one.chance:.3f}", "LOSS" if one.loss else "")
                for one in changes
            ],
            title="Against the baseline",
        )


def _show_misses(outcomes: list[Outcome]) -> None:
    missed = [one for one in outcomes if not one.labelled.counted and (one.place is None or one.place > 5)]
    print_table(
        ("query", "kind", "right", "first found", "place"),
        [
            (one.labelled.query, one.labelled.kind, "|".join(sorted(one.labelled.headings)), one.first, one.place)
            for one in missed
        ],
        title=f"{len(missed)} queries of the open half whose heading is not among five",
    )


@lexicon.command("check")
def check(ctx: typer.Context, json: Json = False) -> None:
    """Compare our vocabulary with the imported tariff: what has no words, what leads nowhere, what contradicts.

    Exit code 1: there is a fault; headings with few words are told and are none.

    Example: sicargabox lexicon check --json
    """
    from sicargabox_core.catalogue.lexicon_coverage import check_lexicon
    from sicargabox_core.lexicon.loader import Lexicon

    started = time.monotonic()
    vocabulary = Lexicon.load()
    loaded = time.monotonic() - started
    with invocation(ctx).database.read() as session:
        report = check_lexicon(session, vocabulary)
    if json:
        print_json(report)
    else:
        say(
            f"{report.terms_es:,} Spanish and {report.terms_en:,} English terms, {report.brands:,} brands, read in "
            f"{loaded:.2f} s, for {report.headings:,} headings of the catalogue."
        )
        for name, found in report.findings():
            say(f"{len(found):>6,}  {name}")
            for one in found[:_LISTED]:
                say(f"          {one}")
            if len(found) > _LISTED:
                say(f"          … and {len(found) - _LISTED:,} more (--json has them all)")
    if report.faulty:
        raise typer.Exit(1)
