"""Many writes in few requests, with bounded memory: a request is sent while the next one is being made.

Requests are cut by number and by size. An item that Elasticsearch is too busy for is sent again with a growing pause;
any other item it does not take ends the whole with the line's code. Every write carries its writer's token as version.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

from elasticsearch import Elasticsearch
from elasticsearch.helpers import streaming_bulk

from sicargabox_core.errors import TaskFailed
from sicargabox_core.search.elasticsearch_errors import GONE, clear_errors, refused

BATCH = 500
# Far below the server's limit of 100 MB for a request; with those in flight what a process holds of an index at most.
_MOST_BYTES = 8_000_000
_IN_FLIGHT = 2
_RETRIES = 5
_FIRST_PAUSE = 0.2

Action = dict[str, Any]


def index_action(code: str, source: dict[str, Any], token: int) -> Action:
    """Writes a document, unless a later writer has written or deleted it."""
    return {"_op_type": "index", "_id": code, "version": token, "version_type": "external_gte", "_source": source}


def delete_action(code: str, token: int) -> Action:
    """Deletes a document, unless a later writer has written it. One that is not there is deleted too: remembered."""
    return {"_op_type": "delete", "_id": code, "version": token, "version_type": "external_gte"}


def send(client: Elasticsearch, alias: str, actions: Iterable[Action]) -> None:
    """Does all actions on the index behind ``alias``; an index name is refused, since it would be made anew if gone.

    Raises ``Unavailable`` when a later writer was met, ``TaskFailed`` for a document that is not taken.
    """
    with clear_errors():
        for ok, item in streaming_bulk(
            client,
            actions,
            chunk_size=BATCH,
            max_chunk_bytes=_MOST_BYTES,
            max_retries=_RETRIES,
            initial_backoff=_FIRST_PAUSE,
            raise_on_error=False,
            index=alias,
            require_alias=True,
        ):
            if not ok:
                _look_at(item)


def _look_at(item: dict[str, Any]) -> None:
    (kind, told), *_ = item.items()
    status = told["status"]
    if kind == "delete" and status == GONE and "error" not in told:
        return
    fault = refused(status, told.get("error") or {})
    if isinstance(fault, TaskFailed):
        if status == GONE:
            raise TaskFailed("the index that was being written has been removed by another process") from fault
        raise TaskFailed(f"line {told.get('_id')} cannot be indexed: {fault.message}") from fault
    raise fault


def send_in_parallel(
    client: Elasticsearch, alias: str, actions: Iterable[Action], on_batch: Callable[[int], None]
) -> None:
    """The same for very many: while some batches are on their way the next is made by this thread.

    ``on_batch`` is told after each batch how many actions were given, and may raise to stop.
    """
    waiting: deque[Future[None]] = deque()
    given = 0
    with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="bulk") as senders:
        for batch in _batches(actions):
            while len(waiting) >= _IN_FLIGHT:
                waiting.popleft().result()
            waiting.append(senders.submit(send, client, alias, batch))
            given += len(batch)
            if len(batch) == BATCH:
                on_batch(given)
        while waiting:
            waiting.popleft().result()


def _batches(actions: Iterable[Action]) -> Iterator[list[Action]]:
    rest = iter(actions)
    while batch := list(islice(rest, BATCH)):
        yield batch
