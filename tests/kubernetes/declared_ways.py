"""Every way between the pods of an installation that has everything inside: (from, to, port). It is not the chart's."""

from __future__ import annotations

from itertools import product

WORKERS = ("indexer-worker", "ai-worker", "learning-worker")
PROCESSES = ("api", "admin", "scheduler", *WORKERS)
WAYS = {
    *product((*PROCESSES, "migrate", "test"), ["postgres"], [5432]),
    *product((*PROCESSES, "flower", "test"), ["redis"], [6379]),
    *product((*PROCESSES, "flower", "test"), ["sentinel"], [26379]),
    *product(("redis", "sentinel"), ["redis"], [6379]),
    *product(("redis", "sentinel"), ["sentinel"], [26379]),
    *product(("api", "admin", "indexer-worker", "learning-worker"), ["elasticsearch"], [9200]),
    ("test", "api", 8000),
}
