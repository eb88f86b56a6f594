"""How the bloat runs are told: two tables, and for each fault whether its goals are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.report import Figure, machine
from benchmarks.tasks.bloat_figures import BIN_SECONDS, OURS, SYSTEMS, WINDOW_SECONDS, Served, System, Tables

GOAL_LEAST, GOAL_RECOVERED, GOAL_RECOVERY_SECONDS = 0.5, 0.95, 60.0
# The statements' cost is read over the last part of a phase, when it is worst.
COST_SECONDS = 60.0
# Each fault and the phase in which recovery from it is looked for.
FAULTS = {"pinned xmin": "after pinned xmin", "four readers": "after four readers", "overload": "draining"}


@dataclass(frozen=True)
class Phase:
    """One phase as measured, by system's name."""

    name: str
    seconds: float
    rate: float
    served: dict[str, Served]
    most_dead: dict[str, int]
    before: dict[str, Tables]
    after: dict[str, Tables]
    sql_ms: dict[str, float]
    blocks: dict[str, float]
    note: str = ""


def show(measured: Sequence[Phase]) -> None:
    """Prints the tables and whether the goals are kept, as far as there are phases; nothing before the clean one."""
    phases = {phase.name: phase for phase in measured}
    clean = phases.get("clean")
    if clean is None:
        return
    out = Console(highlight=False, width=150)
    out.print(machine())
    work = Table(
        *(
            "phase",
            "system",
            "offered/s",
            "least/s",
            "median/s",
            "least ÷ clean",
            "0.95 again after",
            "claim p50, p99 ms",
        ),
        title="Work",
        title_justify="left",
    )
    tables = Table(
        *("phase", "system", "most dead rows", "dead at its end", "tables MB", "indexes MB", "writes a task", "HOT"),
        *("vacuums", "SQL ms a task", "blocks a task"),
        title="Tables",
        title_justify="left",
    )
    for phase in measured:
        for system in SYSTEMS:
            work.add_row(*_work(phase, clean, system))
            tables.add_row(*_tables(phase, system))
    out.print(work)
    out.print(tables)
    out.print(
        f"Throughput over windows of {WINDOW_SECONDS} s beginning every {BIN_SECONDS} s. Claim: from accepted to"
        " started. Writes a task: row versions (inserts and updates) of the phase for each task finished in it."
        f" SQL and blocks: execution in the server over the last {COST_SECONDS:.0f} s of the phase."
    )
    for name, then in FAULTS.items():
        fault, after = phases.get(name), phases.get(then)
        if fault is not None and after is not None:
            for system in SYSTEMS:
                out.print(_verdict(fault, after, clean, system))


def _work(phase: Phase, clean: Phase, system: System) -> list[str]:
    served, usual = phase.served[system.name], clean.served[system.name].usual
    again = served.seconds_until(GOAL_RECOVERED * usual)
    return [
        phase.name,
        system.name,
        f"{phase.rate:.0f}",
        f"{served.least:.1f}",
        f"{served.usual:.1f}",
        f"{served.least / usual:.2f}" if usual and phase.rate else "",
        "never" if again is None else f"{again:g} s",
        f"{served.p50:.0f}, {served.p99:.0f}",
    ]


def _tables(phase: Phase, system: System) -> list[str]:
    after, before, finished = phase.after[system.name], phase.before[system.name], phase.served[system.name].finished
    updated, hot = after.updated - before.updated, after.hot - before.hot
    written = after.inserted - before.inserted + updated
    return [
        phase.name,
        system.name,
        f"{phase.most_dead[system.name]:,}",
        f"{after.dead:,}",
        f"{before.table_bytes / 2**20:.1f} → {after.table_bytes / 2**20:.1f}",
        f"{before.index_bytes / 2**20:.1f} → {after.index_bytes / 2**20:.1f}",
        f"{written / finished:.2f}" if finished else "",
        f"{hot / updated:.2f}" if updated else "",
        str(after.vacuums - before.vacuums),
        f"{phase.sql_ms[system.name]:.2f}",
        f"{phase.blocks[system.name]:.0f}",
    ]


def kept(fault: Phase, after: Phase, clean: Phase, system: System) -> tuple[float, float | None]:
    """The slowest window against the clean phase's median, and the seconds until 0.95 of that is reached again."""
    usual = clean.served[system.name].usual
    least = fault.served[system.name].least / usual if usual else 0.0
    return least, after.served[system.name].seconds_until(GOAL_RECOVERED * usual)


def _verdict(fault: Phase, after: Phase, clean: Phase, system: System) -> str:
    least, again = kept(fault, after, clean, system)
    held = "kept" if least >= GOAL_LEAST else "MISSED"
    back = "never in the phase" if again is None else f"{again:g} s"
    within = "kept" if again is not None and again <= GOAL_RECOVERY_SECONDS else "MISSED"
    done = fault.served[system.name].finished
    text = (
        f"{fault.name}, {system.name}: least ÷ clean {least:.2f} (goal ≥ {GOAL_LEAST:g}: {held});"
        f" {GOAL_RECOVERED:g} of clean again after {back} (goal ≤ {GOAL_RECOVERY_SECONDS:.0f} s: {within});"
        f" {fault.most_dead[system.name] / max(1, done):.1f} dead rows for each task done meanwhile"
    )
    if fault.name == "overload":
        left = after.served[system.name]
        rate = left.finished / left.last_after if left.last_after else 0.0
        text += f"; what was left over, {left.finished}, done in {left.last_after:.0f} s, {rate:.0f}/s"
    return text


def figures(measured: Sequence[Phase], minutes: float) -> list[Figure]:
    """One figure for each fault and system, with the goals that are ours."""
    phases = {phase.name: phase for phase in measured}
    found = []
    for name, then in FAULTS.items():
        for system in SYSTEMS:
            least, again = kept(phases[name], phases[then], phases["clean"], system)
            met = least >= GOAL_LEAST and again is not None and again <= GOAL_RECOVERY_SECONDS
            back = "not within the phase" if again is None else f"after {again:g} s"
            found.append(
                Figure(
                    f"{name} for {minutes:g} minutes, {system.name}: slowest {WINDOW_SECONDS} s ÷ clean, recovery",
                    f"{least:.2f}, {back}; at most {phases[name].most_dead[system.name]:,} dead rows",
                    f"≥ {GOAL_LEAST:g}, ≤ {GOAL_RECOVERY_SECONDS:.0f} s" if system is OURS else "",
                    met if system is OURS else None,
                )
            )
    return found
