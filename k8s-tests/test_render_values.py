"""The values: all of them in the schema and the README, closed at every level, contradictions refused with a remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sicargabox_core.settings import Settings
from tests.kubernetes.pods import pods_of, variables
from tests.kubernetes.rendering import CHART, PROFILES, Refused, helm, named, of_kind, render, text

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
# Kubernetes' own words, which Kubernetes checks, and maps whose keys are the user's.
FOREIGN = "Kubernetes checks them"


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    for part in (schema, *schema.get("allOf", []), *schema.get("oneOf", [])):
        if "$ref" in part:
            target: dict[str, Any] = SCHEMA["definitions"][part["$ref"].rpartition("/")[2]]
            return {**_resolved(target), **{key: value for key, value in schema.items() if key == "description"}}
    return schema


def _levels(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    schema = _resolved(schema)
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from _levels(part, f"{path}.{name}".lstrip("."))
    if isinstance(schema.get("additionalProperties"), dict) and "oneOf" in schema["additionalProperties"]:
        yield from _levels(schema["additionalProperties"], f"{path}.*")


def test_the_schema_is_closed_at_every_level_and_says_what_each_value_is_for() -> None:
    levels = dict(_levels(SCHEMA))
    assert len(levels) > 300
    for path, schema in levels.items():
        assert schema.get("description"), path
        kind = schema.get("type")
        if kind == "object" and FOREIGN not in schema["description"] and not path.endswith(".payload"):
            closed = schema.get("additionalProperties")
            assert closed is False or isinstance(closed, dict), f"{path} takes anything"


def test_every_value_is_in_the_schema_and_every_property_of_the_schema_has_a_default() -> None:
    def compare(values: Any, schema: dict[str, Any], path: str) -> None:
        schema = _resolved(schema)
        properties = schema.get("properties")
        if properties is None or not isinstance(values, dict):
            return
        # A pod's own place, and what a single worker does not say, default to what all have.
        optional = path.endswith((".pod", "resources.limits", "resources.requests"))
        missing = set() if optional else set(properties) - set(values) - {"global"}
        assert (set(values) - set(properties), missing) == (set(), set()), path
        for name, value in values.items():
            compare(value, properties[name], f"{path}.{name}")

    compare(VALUES, SCHEMA, "")


def test_the_settings_that_may_be_given_are_those_that_the_chart_does_not_decide() -> None:
    given = set(SCHEMA["definitions"]["settings"]["propertyNames"]["enum"])
    everywhere: set[str] = set(named(render(), "ConfigMap", "settings")["data"])
    for profile in PROFILES:
        for pods in pods_of(render(profile)):
            everywhere |= {name for container in pods.all_containers for name in variables(container)}
    decided = {name.removeprefix("SICARGABOX_") for name in everywhere if name.startswith("SICARGABOX_")}
    known = {name.upper() for name in Settings.model_fields}
    assert given <= known
    assert decided <= known
    assert given & decided == set()
    # What a cluster has no use for: embedded servers, passwords that stand in files instead, client certificates, and
    # a port that Flower itself reads by another name.
    assert known - given - decided == {
        *("REDIS_PORT", "REDIS_SERVER", "REDIS_PASSWORD", "REDIS_SENTINEL_PASSWORD"),
        *("REDIS_TLS_CERT_FILE", "REDIS_TLS_KEY_FILE"),
        *("SEARCH_API_KEY", "SEARCH_PASSWORD"),
        "FLOWER_PORT",
    }


def test_large_numbers_are_written_out(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("settings: {SESSION_SECONDS: 2592000}\napi: {settings: {RESULT_TTL_SECONDS: 10000000}}\n")
    documents = render(files=(str(file),))
    assert named(documents, "ConfigMap", "settings")["data"]["SICARGABOX_SESSION_SECONDS"] == "2592000"
    (api,) = [one for one in pods_of(documents) if one.component == "api"]
    assert variables(api.main)["SICARGABOX_RESULT_TTL_SECONDS"] == "10000000"


GITOPS = (
    *("secretKey.existingSecret=a", "administrator.existingSecret=b", "flower.existingSecret=c"),
    *("database.internal.existingSecret=d", "redis.internal.existingSecret=e", "redis.sentinel.existingSecret=f"),
    "search.internal.existingSecret=g",
)
OFFICE = "networkPolicy.routeFrom[0].ipBlock"


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (("api.foo=1",), "additional properties 'foo'"),
        (("autoscaling.mode=maybe",), "autoscaling/mode"),
        (("settings.REDIS_URL=redis://x",), "REDIS_URL"),
        (("settings.HOST=0.0.0.0",), "HOST"),
        (("workers.fourth.app=x.app",), "missing properties"),
        (("api.replicas=3",), "unset one"),
        (("workers.ai.replicas=3",), "workers.ai.replicas and autoscaling.mode=keda"),
        (("workers.ai.autoscaling.minReplicas=9",), "minReplicas is more"),
        (("workers.ai.autoscaling.fallbackReplicas=9",), "fallbackReplicas is more"),
        (("workers.ai.queues[0]=learning",), "the queue learning has two workers"),
        (("database.mode=external",), "database.external.host"),
        (("database.mode=external", "database.external.host=h"), "database.external.existingSecret"),
        (("redis.mode=external",), "redis.external.url"),
        (("redis.external.url=redis://:secret@h",), "redis/external/url"),
        (("search.mode=external",), "search.external.url"),
        (("search.external.url=https://u:p@h",), "search/external/url"),
        (("search.replicas=1",), "search.replicas"),
        (("route.kind=ingress", "route.host=h"), "networkPolicy.routeFrom"),
        (("route.kind=ingress",), "route.host"),
        (("route.kind=gateway", "route.host=h", "networkPolicy.enabled=false"), "route.gateway.name"),
        (
            ("route.kind=ingress", "route.host=h", "networkPolicy.enabled=false", "route.ingress.tls.enabled=true"),
            "tls",
        ),
        (("api.service.type=LoadBalancer",), "api.service.type=LoadBalancer: the NetworkPolicies let nobody in"),
        (("admin.service.type=NodePort",), "admin.service.type=NodePort: the NetworkPolicies let nobody in"),
        (("flower.service.type=NodePort", f"{OFFICE}.cidr=192.0.2.0/24"), "say in networkPolicy.flowerFrom"),
        (("monitoring.runbooks=docs/runbooks",), "monitoring/runbooks"),
        (
            (r"podDefaults.labels.app\.kubernetes\.io/component=mine",),
            "invalid propertyName 'app.kubernetes.io/component'",
        ),
        ((r"api.pod.labels.app\.kubernetes\.io/name=mine",), "invalid propertyName 'app.kubernetes.io/name'"),
        (("gitops=true", *GITOPS[1:]), "secretKey.existingSecret must name a Secret"),
        *((("gitops=true", *(one for one in GITOPS if one != left)), left.partition("=")[0]) for left in GITOPS),
    ],
)
def test_what_cannot_work_is_refused_by_name(sets: tuple[str, ...], told: str) -> None:
    with pytest.raises(Refused) as refused:
        text("default", *sets)
    assert told in str(refused.value)


KNOWN = {
    "autoscaling.mode=keda": "keda.sh/v1alpha1/ScaledObject",
    "monitoring.podMonitors.enabled=true": "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.rules.enabled=true": "monitoring.coreos.com/v1/PrometheusRule",
    "route.kind=gateway": "gateway.networking.k8s.io/v1/HTTPRoute",
}


@pytest.mark.parametrize("left_out", KNOWN)
def test_what_the_cluster_does_not_know_is_refused_by_name_and_without_a_cluster_nothing_is(left_out: str) -> None:
    """Helm knows kinds only of a cluster that it asked; `v1/ConfigMap` stands for one here."""

    def rendered(*sets: str, but: str = "") -> str:
        kinds = ["v1/ConfigMap", *(kind for kind in KNOWN.values() if kind != but)]
        values = [*KNOWN, "route.host=h", "route.gateway.name=public", f"{OFFICE}.cidr=192.0.2.0/24", *sets]
        options = [word for kind in kinds for word in ("--api-versions", kind)]
        options += [word for value in values for word in ("--set", value)]
        return helm("template", "sb", str(CHART), *options)

    with pytest.raises(Refused) as refused:
        rendered(but=KNOWN[left_out])
    value, kind = left_out.partition("=")[0], KNOWN[left_out].rpartition("/")[2]
    assert f"- {value}" in str(refused.value)
    assert str(refused.value).count("\n  - ") == 1
    # With all there; or where they may come with the same sync.
    assert f"kind: {kind}\n" in rendered()
    assert f"kind: {kind}\n" in rendered("gitops=true", *GITOPS, but=KNOWN[left_out])
    assert f"kind: {kind}\n" in text(
        "default", *KNOWN, "route.host=h", "route.gateway.name=public", f"{OFFICE}.cidr=192.0.2.0/24"
    )


def test_under_gitops_nothing_is_generated_and_two_renders_are_byte_for_byte_the_same() -> None:
    sets = ("gitops=true", *GITOPS)
    assert of_kind(render("default", *sets), "Secret") == []
    assert text("default", *sets) == text("default", *sets, "nameOverride=")
    assert of_kind(render("external"), "Secret") == []


@pytest.mark.parametrize("left_out", ["admin", "flower", "migrate"])
def test_a_part_that_is_switched_off_leaves_nothing_behind(left_out: str) -> None:
    with_it = render()
    without = render("default", f"{left_out}.enabled=false")
    names = {(one["kind"], one["metadata"]["name"]) for one in without}
    gone = {(one["kind"], one["metadata"]["name"]) for one in with_it} - names
    assert gone
    if left_out != "migrate":
        assert [name for _, name in names if name.endswith(f"-{left_out}")] == []
    assert {one.component for one in pods_of(with_it)} - {one.component for one in pods_of(without)} == {left_out}


def test_a_worker_is_taken_away_by_null_or_by_a_switch(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("workers: {learning: null, ai: {enabled: false}}\n")
    documents = render(files=(str(file),))
    assert {one.component for one in pods_of(documents) if one.component.endswith("worker")} == {"indexer-worker"}


def test_a_fourth_queue_is_ten_lines_of_values(tmp_path: Path) -> None:
    told = """\
workers:
  photos:
    image: {repository: sicargabox-photo-worker}
    app: sicargabox_photos.app
    queues: [photos]
    concurrency: 4
    resources: {limits: {memory: 2Gi}}
    autoscaling: {maxReplicas: 8}
"""
    assert len(told.splitlines()) <= 10
    file = tmp_path / "values.yaml"
    file.write_text(told)
    documents = render(files=(str(file),))
    worker = named(documents, "Deployment", "photos-worker")["spec"]["template"]["spec"]["containers"][0]
    assert worker["image"].startswith("sicargabox-photo-worker:")
    assert worker["resources"]["limits"]["memory"] == "2Gi"
    assert worker["resources"]["requests"] == VALUES["workerDefaults"]["resources"]["requests"]
    for kind in ("ScaledObject", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"):
        assert named(documents, kind, "photos-worker")
    assert named(documents, "ScaledObject", "photos-worker")["spec"]["maxReplicaCount"] == 8


def test_profiles_change_only_what_is_there() -> None:
    """A misspelt worker in a profile would be a new one, which the schema would take."""
    for names in PROFILES.values():
        for name in names:
            profile = yaml.safe_load((CHART / name).read_text())
            assert set(profile.get("workers", {})) <= set(VALUES["workers"])


def test_a_worker_may_say_no_and_none_where_the_default_says_yes() -> None:
    documents = render(
        "default",
        *("workerDefaults.search=true", "workers.ai.search=false"),
        *("workerDefaults.autoscaling.minReplicas=1", "workers.ai.autoscaling.minReplicas=0"),
    )
    assert named(documents, "ScaledObject", "ai-worker")["spec"]["minReplicaCount"] == 0
    assert named(documents, "ScaledObject", "learning-worker")["spec"]["minReplicaCount"] == 1
    speaks = {
        pods.component: "SICARGABOX_SEARCH_URL" in variables(pods.main)
        for pods in pods_of(documents)
        if pods.component.endswith("worker")
    }
    assert speaks == {"indexer-worker": True, "learning-worker": True, "ai-worker": False}


def test_no_pod_at_all_is_a_number_too() -> None:
    documents = render(
        "default", "api.autoscaling.enabled=false", "api.replicas=0", "workers.ai.replicas=0", mode="none"
    )
    replicas = {one["metadata"]["name"]: one["spec"]["replicas"] for one in of_kind(documents, "Deployment")}
    assert (replicas["sb-sicargabox-api"], replicas["sb-sicargabox-ai-worker"]) == (0, 0)
    assert replicas["sb-sicargabox-learning-worker"] == 1
