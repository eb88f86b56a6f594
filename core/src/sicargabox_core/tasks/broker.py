"""The Celery application every process uses: broker, settings, routes.

The row in SQL is the task; these settings only make the hints travel well. Each has its reason beside it; all were
measured on Celery and kombu 5.7.0 with redis-py 8.1.0 and Redis 7.0, which is why those versions are pinned.
"""

from __future__ import annotations

import functools
import warnings
from queue import Empty
from typing import Any

import kombu.transport.redis
import structlog
from celery import Celery
from kombu.entity import Exchange
from kombu.entity import Queue as KombuQueue
from redis.exceptions import ConnectionError as RedisConnectionError

from sicargabox_core.redis_server import CONNECT_SECONDS, Db, RedisAddress, parse_address, sentinel_options
from sicargabox_core.settings import Settings
from sicargabox_core.tasks.contracts import TASKS, Queue

log = structlog.get_logger(__name__)

# A Sentinel that does not answer by then is passed over for the next.
_SENTINEL_SECONDS = 1.0

# Celery announces a changed default of 6.0 at every reconnect; make_celery says why we choose the present one.
warnings.filterwarnings("ignore", message=r"\s*In Celery 5.1 we introduced an optional breaking change")


def _guard_against_collected_connection() -> None:
    """Keeps a worker alive when its broker connection drops while messages are unacknowledged.

    Celery 5.7.0's ``on_connection_error_after_connected`` first collects the connection and then closes it; closing
    asks the collected connection for its host name and ends in an AttributeError that nobody catches: the worker
    exits with code 1 (11 exits in 24 kills of the primary without this guard, none in 72 with it). It takes one child
    at work and another that is free: the first holds a message, the second waits in BRPOP, and closing stumbles over
    that one before it gives the message back. A connection error in its place is one that Celery ignores there. To be
    dropped as soon as the unguarded worker of ``test_worker_survival`` lives on.
    """
    channel = kombu.transport.redis.Channel
    original: Any = channel._connparams

    @functools.wraps(original)
    def _connparams(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.connection is None or getattr(self.connection, "client", None) is None:
            raise RedisConnectionError("the broker connection was already collected")
        return original(self, *args, **kwargs)

    channel._connparams = _connparams  # type: ignore[method-assign]  # replacing it is the point


def _guard_against_poison() -> None:
    """Keeps a worker alive when something that is no message lies in its queue.

    kombu parses what BRPOP gave outside every handler of Celery, and a text that is not JSON, or JSON without
    properties, or nested too deeply, ended the whole worker with "Unrecoverable error" (seen with 5.7.0), one after
    the other. It has left the list by then, so it is thrown away like a message of an unknown task.

    Celery's own handler runs inside that call too, after the message was counted as taken. Left so, it takes a child's
    place for ever, and a worker with one child never takes a message again (seen with a list for a task's name).
    """
    channel = kombu.transport.redis.Channel
    original: Any = channel._brpop_read

    def _brpop_read(self: Any, **options: Any) -> Any:
        taken = set(self.qos._delivered)
        try:
            return original(self, **options)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            connection = getattr(self.client, "connection", None)
            if connection is None:
                raise
            log.error("something that is no message was thrown away", error=repr(error))
            for tag in set(self.qos._delivered) - taken:
                self.qos.reject(tag, requeue=False)
            raise Empty from error

    channel._brpop_read = _brpop_read  # type: ignore[method-assign]  # replacing it is the point


_guard_against_collected_connection()
_guard_against_poison()


def make_celery(settings: Settings, name: str) -> Celery:
    """The Celery application of one process; it connects to nothing yet.

    ``name`` is the service's. Raises ``InvalidSetting`` when the Redis address is none.
    """
    address = parse_address(settings)
    app = Celery(name, set_as_current=False)
    app.conf.update(
        broker_url=address.url(Db.BROKER),
        broker_transport_options=_transport_options(settings, address),
        broker_use_ssl=address.tls or None,
        broker_connection_retry_on_startup=True,
        # The default gives up after 100 tries, and a worker that gave up is gone.
        broker_connection_max_retries=None,
        # READONLY, NOREPLICAS, OOM, UNBLOCKED: reconnect instead of exit 1.
        broker_channel_error_retry=True,
        # Results are written from the rows by results.py; Celery itself only reads them (AsyncResult, Flower).
        result_backend=address.url(Db.RESULTS),
        result_backend_transport_options={
            "master_name": settings.redis_sentinel_master,
            "sentinel_kwargs": sentinel_options(settings, _SENTINEL_SECONDS),
            "retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.1},
        },
        redis_backend_use_ssl=address.tls or None,
        redis_socket_timeout=1.0,
        redis_socket_connect_timeout=CONNECT_SECONDS,
        redis_socket_keepalive=True,
        result_expires=settings.result_ttl_seconds,
        # Celery would store a duplicate's None and then refuse to overwrite it.
        task_ignore_result=True,
        # JSON only: a message or result that asks for pickle is code from whoever can write to Redis.
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        enable_utc=True,
        timezone="UTC",
        task_queues=[KombuQueue(queue.value, Exchange(queue.value), routing_key=queue.value) for queue in Queue],
        task_default_queue=Queue.CELERY.value,
        task_routes={spec.name: {"queue": spec.queue.value} for spec in TASKS.values()},
        # A killed child's message comes back in 0.3 s. Who may run it is decided by the claim.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # One message per free child, nothing hoarded: otherwise the oldest message in the list does not tell what
        # the broker can still hold, which the reconciler relies on.
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        # A running task needs SQL, not the broker: at a failover it goes on, and a redelivered message finds nothing
        # to claim. True would kill every running task at every failover and count a failure against it.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # A child is replaced between two tasks; its size is bounded too, as control.py sets when a worker starts.
        worker_max_tasks_per_child=settings.worker_max_tasks_per_child or None,
        worker_send_task_events=True,
        task_send_sent_event=False,
    )
    return app


def _transport_options(settings: Settings, address: RedisAddress) -> dict[str, Any]:
    options: dict[str, Any] = {
        # Without it a command to a frozen primary waits as long as the primary does.
        "socket_timeout": 2,
        "socket_connect_timeout": 1,
        "socket_keepalive": True,
        # A BRPOP on a silent primary is dropped after 4 to 7 s (up to 51 s with the default of 25). With 5 s here and
        # above, work went on 17 to 19 s after a primary was frozen or cut off; with these 10 to 14 s.
        "health_check_interval": 3,
        # A push that timed out may have arrived; the reconciler decides, not the client.
        "retry_on_timeout": False,
        # Leases recover lost work within seconds; this only clears messages of dead workers away.
        "visibility_timeout": 3600,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "unacked_restore_limit": 200,
        # The default blocks every sweep for five minutes after the sweeping worker died.
        "unacked_mutex_expire": 15,
        "max_connections": 50,
    }
    if address.sentinels:
        options |= {
            "master_name": settings.redis_sentinel_master,
            "sentinel_kwargs": sentinel_options(settings, _SENTINEL_SECONDS),
        }
    return options
