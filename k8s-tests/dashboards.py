"""Writes the chart's Grafana dashboards: `python k8s-tests/dashboards.py`; a test compares them with what it writes.

What a panel says is here, what Grafana wants of every panel is written once. Expressions are PromQL with Grafana's
variables; ``{ours}`` stands for "of this release", ``{here}`` for "of its namespace". It talks to no Grafana.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).resolve().parent.parent / "charts/sicargabox/files/dashboards"
# Grafana 11's.
SCHEMA_VERSION = 39
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT = 12, 8
# Probes and scrapes are nobody's requests.
_REQUESTS = 'sicargabox_http_requests_total{ours, route!~"/(healthz|readyz|metrics)"}[$__rate_interval]'


@dataclass(frozen=True)
class Query:
    """A PromQL expression and how its series are called in the legend."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel; ``red_above`` paints its field when the value is higher."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: Literal["timeseries", "stat"] = "timeseries"
    stacked: bool = False
    red_above: float | None = None


@dataclass(frozen=True)
class Dashboard:
    """A dashboard; ``alerts``: a regular expression of the alerts that are about what it shows."""

    name: str
    title: str
    description: str
    alerts: str
    panels: Sequence[Panel] = field(default_factory=tuple)


def _of_this_release(expr: str) -> str:
    return expr.replace("{ours", '{namespace="$namespace", release="$release"').replace(
        "{here", '{namespace="$namespace"'
    )


def _target(number: int, query: Query) -> dict[str, Any]:
    return {
        "datasource": _SOURCE,
        "editorMode": "code",
        "expr": _of_this_release(query.expr),
        "legendFormat": query.legend,
        "range": True,
        "refId": chr(ord("A") + number),
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_above is not None:
        steps.append({"color": "red", "value": panel.red_above})
    return {"mode": "absolute", "steps": steps}


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel), "min": 0}
    options: dict[str, Any]
    if panel.kind == "stat":
        options = {"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
        defaults["color"] = {"mode": "thresholds"}
    else:
        options = {
            "legend": {
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        defaults["color"] = {"mode": "palette-classic"}
        defaults["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 30 if panel.stacked else 8,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "off" if panel.red_above is None else "line"},
        }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [_target(index, query) for index, query in enumerate(panel.queries)],
    }


def _firing(number: int, alerts: str) -> dict[str, Any]:
    """The alerts that fire now, each with a link to its runbook."""
    selector = f'alertname=~"{alerts}", alertstate="firing", namespace="$namespace", release="$release"'
    query = Query(f"max by (alertname, severity, queue, task, pod, reason) (ALERTS{{{selector}}})", "{{alertname}}")
    link = {"title": "Runbook", "url": "RUNBOOKS/${__data.fields.alertname}.md", "targetBlank": True}
    return {
        "id": number,
        "type": "table",
        "title": "Alerts that fire",
        "description": "Alerts about what this dashboard shows; their names lead to the runbooks, if any are served.",
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {"unit": "none"},
            "overrides": [
                {
                    "matcher": {"id": "byName", "options": "alertname"},
                    "properties": [{"id": "links", "value": [link]}],
                }
            ],
        },
        "options": {"showHeader": True},
        "targets": [{**_target(0, query), "range": False, "instant": True, "format": "table"}],
        "transformations": [{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}],
    }


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
    }


def _placed(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The alerts across the top, then two panels to a row."""
    first, *others = panels
    first["gridPos"] = {"x": 0, "y": 0, "w": 2 * _WIDTH, "h": 5}
    for index, panel in enumerate(others):
        row, column = divmod(index, 2)
        panel["gridPos"] = {"x": column * _WIDTH, "y": 5 + row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
    return panels


def render(dashboard: Dashboard) -> str:
    """The dashboard as JSON for Grafana 11 and newer."""
    firing = (
        f'ALERTS{{alertname=~"{dashboard.alerts}", alertstate="firing", namespace="$namespace", release="$release"}}'
    )
    panels = [_firing(1, dashboard.alerts)]
    panels += [_panel(number, panel) for number, panel in enumerate(dashboard.panels, start=2)]
    source = {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "refresh": 1}
    written = {
        "uid": f"sicargabox-{dashboard.name}",
        "title": f"SicargaBox / {dashboard.title}",
        "description": dashboard.description,
        "tags": ["sicargabox"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [
            {
                "type": "dashboards",
                "title": "SicargaBox",
                "tags": ["sicargabox"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "datasource": _SOURCE,
                    "enable": True,
                    "iconColor": "red",
                    "expr": firing,
                    "titleFormat": "{{alertname}}",
                    "textFormat": "{{severity}}",
                }
            ]
        },
        "templating": {
            "list": [
                source,
                _variable("namespace", "Namespace", "label_values(sicargabox_queue_tasks, namespace)"),
                _variable(
                    "release", "Release", 'label_values(sicargabox_queue_tasks{namespace="$namespace"}, release)'
                ),
            ]
        },
        "panels": _placed(panels),
    }
    return json.dumps(written, indent=1, ensure_ascii=False) + "\n"


QUEUES = Dashboard(
    "queues",
    "Queues and autoscaling",
    "What waits and runs in each queue, as SQL knows it, and how many workers that makes.",
    "SicargaBox(Queue|Tasks|Scheduler|Autoscaler|Replicas|Pod).*",
    (
        Panel(
            "Due tasks",
            "Tasks that could run now and wait for a worker. Zero for hours is fine: workers are then at zero too.",
            "short",
            [Query('max by (queue) (sicargabox_queue_tasks{ours, state="waiting"})', "{{queue}}")],
        ),
        Panel(
            "Oldest due task",
            "How long the task that has waited longest has waited. After ten minutes with nothing running it alerts.",
            "s",
            [Query("max by (queue) (sicargabox_queue_oldest_age_seconds{ours})", "{{queue}}")],
            red_above=600,
        ),
        Panel(
            "Running tasks",
            "Tasks that a worker holds now. They count for the number of workers: a busy pod is not taken away.",
            "short",
            [Query('max by (queue) (sicargabox_queue_tasks{ours, state="running"})', "{{queue}}")],
            stacked=True,
        ),
        Panel(
            "Tasks not yet due",
            "Retries in their pause and tasks for later. No worker is started for them.",
            "short",
            [Query('max by (queue) (sicargabox_queue_tasks{ours, state="delayed"})', "{{queue}}")],
            stacked=True,
        ),
        Panel(
            "Worker pods",
            "Pods that are available, and those wanted; the gap is start-up, or a pod that cannot start.",
            "short",
            [
                Query('kube_deployment_status_replicas_available{here, deployment=~".*-worker"}', "{{deployment}}"),
                Query('kube_deployment_spec_replicas{here, deployment=~".*-worker"}', "{{deployment}} wanted"),
            ],
        ),
        Panel(
            "Tasks as KEDA counts them",
            "What KEDA's question to the database answered: due and running tasks of a worker's queues, up to a bound.",
            "short",
            [Query('max by (scaledObject) (keda_scaler_metrics_value{scaledObject=~".*-worker"})', "{{scaledObject}}")],
        ),
        Panel(
            "KEDA's errors",
            "Questions that failed, by what they scale. While they fail the fallback decides.",
            "ops",
            [
                Query(
                    "sum by (scaledObject) "
                    '(rate(keda_scaler_detail_errors_total{scaledObject=~".*-worker"}[$__rate_interval]))',
                    "{{scaledObject}}",
                )
            ],
        ),
        Panel(
            "Due tasks without a message",
            "Due tasks beyond the messages in Redis. The scheduler sends them within seconds, unless Redis refuses.",
            "short",
            [Query("max by (queue) (sicargabox_queue_tasks_without_message{ours})", "{{queue}}")],
        ),
        Panel(
            "Since the scheduler's last pass",
            "Twice a second when all is well. It sends lost messages again and takes over expired leases.",
            "s",
            [
                Query(
                    'time() - max(sicargabox_scheduler_last_pass_timestamp_seconds{ours, pass="reconcile"})',
                    "reconcile",
                )
            ],
            kind="stat",
            red_above=60,
        ),
        Panel(
            "Messages in Redis",
            "Length of each queue's list. It may differ from the due tasks for a moment: a message is a hint.",
            "short",
            [Query("max by (queue) (sicargabox_queue_messages{ours})", "{{queue}}")],
        ),
    ),
)

TASKS = Dashboard(
    "tasks",
    "Tasks",
    "How many tasks are accepted, how they end, and how long they wait and run.",
    "SicargaBox(DeadLetters|ManyDeadLetters|Leases|Attempts|Breaker).*",
    (
        Panel(
            "Accepted",
            "Tasks whose row was committed, by kind.",
            "ops",
            [Query("sum by (task) (rate(sicargabox_tasks_accepted_total{ours}[$__rate_interval]))", "{{task}}")],
            stacked=True,
        ),
        Panel(
            "Attempts by how they ended",
            "RELEASED: given back by a worker that stopped. FENCED: overtaken. PARENT: waits for its parts. A worker "
            "that started and ended between two scrapes is not seen here; dead letters are.",
            "ops",
            [Query("sum by (outcome) (rate(sicargabox_task_attempts_total{ours}[$__rate_interval]))", "{{outcome}}")],
            stacked=True,
        ),
        Panel(
            "Dead letters",
            "Tasks that ended in FAILURE and that nobody repeated, by kind; counted up to 10,000.",
            "short",
            [Query("max by (task) (sicargabox_dead_letters{ours}) > 0", "{{task}}")],
        ),
        Panel(
            "Wait, 95th percentile",
            "From due to claimed. From zero it holds the start of a pod.",
            "s",
            [
                Query(
                    "histogram_quantile(0.95, sum by (queue, le) "
                    "(rate(sicargabox_task_wait_seconds_bucket{ours}[$__rate_interval])))",
                    "{{queue}}",
                )
            ],
        ),
        Panel(
            "Run, 95th percentile",
            "From claimed to the end of the attempt, by kind.",
            "s",
            [
                Query(
                    "histogram_quantile(0.95, sum by (task, le) "
                    "(rate(sicargabox_task_run_seconds_bucket{ours}[$__rate_interval])))",
                    "{{task}}",
                )
            ],
        ),
        Panel(
            "Put right by the scheduler",
            "expired: a lease nobody renewed. republished: a message that was lost. failed: no attempt was left.",
            "ops",
            [Query("sum by (action) (rate(sicargabox_reconciled_tasks_total{ours}[$__rate_interval]))", "{{action}}")],
        ),
        Panel(
            "Messages sent",
            "By outcome. What failed or was dropped is sent again by the scheduler.",
            "ops",
            [
                Query(
                    "sum by (outcome) (rate(sicargabox_published_messages_total{ours}[$__rate_interval]))",
                    "{{outcome}}",
                )
            ],
        ),
        Panel(
            "Messages that were not needed",
            "Dropped because the task was done, or held by another worker. Some are normal after a failover.",
            "ops",
            [
                Query(
                    "sum by (queue) (rate(sicargabox_task_duplicate_messages_total{ours}[$__rate_interval]))",
                    "{{queue}}",
                )
            ],
        ),
        Panel(
            "Open breakers",
            "1 while a pod leaves Redis alone because it failed: publish (messages), results (entries), limits.",
            "short",
            [Query("max by (pod, breaker) (sicargabox_breaker_open{ours}) > 0", "{{pod}} {{breaker}}")],
        ),
    ),
)

REDIS = Dashboard(
    "redis",
    "Redis and Sentinel",
    "Whether Redis takes messages, how full it is and what fills it, and who follows whom.",
    "SicargaBox(Redis|Sentinel).*",
    (
        Panel(
            "Memory of the primary",
            "At the limit results and limits are evicted, never queues; then messages are refused.",
            "bytes",
            [
                Query("max(sicargabox_redis_used_memory_bytes{ours})", "used"),
                Query("max(sicargabox_redis_max_memory_bytes{ours})", "limit"),
            ],
        ),
        Panel(
            "Part of the limit in use",
            "Alerts above 85 %.",
            "percentunit",
            [Query("max(sicargabox_redis_memory_used_ratio{ours})", "used")],
            kind="stat",
            red_above=0.85,
        ),
        Panel(
            "Memory by database",
            "Estimated from a sample of keys: 0 broker, 1 results, 2 cache and limits.",
            "bytes",
            [Query("max by (db) (sicargabox_redis_db_estimated_bytes{ours})", "database {{db}}")],
            stacked=True,
        ),
        Panel(
            "Databases against their budgets",
            "Above 1 a database lives at the cost of the others.",
            "percentunit",
            [
                Query(
                    "max by (db) (sicargabox_redis_db_estimated_bytes{ours}) "
                    "/ max by (db) (sicargabox_redis_db_budget_bytes{ours})",
                    "database {{db}}",
                )
            ],
            red_above=1,
        ),
        Panel(
            "Memory of each server",
            "As Redis counts it (used) and as the system does (resident), from the exporters beside the servers.",
            "bytes",
            [
                Query('redis_memory_used_bytes{ours, component="redis"}', "{{pod}} used"),
                Query('redis_memory_used_rss_bytes{ours, component="redis"}', "{{pod}} resident"),
            ],
        ),
        Panel(
            "Who is primary",
            "1 for the server that says so. Two for longer than a failover is an alert.",
            "short",
            [Query('max by (pod) (redis_instance_info{ours, role="master"})', "{{pod}}")],
        ),
        Panel(
            "Links of replicas to their primary",
            "0: that replica does not follow. Without any the primary refuses writes.",
            "short",
            [Query("min by (pod) (redis_master_link_up{ours})", "{{pod}}")],
        ),
        Panel(
            "What the Sentinels see",
            "The least that any of them sees. More than half of the Sentinels are needed to replace a primary, and one "
            "replica that is well.",
            "short",
            [
                Query("min(redis_sentinel_master_ok_sentinels{ours})", "Sentinels that are well"),
                Query("min(redis_sentinel_master_ok_slaves{ours})", "replicas that are well"),
                Query('sum(kube_statefulset_status_replicas_ready{here, statefulset=~".*-sentinel"})', "pods ready"),
            ],
        ),
        Panel(
            "Failovers",
            "Changes of the primary, by the number that the Sentinels give each.",
            "short",
            [Query("changes(max(redis_sentinel_master_config_epoch{ours})[1h:1m])", "in the last hour")],
            kind="stat",
        ),
        Panel(
            "Evicted and expired keys",
            "Results, cache and limits only; SQL keeps every result.",
            "ops",
            [
                Query("sum by (pod) (rate(redis_evicted_keys_total{ours}[$__rate_interval]))", "{{pod}} evicted"),
                Query("sum by (pod) (rate(redis_expired_keys_total{ours}[$__rate_interval]))", "{{pod}} expired"),
            ],
        ),
        Panel(
            "Commands",
            "Commands a second, by server.",
            "ops",
            [Query("sum by (pod) (rate(redis_commands_processed_total{ours}[$__rate_interval]))", "{{pod}}")],
        ),
    ),
)

API = Dashboard(
    "api",
    "API and search",
    "What clients of the API and people who search get, and how quickly.",
    "SicargaBox(Api|Search|Database|Volume|Migration).*",
    (
        Panel(
            "Requests by status",
            "Requests a second, by class of status.",
            "reqps",
            [Query(f"sum by (status) (rate({_REQUESTS}))", "{{status}}")],
            stacked=True,
        ),
        Panel(
            "Share of faults",
            "5xx among all answers, over five minutes and an hour. The goal is less than 0.5 % in 30 days.",
            "percentunit",
            [
                Query("sicargabox:http_errors:ratio_rate5m{ours}", "5 minutes"),
                Query("sicargabox:http_errors:ratio_rate1h{ours}", "1 hour"),
            ],
            red_above=0.005,
        ),
        Panel(
            "Request time, 95th percentile",
            "From request to last byte, by route, where it is called at all. Streams of events do not count.",
            "s",
            [
                Query(
                    "histogram_quantile(0.95, sum by (route, le) "
                    "(rate(sicargabox_http_request_seconds_bucket{ours}[$__rate_interval])))",
                    "{{route}}",
                )
            ],
        ),
        Panel(
            "Requests by route",
            "The busiest ten.",
            "reqps",
            [Query(f"topk(10, sum by (route) (rate({_REQUESTS})))", "{{route}}")],
        ),
        Panel(
            "Searches",
            "By engine; degraded ones were answered without the index.",
            "reqps",
            [
                Query(
                    "sum by (engine, degraded) (rate(sicargabox_searches_total{ours}[$__rate_interval]))",
                    "{{engine}}, degraded {{degraded}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Search time",
            "Median and 95th percentile without HTTP, by engine.",
            "s",
            [
                Query(
                    f"histogram_quantile({quantile}, sum by (engine, le) "
                    "(rate(sicargabox_search_seconds_bucket{ours}[$__rate_interval])))",
                    f"{{{{engine}}}} {name}",
                )
                for quantile, name in ((0.5, "median"), (0.95, "95th percentile"))
            ],
        ),
        Panel(
            "API pods that answer",
            "Pods of the API that Prometheus could scrape.",
            "short",
            [Query('sum(up{ours, component="api"})', "answer")],
            kind="stat",
        ),
        Panel(
            "Room on volumes",
            "Part of each volume that is free. Below 15 % it alerts.",
            "percentunit",
            [
                Query(
                    "kubelet_volume_stats_available_bytes{here} / kubelet_volume_stats_capacity_bytes{here}",
                    "{{persistentvolumeclaim}}",
                )
            ],
        ),
    ),
)

DASHBOARDS = (QUEUES, TASKS, REDIS, API)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for one in DASHBOARDS:
        (FOLDER / f"{one.name}.json").write_text(render(one), encoding="utf-8")
