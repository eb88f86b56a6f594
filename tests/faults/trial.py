"""One fault under load, from a steady state to the last row: what happened and whether a promise was broken.

    steady → long tasks → inject → hold → heal → work goes on → settle → everything accepted so far is final → judged

Asserted, each as a breach in words: every 2xx was executed and its row is final; each SUCCESS has its effect exactly
once; executed twice only what ran in a process that was killed or frozen; one task for each key, whatever was answered
first; no process ended that was not killed; work went on within 60 s; no error where SQL and the API live. Measured
only: the time until work went on, latencies of accepting, errors, duplicates that were suppressed.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg2

from tests.faults.books import Accepted, Books
from tests.faults.faults import Fault
from tests.faults.installation import CHILDREN, Installation
from tests.faults.load import BURST, QUEUES
from tests.faults.scene import RESUME_SECONDS, Scene
from tests.servers.ports import wait_until

FINAL_SECONDS = 120.0
STEADY_SECONDS = 60.0
FEW = 20
# A child that has nothing to do for so long, under a load that never ends, stands still.
STALL_SECONDS = 2.5
LONG_HAVE_BEGUN_SECONDS = 1.0
SETTLE_SECONDS = 1.0


@dataclass
class Outcome:
    """One repetition of one fault; seconds where not said otherwise. It is one line of the results file."""

    fault: str
    title: str
    accepted: int = 0
    executed: int = 0
    lost: int = 0
    effects_wrong: int = 0
    executed_twice: int = 0
    executed_twice_unexplained: int = 0
    suppressed: int = 0
    errors: int = 0
    resume: float | None = None
    accept_p99: float | None = None
    accept_most: float | None = None
    seconds: float = 0.0
    errors_allowed: bool = False
    breaches: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line for people."""
        waits = f"goes on after {self.resume} s, accepts in {self.accept_p99} s (p99), {self.accept_most} s at most"
        counts = f"{self.accepted} accepted, {self.lost} lost, {self.effects_wrong} effects not once"
        again = f"{self.executed_twice} executed twice, {self.suppressed} doubled messages dropped"
        return f"{self.title}: {counts}, {again}, {self.errors} errors; {waits}; took {self.seconds} s"

    def as_line(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


class Trials:
    """Trials of one installation, one after the other, and the account of all of them at the end."""

    def __init__(self, installation: Installation) -> None:
        """Needs a started installation."""
        self.installation = installation
        self.books = Books(installation.answers, installation.executions)
        self._counted_until = 0.0

    def run(self, kind: type[Fault]) -> Outcome:
        """One trial. Raises nothing that the fault caused: that is a breach of the outcome."""
        fault, scene = kind(), Scene(self.installation, self.books)
        outcome = Outcome(kind.name, kind.title, errors_allowed=kind.errors_allowed)
        began = time.time()
        suppressed_before: dict[str, float] = {}
        healed_at = 0.0
        self.installation.forget_interruptions()
        try:
            self._wait_steady(scene)
            if fault.long_tasks:
                self.installation.order("long")
                time.sleep(LONG_HAVE_BEGUN_SECONDS)
            suppressed_before = self.installation.duplicates_suppressed()
            scene.injected_at = time.time()
            try:
                fault.inject(scene)
                fault.hold(scene)
            finally:
                fault.heal(scene)
            healed_at = time.time()
            scene.wait_resumed(healed_at)
            time.sleep(SETTLE_SECONDS)
        except Exception as error:  # noqa: BLE001  # whatever went wrong is the outcome, and all is judged still
            outcome.breaches.append(f"{type(error).__name__}: {error}")
        until = time.time()
        self._wait_final(until, outcome)
        self._judge(self._counted_until, until, outcome)
        self._counted_until = until
        self._measure(fault, scene.injected_at or until, healed_at or until, until, outcome)
        after = self.installation.duplicates_suppressed()
        outcome.suppressed = int(sum(max(0, after[name] - suppressed_before.get(name, 0)) for name in after))
        outcome.breaches += self.installation.take_breaches()
        try:
            outcome.breaches += fault.inspect(scene)
        except Exception as error:  # noqa: BLE001  # as above
            outcome.breaches.append(f"inspecting: {type(error).__name__}: {error}")
        outcome.seconds = round(time.time() - began, 1)
        return outcome

    def close(self) -> Outcome:
        """Ends the load and judges everything ever accepted, so that nothing late goes unseen."""
        outcome = Outcome("all", "Everything accepted", errors_allowed=True)
        self.installation.end_load(FINAL_SECONDS)
        until = time.time()
        self._wait_final(until, outcome)
        self._judge(0.0, until, outcome, ever=True)
        outcome.breaches += self.installation.take_breaches()
        return outcome

    # --- waiting -----------------------------------------------------------------------------------------------------
    def _wait_steady(self, scene: Scene) -> None:
        self.installation.redis.wait_whole()
        wait_until(self.installation.programs_up, seconds=STEADY_SECONDS, what="every process runs")
        scene.wait_resumed(time.time())
        # A backlog from the fault before, on a machine that is only just quick enough, is not this one's doing.
        if not self._few_waiting():
            self.installation.order("pause")
            wait_until(self._few_waiting, seconds=STEADY_SECONDS, what="the backlog is drained", interval=0.3)
            self.installation.order("go")
            scene.wait_resumed(time.time())

    def _few_waiting(self) -> bool:
        with self.installation.sql() as cursor:
            cursor.execute(
                "SELECT count(*) FROM tasks WHERE state IN ('PENDING', 'RETRY') AND run_at < now() - interval '1 s'"
            )
            return int(cursor.fetchone()[0]) < FEW

    def _wait_final(self, until: float, outcome: Outcome) -> None:
        """Until every key sent by then is answered and every row accepted by then is final, children included."""

        def final() -> bool:
            self.books.read()
            if self.books.unanswered(until):
                return False
            ids = [one.id for one in self.books.between(self._counted_until, until)]
            with self.installation.sql() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM tasks WHERE (id = ANY(%s) OR parent_id = ANY(%s)) AND finished_at IS NULL",
                    (ids, ids),
                )
                return int(cursor.fetchone()[0]) == 0

        try:
            wait_until(final, seconds=FINAL_SECONDS, what="everything accepted is final", interval=0.5)
        except Exception as error:  # noqa: BLE001  # what is missing is counted by the judgement
            outcome.breaches.append(f"{type(error).__name__}: {error}")

    # --- judging -----------------------------------------------------------------------------------------------------
    def _judge(self, start: float, until: float, outcome: Outcome, *, ever: bool = False) -> None:
        self.books.read()
        accepted = {one.id: one for one in self.books.between(start, until)}
        rows, effects = self._rows(list(accepted))
        outcome.accepted = len(accepted)
        lost, wrong, unsuccessful = [], [], []
        for task_id, row in rows.items():
            one = accepted.get(task_id)
            of_tests = one.of_tests if one else row["name"].startswith("faults.")
            ended = any(run.what == "end" for run in self.books.runs.get(task_id, ()))
            if not row["final"] or (of_tests and not ended):
                lost.append(f"{task_id} {row['state']} attempt {row['attempt']}")
                continue
            outcome.executed += 1
            if of_tests and row["state"] != "SUCCESS":
                unsuccessful.append(f"{task_id} {row['state']} {row['error']}")
            if of_tests and effects[task_id] != (row["state"] == "SUCCESS"):
                wrong.append(f"{task_id} {row['state']}: {effects[task_id]} effects")
        lost += [f"{task_id} has no row" for task_id in accepted if task_id not in rows]
        outcome.lost, outcome.effects_wrong = len(lost), len(wrong)
        self._judge_repetitions(list(rows), outcome, ever=ever)
        for what, found in (("lost", lost), ("effects not exactly once", wrong), ("not successful", unsuccessful)):
            if found:
                outcome.breaches.append(f"{what}: {len(found)}, such as {'; '.join(found[:5])}")
        outcome.breaches += self._keys_with_two_tasks(list(accepted.values()))
        if self.books.refused:
            outcome.breaches.append(f"refused with 409 or 422, a key each: {sorted(self.books.refused)[:5]}")
        if unanswered := self.books.unanswered(until):
            outcome.breaches.append(f"never answered by a 2xx: {len(unanswered)} keys, such as {unanswered[0]}")
        errors = Counter(problem for at, _, problem in self.books.errors if start < at <= until)
        outcome.errors = errors.total()
        if errors and not outcome.errors_allowed:
            outcome.breaches.append(f"errors though SQL and the API lived: {dict(errors)}")

    def _rows(self, ids: list[str]) -> tuple[dict[str, dict[str, Any]], Counter[str]]:
        """The rows of these tasks and their children, and how often each one's effect was committed."""
        with self.installation.sql() as cursor:
            cursor.execute(
                "SELECT id, name, state, attempt, finished_at IS NOT NULL, error_code FROM tasks"
                " WHERE id = ANY(%s) OR parent_id = ANY(%s)",
                (ids, ids),
            )
            names = ("id", "name", "state", "attempt", "final", "error")
            rows = {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}
            cursor.execute(
                "SELECT task_id, count(*) FROM fault_effects WHERE task_id = ANY(%s) GROUP BY task_id", (list(rows),)
            )
            return rows, Counter(dict(cursor.fetchall()))

    def _judge_repetitions(self, ids: list[str], outcome: Outcome, *, ever: bool) -> None:
        unexplained = []
        for task_id in ids:
            begun = [run for run in self.books.runs.get(task_id, ()) if run.what == "begin"]
            if len(begun) < 2:
                continue
            outcome.executed_twice += 1
            if not all(self.installation.was_interrupted(run.pid, run.worker, ever=ever) for run in begun[:-1]):
                unexplained.append(f"{task_id} {[(run.attempt, run.worker, round(run.at, 1)) for run in begun]}")
        outcome.executed_twice_unexplained = len(unexplained)
        if unexplained:
            outcome.breaches.append(
                f"executed twice though nothing that ran them was killed or frozen: {len(unexplained)},"
                f" such as {'; '.join(unexplained[:5])}"
            )

    def _keys_with_two_tasks(self, accepted: list[Accepted]) -> list[str]:
        tasks_of: dict[str, set[str]] = defaultdict(set)
        for one in accepted:
            tasks_of[one.key].add(one.id)
        with self.installation.sql() as cursor:
            cursor.execute("SELECT idempotency_key, id FROM tasks WHERE idempotency_key = ANY(%s)", (list(tasks_of),))
            for key, task_id in cursor.fetchall():
                tasks_of[key].add(task_id)
        return [f"key {key} made {len(found)} tasks" for key, found in tasks_of.items() if len(found) > 1]

    # --- measuring ---------------------------------------------------------------------------------------------------
    def _measure(self, fault: Fault, injected: float, healed: float, until: float, outcome: Outcome) -> None:
        # A backlog made at once waits for itself.
        waits = sorted(one.seconds for one in self.books.between(injected, until) if one.kind != BURST)
        if waits:
            outcome.accept_p99 = round(waits[min(len(waits) - 1, int(len(waits) * 0.99))], 3)
            outcome.accept_most = round(waits[-1], 3)
        since = injected if fault.resumes_unhealed else healed
        try:
            stood_still = [self._went_on(name, since, until) for name in QUEUES]
        except psycopg2.Error as error:
            outcome.breaches.append(f"measuring: {error}")
            return
        if None not in stood_still:
            outcome.resume = round(max(at - since for at in stood_still if at is not None), 1)
        if outcome.resume is None or outcome.resume > RESUME_SECONDS:
            outcome.breaches.append(f"work did not go on within {RESUME_SECONDS:g} s")

    def _went_on(self, queue: str, since: float, until: float) -> float | None:
        """When the queue executed new tasks and stood still no more; none: it never did."""
        fresh = {one.id for one in self.books.accepted if one.at > since}
        first = next((run.at for run in self.books.begun if run.queue == queue and run.id in fresh), None)
        if first is None:
            return None
        begun = sorted(run.at for run in self.books.begun if run.queue == queue and since <= run.at <= until)
        busy = self._busy(queue, since, until)
        gaps = zip([since, *begun], begun, strict=False)
        return max([first, *(later for earlier, later in gaps if _idle(busy, earlier, later) > STALL_SECONDS)])

    def _busy(self, queue: str, since: float, until: float) -> list[tuple[float, float]]:
        """When this queue's worker ran tasks, the product's own included; a parent that waits runs nothing."""
        queues = [queue, "celery"] if queue == "elasticsearch" else [queue]
        with self.installation.sql() as cursor:
            cursor.execute(
                "SELECT extract(epoch FROM started_at), extract(epoch FROM coalesce(finished_at, clock_timestamp()))"
                " FROM tasks WHERE queue = ANY(%s) AND children_total IS NULL"
                " AND started_at <= to_timestamp(%s) AND coalesce(finished_at, clock_timestamp()) >= to_timestamp(%s)",
                (queues, until, since),
            )
            return [(float(start), float(end)) for start, end in cursor.fetchall()]


def _idle(busy: list[tuple[float, float]], start: float, end: float) -> float:
    """The longest time between these moments during which one of the worker's children had nothing to do."""
    changes = sorted(
        [(max(start, one), 1) for one, other in busy if one < end and other > start]
        + [(other, -1) for one, other in busy if one < end and start < other < end]
    )
    longest, free_since, running = 0.0, start, 0
    for at, change in [*changes, (end, CHILDREN)]:
        before, running = running, running + change
        if before < CHILDREN <= running:
            longest = max(longest, at - free_since)
        elif running < CHILDREN <= before:
            free_since = at
    return longest
