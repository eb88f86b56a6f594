"""The probe worker as Celery 5.7.0 leaves it: without the guard against its exit when the broker is lost.

It is the control of a law: a treatment that this worker survives proves nothing about the guarded one.
"""

from __future__ import annotations

from typing import Any

import kombu.transport.redis

from tests.task_system.probe import app

__all__ = ["app"]

_guarded: Any = kombu.transport.redis.Channel._connparams
kombu.transport.redis.Channel._connparams = _guarded.__wrapped__  # type: ignore[method-assign]  # undoing it is the point
