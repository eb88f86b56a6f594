"""The Celery application of the learning-worker: `celery -A sicargabox_learning.app worker -Q learning`."""

from sicargabox_core.tasks.worker import make_worker_app

app = make_worker_app("learning-worker", tasks=["sicargabox_learning.tasks", "sicargabox_learning.measuring"])
