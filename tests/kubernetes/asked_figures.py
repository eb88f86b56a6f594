"""Which figures alerts and dashboards ask for, and which a server tells. Knows neither the chart nor a cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

_SELECTED = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?=\{|\[)")
_LABEL = re.compile(r"[{,]\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)")
_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "summary": ("", "_sum", "_count")}


def asked(expr: str) -> Iterator[tuple[str, set[str]]]:
    """Each series of an expression with the labels it is selected by."""
    for found in _SELECTED.finditer(expr):
        rest = expr[found.end() :]
        selector = rest[: rest.index("}") + 1] if rest.startswith("{") else ""
        yield found[1], set(_LABEL.findall(selector))


def of_dashboard(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every expression of a dashboard with the title of what it is for."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            definition = variable["definition"]
            yield variable["name"], re.sub(r"label_values\((.*), \w+\)", r"last_over_time(\1[1h])", definition)


def of_rules(rule: dict[str, Any]) -> Iterator[str]:
    """Every expression of a PrometheusRule."""
    for group in rule["spec"]["groups"]:
        yield from (str(one["expr"]) for one in group["rules"])


def of_dashboards(config_maps: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Every expression of dashboards in ConfigMaps."""
    for config_map in config_maps:
        for text in config_map["data"].values():
            yield from (expression for _, expression in of_dashboard(json.loads(text)))


def series(text: str) -> Iterator[str]:
    """Names of the series that a server tells of, those too that have no value yet."""
    for family in text_string_to_metric_families(text):
        yield from (sample.name for sample in family.samples)
        yield from (f"{family.name}{part}" for part in _PARTS.get(family.type, ("",)))
