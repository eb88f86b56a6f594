"""The Celery application of the ai-worker: `celery -A sicargabox_ai.app worker -Q ai_generation`."""

from sicargabox_core.tasks.worker import make_worker_app

app = make_worker_app("ai-worker", tasks=["sicargabox_ai.tasks"])
