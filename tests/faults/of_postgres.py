"""What can happen to PostgreSQL. Only here, and where the API dies, may a request fail; the key makes it safe to
repeat."""

from __future__ import annotations

import random
import time

import psycopg2

from tests.faults.faults import Fault, fault
from tests.faults.installation import WORKERS
from tests.faults.scene import Scene

# Of every connection of ours; the tests' own have another name.
_OURS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'sicargabox%%'"


class _Postgres(Fault):
    order = 60
    errors_allowed = True


@fault
class PostgresRestarted(_Postgres):
    """As after a crash: every session ends in the middle of what it did, and the log is replayed."""

    name = "postgres-restarted"
    title = "PostgreSQL restarted (`-m immediate`)"
    own_clock = "counted from when it answers again"

    def inject(self, scene: Scene) -> None:
        scene.installation.postgres.restart_immediately()


@fault
class SessionsTerminated(_Postgres):
    """One of our sessions after the other is ended, as by a pooler or an operator in a hurry."""

    name = "sessions-terminated"
    title = "`pg_terminate_backend` against our sessions, 10 a second for 15 s"
    resumes_unhealed = True
    own_clock = "counted from the first one"
    seconds, a_second = 15.0, 10

    def inject(self, scene: Scene) -> None:
        with scene.installation.sql() as cursor:
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                cursor.execute(_OURS)
                sessions = [pid for (pid,) in cursor.fetchall()]
                if sessions:
                    cursor.execute("SELECT pg_terminate_backend(%s)", (random.choice(sessions),))
                scene.sleep(1 / self.a_second)


@fault
class ConnectionsTaken(_Postgres):
    """Somebody else holds every connection that the server gives, ours included: they were ended first."""

    name = "connections-taken"
    title = "300 idle connections held against PostgreSQL for 15 s"
    hold_seconds = 15.0
    own_clock = "counted from when there are connections again"
    most = 300

    def __init__(self) -> None:
        self.held: list[psycopg2.extensions.connection] = []
        self.refused = False

    def inject(self, scene: Scene) -> None:
        # Who gets no connection for longer than its lease is to the others as good as dead.
        for name, *_ in WORKERS:
            scene.installation.interrupted(*scene.installation.children(name))
        with scene.installation.sql() as cursor:
            self._take(scene)
            # Kept connections would hide it; each place they leave is taken before they are back, or soon after.
            cursor.execute(f"SELECT count(pg_terminate_backend(pid)) FROM ({_OURS}) AS ours")
            self._take(scene)

    def _take(self, scene: Scene) -> None:
        url = scene.installation.database_url
        while len(self.held) < self.most:
            try:
                self.held.append(psycopg2.connect(url, application_name="idle", connect_timeout=5))
            except psycopg2.OperationalError:
                self.refused = True
                return

    def heal(self, scene: Scene) -> None:
        while self.held:
            self.held.pop().close()

    def inspect(self, scene: Scene) -> list[str]:
        return [] if self.refused else ["the server never ran out of connections"]
