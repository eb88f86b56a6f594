"""Changing the tables of a running installation: indexes made and dropped while tasks are accepted and claimed.

A release is installed beside its predecessor, so a migration must neither hold a lock that others wait for nor take
away what the predecessor's statements need.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from alembic import op


def create_index(name: str, table: str, columns: Sequence[str], where: str | None = None) -> None:
    """An index, made beside running writes on PostgreSQL. What a run that was killed left half made is made anew.

    It commits what the migration did before it, so the migration must be able to begin again.
    """
    condition = None if where is None else sa.text(where)
    if op.get_bind().dialect.name == "sqlite":
        op.create_index(name, table, list(columns), if_not_exists=True, sqlite_where=condition)
        return
    with _patience():
        op.execute(sa.text(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))
        op.create_index(name, table, list(columns), postgresql_where=condition, postgresql_concurrently=True)


def drop_index(name: str, table: str) -> None:
    """Drops an index that the previous release can do without; nobody waits for it."""
    if op.get_bind().dialect.name == "sqlite":
        op.drop_index(name, table_name=table, if_exists=True)
        return
    with _patience():
        op.drop_index(name, table_name=table, postgresql_concurrently=True, if_exists=True)


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    # It waits for the transactions that were open before it, and nobody waits for it meanwhile. What comes after it in
    # this session waits as briefly as before.
    with op.get_context().autocommit_block():
        before = op.get_bind().execute(sa.text("SHOW lock_timeout")).scalar_one()
        op.execute(sa.text("SET lock_timeout = 0"))
        try:
            yield
        finally:
            op.execute(sa.text(f"SET lock_timeout = '{before}'"))
