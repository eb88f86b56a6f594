"""The execution ledger: what became of every task, written by the database itself with its own clock.

A trigger of the tests notes each INSERT and each UPDATE that sets state or attempt, in the transaction that does it, so
no process can do anything to a task unseen, and what was rolled back was never done. It lies in a schema of its own.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from tests.kubernetes.cluster import KubectlFailed
from tests.kubernetes.installation import Installation
from tests.servers.ports import wait_until

_INSTALL = """
CREATE SCHEMA IF NOT EXISTS tests_ledger;
CREATE TABLE IF NOT EXISTS tests_ledger.notes (
  number bigserial PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  task text NOT NULL, name text NOT NULL, queue text NOT NULL,
  before text, state text NOT NULL, claims integer NOT NULL, worker text
);
CREATE INDEX IF NOT EXISTS notes_task ON tests_ledger.notes (task);
CREATE OR REPLACE FUNCTION tests_ledger.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO tests_ledger.notes (task, name, queue, before, state, claims, worker)
    VALUES (NEW.id, NEW.name, NEW.queue, NULL, NEW.state, NEW.attempt, NEW.worker);
  ELSE
    INSERT INTO tests_ledger.notes (task, name, queue, before, state, claims, worker)
    VALUES (NEW.id, NEW.name, NEW.queue, OLD.state, NEW.state, NEW.attempt - OLD.attempt, NEW.worker);
  END IF;
  RETURN NULL;
END $body$;
DROP TRIGGER IF EXISTS tests_ledger ON tasks;
CREATE TRIGGER tests_ledger AFTER INSERT OR UPDATE OF state, attempt ON tasks
  FOR EACH ROW EXECUTE FUNCTION tests_ledger.note();
"""
_STORIES = """
SELECT task, max(queue) AS queue,
  sum(claims) AS claims,
  count(*) FILTER (WHERE state = 'SUCCESS') AS finished,
  extract(epoch FROM min(at)) AS accepted_at,
  extract(epoch FROM min(at) FILTER (WHERE claims > 0)) AS claimed_at,
  extract(epoch FROM max(at) FILTER (WHERE state = 'SUCCESS')) AS finished_at,
  string_agg(state, ' ' ORDER BY number) AS states,
  string_agg(DISTINCT worker, ' ') AS workers
FROM tests_ledger.notes GROUP BY task HAVING min(at) >= to_timestamp({since})
"""
_UNFINISHED = "SELECT count(*) AS many FROM tasks WHERE finished_at IS NULL AND name LIKE '%.no_op'"


@dataclass(frozen=True)
class Story:
    """What became of a task. Times in seconds of the database's clock since 1970; none: that has not happened."""

    task: str
    queue: str
    claims: int
    finished: int
    accepted_at: float
    claimed_at: float | None
    finished_at: float | None
    states: str
    workers: str | None


@dataclass(frozen=True)
class Verdict:
    """What became of accepted tasks, by the laws: none lost, none finished twice."""

    accepted: int
    lost: tuple[str, ...]
    finished_twice: tuple[str, ...]
    begun_again: int

    @property
    def figures(self) -> dict[str, int]:
        """As numbers, by the columns of the table of faults."""
        return {
            "accepted": self.accepted,
            "lost": len(self.lost),
            "finished twice": len(self.finished_twice),
            "begun again": self.begun_again,
        }


class Ledger:
    """The ledger of one installation with the chart's own PostgreSQL. Its pod may be away for ``patience`` seconds."""

    def __init__(self, installation: Installation, patience: float = 120) -> None:
        """Begins to write; what was before is not known. May be called again after an upgrade."""
        self._installation, self._patience = installation, patience
        installation.psql(_INSTALL, patience)

    def stories(self, since: float = 0) -> dict[str, Story]:
        """Of every task that was accepted since then, and since the ledger began."""
        found = [Story(**row) for row in self._installation.rows(_STORIES.format(since=since), self._patience)]
        return {one.task: one for one in found}

    def settle(self, seconds: float = 180) -> float:
        """Until no no-op is unfinished; returns when that was seen, to a second, of this machine's clock since 1970.

        Raises ``AssertionError`` when some are after ``seconds``.
        """

        def settled() -> bool:
            try:
                return bool(self._installation.rows(_UNFINISHED)[0]["many"] == 0)
            except KubectlFailed:
                return False

        wait_until(settled, seconds=seconds, what="every no-op has ended", interval=0.5)
        return time.time()

    def verdict(self, accepted: Collection[str]) -> Verdict:
        """Judges the tasks whose ids the API answered."""
        return judge(accepted, self.stories())


def judge(accepted: Collection[str], stories: dict[str, Story]) -> Verdict:
    """Whether what was accepted happened once."""
    known = [(one, stories.get(one)) for one in accepted]
    return Verdict(
        accepted=len(known),
        lost=tuple(f"{one}: {story.states if story else 'not in SQL'}" for one, story in known if not _done(story)),
        finished_twice=tuple(f"{one}: {story.states}" for one, story in known if story and story.finished > 1),
        begun_again=sum(1 for _, story in known if story and story.claims > 1),
    )


def _done(story: Story | None) -> bool:
    return story is not None and story.finished > 0
