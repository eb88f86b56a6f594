"""The Celery application that Flower looks through: the product's broker and results, no task of its own."""

from __future__ import annotations

from sicargabox_core.settings import load_settings
from sicargabox_core.tasks.broker import make_celery

app = make_celery(load_settings(), "flower")
