"""A history of finished tasks in PostgreSQL, made by the server itself: ten million rows in minutes instead of hours.

Rows are as wide as real ones: a payload, a result, a key on every fifth, a traceback on every failure. They are spread
over the last hundred days, oldest first, as a table that grew by itself would hold them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine, text

from sicargabox_core.db import Database

DAYS = 100
# The oldest row has this name, queue and person, and no other: the worst a filter of a list can meet.
RARE_NAME = "search.audit"
RARE_QUEUE = "elasticsearch"
RARE_PERSON = "user:rare"

# The history is made of two thousand different rows: building each payload and hash anew takes five times as long.
_KINDS = text(
    """
CREATE TEMPORARY TABLE kinds AS
SELECT n, md5(n::text) AS h,
    CASE WHEN n % 4 = 0 THEN 'housekeeping.no_op' ELSE 'ai.generate_keywords_chunk' END AS name,
    CASE WHEN n % 4 = 0 THEN 'celery' ELSE 'ai_generation' END AS queue,
    CASE WHEN n % 200 = 3 THEN 'FAILURE' WHEN n % 500 = 7 THEN 'REVOKED' ELSE 'SUCCESS' END AS state,
    jsonb_build_object('codes', jsonb_build_array(n, n + 1, n + 2), 'only_missing', true, 'note', md5(n::text))
        AS payload,
    'user:ana' || n % 7 AS person,
    md5(n::text) || md5(n::text || 'x') AS payload_hash,
    CASE WHEN n % 200 <> 3 THEN jsonb_build_object('lines', n % 60, 'generated', n % 600, 'skipped', 0) END AS result,
    CASE WHEN n % 200 = 3 THEN 'task_failed' END AS error_code,
    CASE WHEN n % 200 = 3 THEN 'the model gave no answer that fits' END AS error_message,
    CASE WHEN n % 200 = 3 THEN repeat('  File "tasks.py", line 17, in run' || chr(10), 20) END AS traceback
FROM generate_series(0, 1999) AS n
"""
)
_INSERT = text(
    """
INSERT INTO tasks (id, name, version, queue, state, payload, initiated_by, request_id, idempotency_key, payload_hash,
    attempt, failures, max_attempts, created_at, run_at, published_at, publish_count, started_at, finished_at, worker,
    result, error_code, error_message, traceback, parent_id)
SELECT lpad(to_hex(m >> 16), 8, '0') || '-' || lpad(to_hex(m & 65535), 4, '0') || '-7' || substr(h, 1, 3)
        || '-a' || substr(h, 4, 3) || '-' || lpad(to_hex((rows.n * 2654435761) & 281474976710655), 12, '0'),
    name, 1, queue, state, payload, person, h, CASE WHEN rows.n % 5 = 0 THEN 'key-' || rows.n || h END, payload_hash,
    1, 0, 5, t, t, t, 0, t + interval '8 ms', t + interval '40 ms',
    'ai-worker@worker-5d8f7c9b8d-x2x4k/17',
    result, error_code, error_message, traceback,
    CASE WHEN rows.n % 400 = 1 THEN '00000000-0000-7000-a000-' || lpad(to_hex(rows.n / 4000), 12, '0') END
FROM (
    SELECT n, CAST(:began - (:all - n) * :spacing * 1000 AS bigint) AS m,
        to_timestamp(:began / 1000 - (:all - n) * :spacing) AS t
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n
) AS rows JOIN kinds ON kinds.n = rows.n % 2000
"""
)
_RARE = text(
    """
UPDATE tasks SET name = :name, queue = :queue, initiated_by = :person, state = 'SUCCESS'
WHERE id = (SELECT min(id) FROM tasks WHERE parent_id IS NULL)
"""
)


@dataclass(frozen=True)
class Filled:
    """How long a fill took, and what the table and its indexes weigh now, in bytes."""

    seconds: float
    table: int
    indexes: int


def fill(database: Database, *, present: int, wanted: int, all_rows: int) -> Filled:
    """Adds finished rows number ``present`` to ``wanted`` of ``all_rows``; logged, indexed, vacuumed and analysed.

    Indexes are dropped before and made again after: one by one the rows would take ten times as long.
    """
    began = time.monotonic()
    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        secondary = connection.execute(
            text(
                "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'tasks' AND indexname <> 'pk_tasks'"
                " ORDER BY 1"
            )
        ).all()
        for name, _ in secondary:
            connection.execute(text(f"DROP INDEX {name}"))
        connection.execute(text("ALTER TABLE tasks DROP CONSTRAINT pk_tasks"))
    middle = (present + wanted) // 2
    moments = {"all": all_rows, "spacing": DAYS * 86400 / all_rows, "began": (time.time() - 3600) * 1000}
    _both(
        *(
            _doing(engine, _KINDS, _INSERT.bindparams(first=first, last=last - 1, **moments), text("DROP TABLE kinds"))
            for first, last in ((present, middle), (middle, wanted))
        )
    )
    statements = ["ALTER TABLE tasks ADD CONSTRAINT pk_tasks PRIMARY KEY (id)", *(made for _, made in secondary)]
    _both(
        _doing(engine, *map(text, statements[::2])),
        _doing(engine, *map(text, statements[1::2])),
    )
    if present == 0:
        _doing(engine, _RARE.bindparams(name=RARE_NAME, queue=RARE_QUEUE, person=RARE_PERSON))()
    _doing(engine, text("VACUUM ANALYZE tasks"), text("CHECKPOINT"))()
    with engine.connect() as connection:
        table, indexes = connection.execute(text("SELECT pg_table_size('tasks'), pg_indexes_size('tasks')")).one()
    return Filled(time.monotonic() - began, table, indexes)


def _doing(engine: Engine, *statements: object) -> Callable[[], None]:
    def run() -> None:
        with engine.connect() as connection:
            connection.execute(
                text("SET statement_timeout = 0; SET lock_timeout = 0; SET maintenance_work_mem = '1GB'")
            )
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]

    return run


def _both(*actions: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def guarded(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001  # told to the caller below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
