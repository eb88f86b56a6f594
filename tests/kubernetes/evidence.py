"""What a failed wait or a broken law looked like from inside: tasks by queue, and what the processes wrote since."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from tests.kubernetes.cluster import KubectlFailed
from tests.kubernetes.installation import COMPONENT, Installation
from tests.kubernetes.ledger import Ledger, Story
from tests.kubernetes.load import Load

_LINES = 60
_WIDTH = 400
_PROCESSES = ("api", "scheduler", "indexer-worker", "ai-worker", "learning-worker", "redis", "sentinel")
_SHOWN = 5


@contextlib.contextmanager
def explained(installation: Installation, ledger: Ledger, load: Load, since: float) -> Iterator[None]:
    """An ``AssertionError`` inside tells all of this too."""
    try:
        yield
    except AssertionError as error:
        parts = (str(error), requests(load, since), _tasks(ledger, load, since), logs(installation, since))
        raise AssertionError("\n\n".join(parts)) from error


def requests(load: Load, since: float) -> str:
    """How many were answered, and each answer that was an error, in seconds after ``since``."""
    answers = load.answers()
    problems = [f"  {at - since:+7.1f} s  {problem}" for at, problem in load.problems()]
    return "\n".join((f"── {answers.requests} requests, {answers.errors} errors", *problems[:_LINES]))


def _tasks(ledger: Ledger, load: Load, since: float) -> str:
    try:
        return tasks(load.accepted, ledger.stories(), since)
    except KubectlFailed as error:
        return f"── no ledger: {error}"


def tasks(accepted: Sequence[str], stories: dict[str, Story], since: float) -> str:
    """For each queue what was accepted and has ended since, when the last one did, and what the others are in."""
    now = time.time()
    by_queue: dict[str, list[Story]] = defaultdict(list)
    for one in accepted:
        if one in stories:
            by_queue[stories[one].queue].append(stories[one])
    lines = [f"── tasks, {now - since:.0f} s after; {sum(one not in stories for one in accepted)} not in SQL"]
    for queue, found in sorted(by_queue.items()):
        ends = [one.finished_at for one in found if one.finished_at]
        claims = [one.claimed_at for one in found if one.claimed_at]
        last = f"the last claimed {_after(claims, since)}, ended {_after(ends, since)}"
        fresh = sum(one.accepted_at > since for one in found)
        states = Counter(one.states.split()[-1] for one in found)
        lines.append(f"  {queue}: {len(found)} accepted ({fresh} since), {last}; {dict(states)}")
        unfinished = [one for one in found if not one.finished_at][:_SHOWN]
        lines += [
            f"    {one.task} {one.accepted_at - since:+.1f} s: {one.states} ({one.claims} claims, {one.workers})"
            for one in unfinished
        ]
    return "\n".join(lines)


def _after(times: Sequence[float], since: float) -> str:
    return f"{max(times) - since:+.1f} s" if times else "never"


def logs(installation: Installation, since: float) -> str:
    """The last lines that each process wrote since, with the time at which it did."""
    began = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    options = ("--all-containers", "--timestamps", f"--since-time={began}", f"--tail={_LINES}")
    parts = [f"── logs since {began}"]
    try:
        pods = installation.pods()
    except KubectlFailed as error:
        return f"── no logs: {error}"
    for pod in pods:
        name, component = str(pod["metadata"]["name"]), pod["metadata"]["labels"].get(COMPONENT)
        if component in _PROCESSES:
            parts.append(f"─ {name}")
            try:
                told = installation.cluster.kubectl("logs", name, "--namespace", installation.namespace, *options)
            except KubectlFailed as error:
                told = str(error)
            parts += [f"  {line[:_WIDTH]}" for line in told.splitlines()]
    return "\n".join(parts)
