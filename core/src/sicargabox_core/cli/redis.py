"""Commands about Redis: `redis show`, `redis capacity`."""

from __future__ import annotations

import typer

from sicargabox_core.cli.invocation import invocation
from sicargabox_core.cli.output import Json, complain, print_json, print_table, say

redis = typer.Typer(no_args_is_help=True, help="Look at Redis: what it holds against its budgets, and how much fits.")


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(redis, name="redis")


@redis.command("show")
def show(ctx: typer.Context, json: Json = False) -> None:
    """Show memory by database against its budget, who follows the primary, and what is wrong with a remedy.

    Exit code 1: something keeps tasks waiting, or Redis does not answer.

    Example: sicargabox redis show --json
    """
    from sicargabox_core.redis_report import megabytes, memory_report

    report = memory_report(invocation(ctx).settings)
    grave = any(one.grave for one in report.faults)
    if json:
        print_json(report)
    else:
        print_table(
            ("DB", "holds", "keys", "expiring", "bytes (estimated)", "budget"),
            [
                (one.db, one.name, one.keys, one.expiring, megabytes(one.bytes), one.budget and megabytes(one.budget))
                for one in report.databases
            ],
        )
        limit = megabytes(report.maximum) if report.maximum else "no limit"
        say(f"In all {megabytes(report.used)} of {limit}; {report.policy}; {report.evicted:,} keys evicted.")
        for one in report.sentinels:
            say(f"Sentinel {one.address}: " + (f"primary {one.primary}" if one.answers else "does not answer"))
        for replica in report.replicas:
            say(f"Replica {replica.address}: {replica.state}, {replica.lag} s behind")
        for fault in report.faults:
            complain(f"{'FAULT' if fault.grave else 'WARNING'}: {fault.detail}. {fault.remedy}")
    if grave:
        raise typer.Exit(1)


@redis.command("capacity")
def capacity(ctx: typer.Context, json: Json = False) -> None:
    """Measure what one waiting task and one result take in this Redis, and say how many fit. It leaves nothing behind.

    Example: sicargabox redis capacity
    """
    from sicargabox_core.redis_report import megabytes
    from sicargabox_core.redis_server import BUDGETS, Db
    from sicargabox_core.tasks.capacity import RECORDED_ON, USABLE
    from sicargabox_core.tasks.capacity import capacity as measure

    found = measure(invocation(ctx).settings)
    if json:
        print_json(found)
        return
    if not found.measured:
        complain(f"Redis could not be measured: these are the figures recorded on {RECORDED_ON}.")
    broker, results = megabytes(BUDGETS[Db.BROKER]), megabytes(BUDGETS[Db.RESULTS])
    print_table(
        ("", "figure"),
        [
            ("one waiting task", f"{found.message_bytes:,.0f} bytes"),
            ("one result entry", f"{found.result_bytes:,.0f} bytes"),
            (f"waiting tasks in the broker's {broker}", found.waiting_in_budget),
            (f"waiting tasks in {USABLE:.0%} of {megabytes(found.maximum)}", found.waiting_in_all),
            (f"results in {results}", found.results_in_budget),
            (f"tasks/s, each kept for {found.result_seconds / 86_400:g} days", round(found.results_per_second, 2)),
        ],
    )
    say("A part of a task that succeeds writes no result entry. What does not fit waits in SQL, or is evicted there.")
