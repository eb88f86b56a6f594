"""What a worker's parent process does about messages that are not for its children."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import signals

from sicargabox_core.settings import load_settings
from sicargabox_core.tasks import control
from sicargabox_core.tasks.broker import make_celery
from sicargabox_core.tasks.worker import WorkerRuntime
from tests.servers.ports import wait_until


def test_many_messages_for_nobody_start_no_thread_each(
    sqlite_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(database_url=sqlite_url, redis_url=redis_url, data_dir=tmp_path)
    celery = make_celery(settings, "tests")
    runtime = WorkerRuntime(settings, celery, "tests")
    go_on, dealt_with = threading.Event(), []

    def slow(_runtime: object, ids: list[str]) -> None:
        go_on.wait(30)
        dealt_with.extend(ids)

    monkeypatch.setattr(runtime, "announce", lambda ids: slow(None, ids))
    monkeypatch.setattr(control, "_revoke_rows", slow)
    # Other tests of this process import workers' applications, which would answer these signals too.
    monkeypatch.setattr(signals.task_unknown, "receivers", [])
    monkeypatch.setattr(signals.task_revoked, "receivers", [])
    control.install(celery, runtime)
    before = threading.active_count()
    for number in range(100):
        signals.task_unknown.send(sender=None, id=f"unknown-{number}")
        signals.task_revoked.send(
            sender=None, request=SimpleNamespace(id=f"revoked-{number}"), terminated=False, expired=False
        )
    try:
        assert threading.active_count() <= before + 1
    finally:
        go_on.set()
    wait_until(lambda: len(dealt_with) == 200, seconds=30, what="all of them are dealt with")
    runtime.publisher.stop()
    celery.close()
