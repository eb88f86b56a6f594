"""Commands that judge the search: `evaluate` against labelled queries, `lexicon check` of our own vocabulary."""

from __future__ import annotations

import json as json_module
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sicargabox_core.cli.invocation import Invocation, invocation
from sicargabox_core.cli.output import Json, complain, console, print_json, print_table, say
from sicargabox_core.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from sicargabox_core.search.baseline import Change
    from sicargabox_core.search.evaluate import Labelled, Outcome, Score
    from sicargabox_core.search.quality_report import GoalReached
    from sicargabox_core.search.service import SearchAnswer

Half = Literal["all", "open", "counted"]
_LINES = 20
_LISTED = 20
_TIMEOUT_SECONDS = 30
_MOST_WAITS = 60
_RATE = 15.0
_STORED = "stored"

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
    rate: Annotated[
        float, typer.Option(min=0.1, max=1000, help="Most requests a second to --url; the API's own limit is 20.")
    ] = _RATE,
    baseline: Annotated[
        str, typer.Option(help="Compare with what this file says; `stored`: our own set on the official tariff.")
    ] = "",
    save_baseline: Annotated[Path | None, typer.Option(help="Write the outcome here, to compare with later.")] = None,
    misses: Annotated[
        bool, typer.Option(help="List queries of the open half whose heading is not among five.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure how often the right heading comes first, among five, among ten and not at all.

    The set is CSV with a first row query,headings[,lang,kind], as a spreadsheet saves it; headings have four or six
    digits, several with | or spaces between them. Shares have 95 % intervals. Exit code 1: against the baseline more
    was lost than chance explains; 2: the set has a fault, told with its line.

    Examples: sicargabox evaluate · sicargabox evaluate --set ours.csv --half all --url https://tariff.example.org
    """
    from sicargabox_core.search.baseline import compare
    from sicargabox_core.search.evaluate import OWN_SET, measure, read_set
    from sicargabox_core.search.quality_report import Report, goals_of, own_baseline

    queries = [one for one in read_set(labelled or OWN_SET) if half == "all" or one.counted == (half == "counted")]
    if not queries:
        raise InvalidInput("the set has no query in that half", field="set", remedy="Use --half all.")
    before = Report.read(Path(baseline)) if baseline and baseline != _STORED else None
    asked = queries if url else _in_this_catalogue(invocation(ctx), queries)
    search = _over_http(url, rate) if url else _here(invocation(ctx))
    engines: set[str] = set()

    def codes(query: str) -> list[str]:
        answer = search(query)
        engines.add(answer["engine"])
        return [result["code"] for result in answer["results"]]

    with console(stderr=True).status(f"{len(asked):,} queries …"):
        outcomes = measure(asked, codes)
    report = Report.of(", ".join(sorted(engines)), outcomes, left_out=len(queries) - len(asked))
    scores = {"all": report.score()}
    scores |= {f"kind {kind or '–'}": report.score(kind=kind) for kind in report.kinds()}
    scores |= {f"lang {lang or '–'}": report.score(lang=lang) for lang in report.languages()}
    if baseline == _STORED:
        before = Report.read(own_baseline(report.engine))
    changes = compare(before, outcomes) if before else []
    goals = [] if labelled or half == "open" else goals_of(report)
    if save_baseline:
        report.write(save_baseline, counts_only=False)
    if json:
        print_json(
            {
                "engine": report.engine,
                "half": half,
                "left_out": report.left_out,
                "scores": scores,
                "goals": goals,
                "changes": changes,
            }
        )
    else:
        _show(scores, f"{report.engine}, {half} half, by heading")
        if report.left_out:
            say(f"{report.left_out:,} queries were left out: the catalogue has none of their headings.")
        _show_goals(goals)
        _show_changes(changes)
        if misses:
            _show_misses(outcomes)
    if any(change.loss for change in changes):
        raise typer.Exit(1)


def _in_this_catalogue(here: Invocation, queries: list[Labelled]) -> list[Labelled]:
    from sicargabox_core.search.evaluation import headings_in_force
    from sicargabox_core.search.quality_report import answerable

    with here.database.read() as session:
        found = answerable(queries, headings_in_force(session))
    if not found:
        raise InvalidInput(
            "the catalogue has none of the set's headings", field="set", remedy="Import the tariff, or use another set."
        )
    return found


def _here(here: Invocation) -> Callable[[str], SearchAnswer]:
    from sicargabox_core.search.service import SearchService

    service = SearchService(here.database, here.settings)
    return lambda query: service.search(query, limit=_LINES)


def _over_http(url: str, rate: float) -> Callable[[str], SearchAnswer]:
    """Asks ``GET /api/v1/search``, ``rate`` times a second at most; an installation that asks for patience gets it."""
    import urllib3

    pool = urllib3.PoolManager(
        retries=urllib3.Retry(
            _MOST_WAITS, connect=3, read=3, redirect=0, status_forcelist=[429, 503], backoff_factor=0.2
        ),
        timeout=_TIMEOUT_SECONDS,
    )
    due = time.monotonic()

    def ask(query: str) -> SearchAnswer:
        nonlocal due
        time.sleep(max(0.0, due - time.monotonic()))
        # From when it is asked, not from when it was due: what a slow answer held up is not made up for in a burst.
        due = time.monotonic() + 1 / rate
        try:
            answer = pool.request("GET", f"{url.rstrip('/')}/api/v1/search", fields={"q": query, "limit": str(_LINES)})
            if answer.status != 200:
                raise Unavailable(f"{url} answered {answer.status}.", remedy="Look whether it is a SicargaBox.")
            found: SearchAnswer = json_module.loads(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise Unavailable(f"{url} cannot be asked: {error}.", remedy="Check --url and that it runs.") from error
        return found

    return ask


def _show(scores: dict[str, Score], title: str) -> None:
    print_table(
        ("group", "queries", "first", "among 5", "among 10", "nothing found", "MRR"),
        [
            (
                name,
                one.queries,
                str(one.hit1),
                str(one.hit5),
                str(one.hit10),
                str(one.none),
                f"{one.mrr:.3f} [{one.mrr_low:.2f}–{one.mrr_high:.2f}]",
            )
            for name, one in scores.items()
        ],
        title=title,
    )


def _show_goals(goals: list[GoalReached]) -> None:
    if goals:
        say("")
        print_table(
            ("goal", "bound", "reached", ""),
            [(one.goal.name, f"{one.bound:.3f}", f"{one.value:.3f}", "met" if one.met else "MISSED") for one in goals],
            title="Goals, on the counted half",
        )


def _show_changes(changes: list[Change]) -> None:
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
    from sicargabox_core.search.evaluation import worst

    missed = worst(outcomes)
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

    Each choice of the questions about vague words is searched for, and must lead to its headings.

    Exit code 1: there is a fault; headings with few words are told and are none.

    Example: sicargabox lexicon check --json
    """
    from sicargabox_core.catalogue.lexicon_coverage import check_lexicon
    from sicargabox_core.lexicon.loader import Lexicon
    from sicargabox_core.search.evaluation import headings_in_force

    started = time.monotonic()
    vocabulary = Lexicon.load()
    loaded = time.monotonic() - started
    here = invocation(ctx)
    with here.database.read() as session:
        report = check_lexicon(session, vocabulary)
        headings = headings_in_force(session)
    report = replace(report, guidance=_guidance_faults(here, headings))
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


def _guidance_faults(here: Invocation, headings: frozenset[str]) -> list[str]:
    from sicargabox_core.lexicon.guidance import packaged_guidance
    from sicargabox_core.search.guidance_check import AMONG, check_guidance
    from sicargabox_core.search.service import SearchService

    service = SearchService(here.database, here.settings)
    if service.search("regalo", limit=1)["degraded"]:
        complain("The choices of questions about vague words were not tried: the index cannot answer.")
        return []
    return list(
        check_guidance(
            packaged_guidance(),
            headings,
            lambda query: [result["code"] for result in service.search(query, limit=AMONG)["results"]],
        )
    )
