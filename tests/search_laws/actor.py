"""A process of its own for the laws between processes: ``python -m tests.search_laws.actor COMMAND ADDRESS …``.

``rebuild`` says "half" when half of the documents are written and goes on after a line of input. ``read`` asks until
its input ends, then prints what it has seen.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from core.tests.search.tariff import LINES

from sicargabox_core.db import Database
from sicargabox_core.errors import SicargaBoxError
from sicargabox_core.search import elasticsearch_bulk, tantivy_engine
from sicargabox_core.search.documents import iter_documents
from sicargabox_core.search.engine import Candidate, Filters, Lookup, SearchEngine
from tests.search_laws.place import Place, open_place


def rebuild(place: Place, url: str, stop: str) -> None:
    """Builds generation ``actor`` and stops at ``half`` or inside ``publish`` until told to go on."""
    tantivy_engine.BATCH = elasticsearch_bulk.BATCH = 1

    def pause(at: str) -> None:
        if at == stop:
            print(at, flush=True)
            sys.stdin.readline()

    entered: list[str] = []

    @contextmanager
    def publish() -> Iterator[None]:
        entered.append("begin" if not entered else "publish")
        pause(entered[-1])
        yield

    with Database(url).read() as session:
        place.engine().rebuild(
            iter_documents(session),
            generation="actor",
            on_progress=lambda count: pause("half") if count == len(LINES) // 2 else None,
            publish=publish,
        )
    print("done", flush=True)


def read(place: Place) -> None:
    """Asks for every line as fast as it can, and counts answers, errors and generations seen."""
    engine = place.engine()
    stopped = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        stopped.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    answers: Counter[str] = Counter()
    generations: dict[str, None] = {}
    print("reading", flush=True)
    while not stopped.is_set():
        try:
            held = len({c.code[:10] for code in ("39", "64", "85", "90") for c in _below(engine, code)})
            answers["whole" if held == len(LINES) else f"held {held}"] += 1
            generations[engine.status().generation or "none"] = None
        except SicargaBoxError as error:
            answers[str(error)] += 1
    print(json.dumps({"answers": answers, "generations": list(generations)}), flush=True)


def _below(engine: SearchEngine, code: str) -> list[Candidate]:
    return engine.candidates(Lookup(code=code), 200, Filters())


if __name__ == "__main__":
    command, address, *rest = sys.argv[1:]
    if command == "rebuild":
        rebuild(open_place(address), *rest)
    else:
        read(open_place(address))
