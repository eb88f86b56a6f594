"""The alerts and dashboards as the chart ships them: they look for figures that exist, and fire when they should.

No cluster: Helm renders, promtool runs the rules against invented series (``rules/*.yaml``).
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from sicargabox_core.observability import METRICS
from tests.kubernetes.asked_figures import asked, of_dashboard
from tests.programs import program
from tests.settings import REPOSITORY

CHART = REPOSITORY / "charts" / "sicargabox"
RUNBOOKS = REPOSITORY / "docs" / "runbooks"
CASES = Path(__file__).resolve().parent / "rules"
GROUPS = sorted(path.stem for path in CASES.glob("*.yaml"))
SECTIONS = ("## What it means", "## What suffers", "## Look at", "## Do")

# What others tell of us, by who tells it; our own are declared in observability.py.
FOREIGN = {
    "Prometheus": {"up", "ALERTS"},
    "KEDA": {"keda_scaler_metrics_value", "keda_scaler_detail_errors_total"},
    "kube-state-metrics": {
        "kube_deployment_spec_replicas",
        "kube_deployment_status_replicas_available",
        "kube_horizontalpodautoscaler_spec_max_replicas",
        "kube_horizontalpodautoscaler_spec_min_replicas",
        "kube_horizontalpodautoscaler_status_current_replicas",
        "kube_job_failed",
        "kube_pod_container_status_restarts_total",
        "kube_pod_status_ready",
        "kube_statefulset_replicas",
        "kube_statefulset_status_replicas_ready",
    },
    "kubelet": {"kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"},
    # Seen from redis_exporter 1.88.0 with the rights of its users in redis/*.acl.
    "redis_exporter": {
        "redis_aof_last_write_status",
        "redis_commands_processed_total",
        "redis_evicted_keys_total",
        "redis_expired_keys_total",
        "redis_instance_info",
        "redis_master_link_up",
        "redis_memory_used_bytes",
        "redis_memory_used_rss_bytes",
        "redis_rdb_last_bgsave_status",
        "redis_sentinel_master_ckquorum_status",
        "redis_sentinel_master_config_epoch",
        "redis_sentinel_master_ok_sentinels",
        "redis_sentinel_master_ok_slaves",
        "redis_sentinel_master_status",
    },
}
# With a last / that no link has twice.
BOOKS = "monitoring.runbooks=https://example.org/runbooks/"


def _render(template: str, *values: str) -> list[dict[str, Any]]:
    options = [word for value in values for word in ("--set", value)]
    done = subprocess.run(
        [program("helm"), "template", "t", CHART, "--namespace", "n", *options, "-s", f"templates/{template}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="module")
def groups() -> dict[str, list[dict[str, Any]]]:
    """The rules of each group, rendered."""
    (rule,) = _render("prometheusrule.yaml", "monitoring.rules.enabled=true", BOOKS)
    return {group["name"].removeprefix("sicargabox-"): group["rules"] for group in rule["spec"]["groups"]}


@pytest.fixture(scope="module")
def dashboards() -> dict[str, dict[str, Any]]:
    """The rendered dashboards by their names in Grafana."""
    found = {}
    for config_map in _render("dashboards.yaml", "monitoring.dashboards.enabled=true", BOOKS):
        assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
        for text in config_map["data"].values():
            dashboard = json.loads(text)
            found[dashboard["uid"]] = dashboard
    return found


def _alerts(groups: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rules in groups.values() for rule in rules if "alert" in rule}


def _known(groups: dict[str, list[dict[str, Any]]]) -> dict[str, set[str] | None]:
    """Every series that may be asked for: our own with their labels, others' without."""
    known: dict[str, set[str] | None] = {name: None for names in FOREIGN.values() for name in names}
    known |= {rule["record"]: None for rules in groups.values() for rule in rules if "record" in rule}
    added = {"namespace", "release", "component", "pod"}
    for metric in METRICS:
        labels = {*metric._labelnames, *added}
        for family in metric.describe():
            if family.type == "histogram":
                known |= {f"{family.name}_{part}": labels for part in ("sum", "count")}
                known[f"{family.name}_bucket"] = labels | {"le"}
            else:
                known[family.name + ("_total" if family.type == "counter" else "")] = labels
    return known


def _unknown(expr: str, known: dict[str, set[str] | None]) -> list[str]:
    wrong = []
    series = list(asked(expr))
    assert series, f"no series was found in {expr}"
    for name, labels in series:
        if name not in known:
            wrong.append(name)
        elif (declared := known[name]) is not None and not labels <= declared:
            wrong.append(f"{name}{{{', '.join(labels - declared)}}}")
    return wrong


@pytest.mark.parametrize("group", GROUPS)
def test_rules_fire_and_are_silent_as_their_cases_say(
    group: str, groups: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": group, "rules": groups[group]}]}))
    shutil.copy(CASES / f"{group}.yaml", tmp_path)
    for command in (["check", "rules", "--lint-fatal", "rules.yaml"], ["test", "rules", f"{group}.yaml"]):
        done = subprocess.run(
            [program("promtool"), *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent(
    groups: dict[str, list[dict[str, Any]]],
) -> None:
    assert set(groups) == set(GROUPS)
    for group, rules in groups.items():
        fires: set[str] = set()
        silent: set[str] = set()
        for case in yaml.safe_load((CASES / f"{group}.yaml").read_text())["tests"]:
            for expected in case["promql_expr_test"]:
                (alert,) = re.findall(r'alertname="(\w+)"', expected["expr"])
                (fires if expected["exp_samples"] else silent).add(alert)
        assert fires == silent == {rule["alert"] for rule in rules if "alert" in rule}


def test_every_alert_says_what_it_is_and_leads_to_its_runbook(groups: dict[str, list[dict[str, Any]]]) -> None:
    alerts = _alerts(groups)
    for name, rule in alerts.items():
        assert rule["labels"]["severity"] in {"critical", "warning"}, name
        assert (rule["labels"]["namespace"], rule["labels"]["release"]) == ("n", "t"), name
        assert rule["annotations"]["summary"], name
        assert rule["annotations"]["description"], name
        assert rule["annotations"]["runbook_url"] == f"https://example.org/runbooks/{name}.md"
    assert {path.stem for path in RUNBOOKS.glob("SicargaBox*.md")} == set(alerts), "runbooks and alerts differ"
    index = (RUNBOOKS / "README.md").read_text()
    for name in alerts:
        text = (RUNBOOKS / f"{name}.md").read_text()
        assert text.startswith(f"# {name}\n"), name
        assert [line for line in text.splitlines() if line.startswith("## ")] == list(SECTIONS), name
        assert f"]({name}.md)" in index, name


def test_rules_look_for_figures_that_exist(groups: dict[str, list[dict[str, Any]]]) -> None:
    known = _known(groups)
    for rules in groups.values():
        for rule in rules:
            assert not _unknown(rule["expr"], known), rule.get("alert", rule.get("record"))


def test_rules_look_at_their_own_release_alone(groups: dict[str, list[dict[str, Any]]]) -> None:
    for rules in groups.values():
        for rule in rules:
            for selector in re.findall(r"\{[^{}]*\}", rule["expr"]):
                own = 'namespace="n"' in selector or 'scaledObject=~"t-sicargabox-.+"' in selector
                assert own, (rule.get("alert", rule.get("record")), selector)
            assert not re.search(r"SCOPE|NAMESPACE|FULLNAME", rule["expr"])
            without = re.sub(r"\{[^{}]*\}", "{}", rule["expr"])
            assert not re.findall(r"\b(?:sicargabox|kube|kubelet|keda|redis)[_:]\w[\w:]*(?![\w:{])", without), rule


def test_an_alert_that_a_site_does_not_want_is_left_out(groups: dict[str, list[dict[str, Any]]]) -> None:
    (rule,) = _render(
        "prometheusrule.yaml",
        "monitoring.rules.enabled=true",
        "monitoring.rules.disabled={SicargaBoxSearchSlow}",
        BOOKS,
    )
    left = _alerts({group["name"]: group["rules"] for group in rule["spec"]["groups"]})
    assert set(left) == set(_alerts(groups)) - {"SicargaBoxSearchSlow"}
    assert (
        left["SicargaBoxApiDown"]["annotations"]["runbook_url"] == "https://example.org/runbooks/SicargaBoxApiDown.md"
    )


def test_where_nobody_serves_the_runbooks_nothing_leads_to_them(dashboards: dict[str, dict[str, Any]]) -> None:
    (rule,) = _render("prometheusrule.yaml", "monitoring.rules.enabled=true")
    rules = _alerts({group["name"]: group["rules"] for group in rule["spec"]["groups"]})
    assert rules
    assert not [name for name, one in rules.items() if "runbook_url" in one["annotations"]]
    for config_map in _render("dashboards.yaml", "monitoring.dashboards.enabled=true"):
        ((name, text),) = config_map["data"].items()
        assert not re.search(r"RUNBOOKS|\.md\b", text), name
        plain = json.loads(text)
        linked = dashboards[plain["uid"]]
        # And nothing else is another.
        linked = {
            **linked,
            "panels": [{**panel, "fieldConfig": None} for panel in linked["panels"][:1]] + linked["panels"][1:],
        }
        plain["panels"][0]["fieldConfig"] = None
        assert plain == linked, name


def test_dashboards_are_what_their_program_writes() -> None:
    module = _dashboards_module()
    for dashboard in module.DASHBOARDS:
        path = module.FOLDER / f"{dashboard.name}.json"
        assert path.read_text(encoding="utf-8") == module.render(dashboard), "run: python k8s-tests/dashboards.py"
    assert {path.stem for path in module.FOLDER.glob("*.json")} == {one.name for one in module.DASHBOARDS}


def test_dashboards_look_for_figures_that_exist_and_promql_that_parses(
    groups: dict[str, list[dict[str, Any]]], dashboards: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    known = _known(groups)
    recorded: list[dict[str, str]] = []
    for uid, dashboard in dashboards.items():
        for title, written in of_dashboard(dashboard):
            assert not _unknown(written, known), (uid, title)
            recorded.append({"record": f"checked:{len(recorded)}", "expr": written.replace("$__rate_interval", "5m")})
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": recorded}]}))
    done = subprocess.run(
        [program("promtool"), "check", "rules", rules], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_panel_says_what_it_shows(dashboards: dict[str, dict[str, Any]]) -> None:
    assert len(dashboards) == 4
    for uid, dashboard in dashboards.items():
        assert dashboard["schemaVersion"] >= 39
        assert dashboard["templating"]["list"][0]["type"] == "datasource"
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
        for panel in dashboard["panels"]:
            assert panel["title"], uid
            assert panel["description"], (uid, panel["title"])
            assert panel["fieldConfig"]["defaults"]["unit"], (uid, panel["title"])
            assert panel["datasource"]["uid"] == "${datasource}", (uid, panel["title"])
            assert all(target["legendFormat"] for target in panel["targets"]), (uid, panel["title"])


def test_every_alert_is_shown_on_one_dashboard(
    groups: dict[str, list[dict[str, Any]]], dashboards: dict[str, dict[str, Any]]
) -> None:
    shown = {}
    for uid, dashboard in dashboards.items():
        (alerts,) = re.findall(r'alertname=~"([^"]+)"', dashboard["annotations"]["list"][0]["expr"])
        shown[uid] = re.compile(alerts)
        (link,) = dashboard["panels"][0]["fieldConfig"]["overrides"][0]["properties"][0]["value"]
        assert link["url"] == "https://example.org/runbooks/${__data.fields.alertname}.md"
    for alert in _alerts(groups):
        assert len([uid for uid, pattern in shown.items() if pattern.fullmatch(alert)]) == 1, alert


def test_what_is_scraped_carries_the_labels_that_rules_look_for() -> None:
    monitors = _render("podmonitors.yaml", "monitoring.podMonitors.enabled=true")
    components = set()
    for monitor in monitors:
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        labels = {relabel["targetLabel"]: relabel["replacement"] for relabel in endpoint["relabelings"]}
        assert labels["release"] == "t"
        assert monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] == labels["component"]
        components.add(labels["component"])
    assert {"api", "scheduler", "redis"} <= components
    assert {"indexer-worker", "ai-worker", "learning-worker"} <= components


def _dashboards_module() -> ModuleType:
    specification = importlib.util.spec_from_file_location(
        "chart_dashboards", Path(__file__).with_name("dashboards.py")
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # Dataclasses look their module up by its name.
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module
