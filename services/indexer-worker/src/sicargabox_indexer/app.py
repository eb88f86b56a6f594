"""The Celery application of the indexer-worker: `celery -A sicargabox_indexer.app worker -Q elasticsearch,celery`."""

from sicargabox_core.tasks.worker import make_worker_app

app = make_worker_app("indexer-worker", tasks=["sicargabox_indexer.tasks", "sicargabox_indexer.housekeeping"])
