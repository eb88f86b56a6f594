"""The page «Redis»: what it holds against its budgets, whether it takes messages, who follows it, what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette_admin.i18n import gettext
from starlette_admin.routing import route

from sicargabox_api.admin.language import _, number, told_moment
from sicargabox_api.admin.refusals import sentence
from sicargabox_api.admin.report_page import ReportPage
from sicargabox_api.admin.staff import StaffServices
from sicargabox_api.admin.task_words import QUEUE_WORDS
from sicargabox_core.errors import SicargaBoxError
from sicargabox_core.redis_report import MEMORY_HIGH, RedisFault, RedisReport, memory_report
from sicargabox_core.redis_server import Db, connect
from sicargabox_core.tasks.capacity import RECORDED_ON, Capacity, capacity
from sicargabox_core.tasks.queues import queue_figures

_REDIS_SECONDS = 0.5

DATABASE_WORDS: dict[str, Any] = {
    "broker": _("messages"),
    "results": _("results and progress"),
    "cache": _("limits and presence"),
    "reserved": _("reserved"),
}
# By the code of a fault: what is wrong, and what to do.
FAULT_WORDS: dict[str, tuple[Any, Any]] = {
    "memory_full": (
        _("Memory is full (%(used)s of %(maximum)s) and nothing in it may be evicted. No message is taken."),
        _(
            "No task is lost: they are accepted, wait, and start by themselves once there is room. Add workers if the "
            "messages are over their budget, remove keys that are not ours, or raise maxmemory."
        ),
    ),
    "refuses_replicas": (
        _("It takes no messages: too few replicas follow it."),
        _("Start the replicas or see their logs. No task is lost: they wait and start by themselves."),
    ),
    "refuses_disk": (
        _("It takes no messages: its append-only file cannot be written."),
        _("Make room on its disk. No task is lost: they wait and start by themselves."),
    ),
    "refuses_read_only": (
        _("The server that answers is a replica and takes no messages."),
        _("After a failover this ends by itself within 15 s. If it lasts, see the Sentinels. No task is lost."),
    ),
    "memory_unlimited": (_("Its memory has no limit."), _("Set maxmemory, as redis/redis.conf does.")),
    "memory_high": (
        _("Memory is nearly full: %(used)s of %(maximum)s."),
        _("See below which database is over its budget."),
    ),
    "over_budget_broker": (
        _("Waiting messages take %(used)s of their %(budget)s."),
        _("More waits than is worked off: add workers."),
    ),
    "over_budget_results": (
        _("Results take %(used)s of their %(budget)s."),
        _("Shorten SICARGABOX_RESULT_TTL_SECONDS; the database keeps every result."),
    ),
    "over_budget_cache": (
        _("Limits and presence take %(used)s of their %(budget)s."),
        _("See which addresses ask so much; they expire by themselves."),
    ),
    "policy_evicts_queues": (
        _("The policy %(policy)s deletes whole queues when memory is full."),
        _("Set volatile-lru, as redis/redis.conf does."),
    ),
    "policy_other": (_("The policy is %(policy)s."), _("Set volatile-lru, as redis/redis.conf does.")),
    "save_failed": (_("The last save to disk failed."), _("See its log: a full disk or missing rights.")),
    "append_failed": (
        _("The append-only file could not be written."),
        _("See its log: a full disk or missing rights."),
    ),
    "no_append_only": (
        _("There is no append-only file: a restart forgets messages, which are then sent again."),
        _("Set appendonly yes, as redis/redis.conf does."),
    ),
    "no_replica": (
        _("No replica follows the primary: nothing can take its place."),
        _("Start the replicas or see their logs."),
    ),
    "sentinels_silent": (
        _("Sentinels that do not answer: %(silent)s."),
        _("Start them, or correct their addresses in SICARGABOX_REDIS_URL."),
    ),
    "sentinels_disagree": (
        _("The Sentinels name different primaries."),
        _("A failover is going on; if this lasts, see their logs."),
    ),
}


class RedisPage(ReportPage):
    """For everybody who is signed in: it tells sizes and names, no values."""

    menu_label = "Redis"
    icon = "fa-solid fa-memory"
    path = "/redis"
    route_name = "redis_page"

    def __init__(self, services: StaffServices) -> None:
        super().__init__(services)
        self._broker = connect(services.settings, Db.BROKER, replica_ok=True, timeout=_REDIS_SECONDS)
        self._capacity: Capacity | None = None

    @route("")
    async def index(self, request: Request) -> Response:
        """The page as Redis is now; its script asks for the part that changes again every 10 s."""
        told = await run_sync(self._told)
        # The part alone: a script that parses the library's whole page violates our policy with its inline styles.
        template = "_redis_report.html" if request.query_params.get("part") else "redis.html"
        return self._answer(request, template, told)

    def _told(self) -> dict[str, Any]:
        queues = [
            {
                "name": QUEUE_WORDS.get(one.queue, one.queue),
                "waiting": number(one.waiting),
                "published": None if one.published is None else number(one.published),
                "without": None if one.without_message is None else number(one.without_message),
            }
            for one in queue_figures(self._services.database, self._broker)
        ]
        try:
            report = memory_report(self._services.settings)
        except SicargaBoxError as error:
            return {"error": sentence(error), "queues": queues}
        return {
            "error": None,
            "queues": queues,
            "report": report,
            "state": _state(report),
            "faults": [fault_words(one) for one in report.faults],
            "memory": meter(report.used, report.maximum),
            "databases": [
                {
                    "db": one.db,
                    "name": DATABASE_WORDS[one.name],
                    "count": number(one.keys),
                    "expiring": number(one.expiring),
                    "meter": meter(one.bytes, one.budget or 0),
                }
                for one in report.databases
            ],
            "saved": told_moment(datetime.fromtimestamp(report.last_save_at, UTC)) if report.last_save_at else None,
            "slow": [
                {
                    "at": told_moment(datetime.fromtimestamp(one.at, UTC)),
                    "milliseconds": number(round(one.microseconds / 1000, 1)),
                    "command": one.command,
                }
                for one in report.slow
            ],
            "fits": _fits(self._measured()),
        }

    def _measured(self) -> Capacity:
        # Measured once: what a message takes changes with a release, and each time costs Redis half a megabyte.
        if self._capacity is None or not self._capacity.measured:
            self._capacity = capacity(self._services.settings)
        return self._capacity


def fault_words(fault: RedisFault) -> dict[str, Any]:
    """What is wrong and what to do, in the language of the page; one of a newer core keeps its English words."""
    detail, remedy = FAULT_WORDS.get(fault.code, (fault.detail, fault.remedy))
    return {"grave": fault.grave, "detail": str(detail) % fault.values, "remedy": str(remedy)}


def meter(used: int, most: int) -> dict[str, Any]:
    """A bar with its words; ``most`` 0: no limit, so no bar."""
    return {"used": used, "most": most, "high": int(most * MEMORY_HIGH), "text": _sizes(used, most)}


def _sizes(used: int, most: int) -> str:
    return f"{megabytes(used)} / {megabytes(most)}" if most else megabytes(used)


def megabytes(size: int) -> str:
    """A size for people, in the language of the page."""
    return f"{number(round(size / 2**20, 1 if size >= 2**20 else 3))} MB"


def _state(report: RedisReport) -> dict[str, str]:
    """The first thing to read."""
    if any(one.about == "writes" for one in report.faults):
        return {"tone": "danger", "text": gettext("It takes no messages now. Tasks are accepted and wait.")}
    if report.faults:
        return {"tone": "warning", "text": gettext("It works; somebody should look at what follows.")}
    return {"tone": "success", "text": gettext("It works, and nothing is wrong.")}


def _fits(found: Capacity) -> list[str]:
    figures = {
        "message": number(round(found.message_bytes)),
        "result": number(round(found.result_bytes)),
        "waiting": number(found.waiting_in_budget),
        "all": number(found.waiting_in_all),
        "results": number(found.results_in_budget),
        "rate": number(round(found.results_per_second, 2)),
        "days": number(round(found.result_seconds / 86_400, 1)),
        "day": RECORDED_ON,
    }
    lines = [
        gettext("A waiting task takes %(message)s bytes: %(waiting)s fit in the budget, %(all)s in the whole memory."),
        gettext(
            "A result takes %(result)s bytes: %(results)s fit in the budget, that is %(rate)s tasks a second when each "
            "is kept for %(days)s days. Parts of a task that succeed leave no result here."
        ),
    ]
    if not found.measured:
        lines.append(gettext("It could not be measured now: these figures are those of %(day)s."))
    return [line % figures for line in lines]
