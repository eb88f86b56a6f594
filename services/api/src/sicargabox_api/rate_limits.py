"""How often one address may ask. It protects the product from one busy client; it never stands in anybody's way.

Counted in Redis (database 2), so that all API processes share one count. A request waits at most 50 ms for it: a
slower, full or missing Redis opens a breaker, and counting goes on in this process alone. Sign-in has a stricter limit
of its own, in SQL (``accounts.users``).
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Awaitable, Callable
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from typing import Annotated

import structlog
from anyio.to_thread import run_sync
from fastapi import Depends, Request
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from sicargabox_core.errors import InvalidSetting, TooManyRequests
from sicargabox_core.redis_server import Db, RedisError, connect
from sicargabox_core.settings import ENV_PREFIX, Settings
from sicargabox_core.tasks.breaker import Breaker

log = structlog.get_logger(__name__)

REDIS_SECONDS = 0.05
# Answers on one machine take under 1 ms, so a server that needs 30 is not one to count with.
_SOCKET_SECONDS = 0.03
_BREAKER_SECONDS = 1.0
# Callers that wait for Redis at the same time; the others find none free in time and count here.
_THREADS = 4


class RouteClass(StrEnum):
    """Routes that share a limit; each has its own setting."""

    PUBLIC = "public"
    CHOICES = "choices"
    STAFF = "staff"


class RateLimits:
    """The limits of one process. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        """Raises ``InvalidSetting`` for a limit that cannot be read."""
        self._items = {
            RouteClass.PUBLIC: _item("RATE_LIMIT_PUBLIC", settings.rate_limit_public),
            RouteClass.CHOICES: _item("RATE_LIMIT_CHOICES", settings.rate_limit_choices),
            RouteClass.STAFF: _item("RATE_LIMIT_STAFF", settings.rate_limit_staff),
        }
        client = connect(settings, Db.CACHE, timeout=_SOCKET_SECONDS)
        self._shared = SlidingWindowCounterRateLimiter(
            RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix="limit")
        )
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._breaker = Breaker("limits", _BREAKER_SECONDS)
        self._threads = concurrent.futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="rate-limits")

    def counts(self, route_class: RouteClass) -> bool:
        """Whether these routes have a limit."""
        return self._items[route_class] is not None

    def check(self, route_class: RouteClass, address: str) -> None:
        """Counts one request; raises ``TooManyRequests`` when the limit is reached, and nothing else."""
        item = self._items[route_class]
        if item is None:
            return
        allowed = self._ask_redis(item, route_class, address)
        if allowed is None:
            allowed = self._own.hit(item, route_class, address)
        if not allowed:
            # After a whole window it is certainly allowed; the exact rest would cost Redis a second question.
            raise TooManyRequests(
                f"more than {item.amount} requests in {item.get_expiry()} s", retry_after=item.get_expiry()
            )

    def _ask_redis(self, item: RateLimitItem, route_class: RouteClass, address: str) -> bool | None:
        if not self._breaker.allows():
            return None
        answer = self._threads.submit(self._shared.hit, item, route_class, address)
        try:
            allowed = answer.result(timeout=REDIS_SECONDS)
        except (RedisError, OSError, TimeoutError) as error:
            answer.cancel()
            if not self._breaker.is_open:
                log.warning("rate limits are counted in this process alone: Redis does not answer", error=str(error))
            self._breaker.failed()
            return None
        self._breaker.succeeded()
        return allowed

    def close(self) -> None:
        """Ends the threads without waiting for Redis."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _item(name: str, text: str) -> RateLimitItem | None:
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidSetting(
            f"{text!r} is not a limit", field=ENV_PREFIX + name, remedy="Write it like 1200/minute, or leave it empty."
        ) from error


def client_address(request: Request) -> str:
    """Whom a limit counts: the peer (or what a trusted proxy says of it); of IPv6 the /64, which is one household."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host[:64]
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Address(int(address) >> 64 << 64))
    return host


def limited(route_class: RouteClass) -> Callable[[Request], Awaitable[None]]:
    """A dependency that counts the request. It stands before the caller's, so that false tokens do not reach SQL."""

    async def count(request: Request) -> None:
        limits: RateLimits = request.app.state.services.rate_limits
        if limits.counts(route_class):
            await run_sync(limits.check, route_class, client_address(request))

    return count


PublicLimit = Annotated[None, Depends(limited(RouteClass.PUBLIC))]
ChoicesLimit = Annotated[None, Depends(limited(RouteClass.CHOICES))]
StaffLimit = Annotated[None, Depends(limited(RouteClass.STAFF))]
