"""Objects that are not Kubernetes' own, against the definitions of those whose they are.

KEDA's and the Prometheus operator's are read from a folder of this machine (``SICARGABOX_TEST_CRDS``); of an HTTPRoute
only what we use is known here, since no cluster of the tests has its definition.
"""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from tests.kubernetes.rendering import MODES, PROFILES, Document, of_kind, render
from tests.settings import absent, machine

KINDS = ("ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule")
_NAME = {"type": "string", "minLength": 1}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(properties)}


_HTTP_ROUTE = _object(
    parentRefs={
        "type": "array",
        "minItems": 1,
        "items": {**_object(name=_NAME, namespace=_NAME, sectionName=_NAME), "required": ["name"]},
    },
    hostnames={"type": "array", "items": _NAME, "minItems": 1},
    rules={
        "type": "array",
        "minItems": 1,
        "items": _object(
            matches={
                "type": "array",
                "items": _object(
                    path=_object(type={"enum": ["Exact", "PathPrefix"]}, value={"type": "string", "pattern": "^/"})
                ),
            },
            backendRefs={"type": "array", "items": _object(name=_NAME, port={"type": "integer"})},
        ),
    },
)


@pytest.fixture(scope="module")
def definitions() -> dict[str, dict[str, Any]]:
    """By kind and version, closed where they do not say that they are open."""
    found: dict[str, dict[str, Any]] = {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in sorted(machine().crds.rglob("*.yaml")):
        # Other files there may be templates of something else.
        for part in path.read_text().split("\n---\n"):
            if "kind: CustomResourceDefinition" in part:
                document = yaml.load(part, Loader=loader)  # noqa: S506  # a safe loader
                spec = document["spec"]
                for version in spec["versions"]:
                    schema = _closed(version["schema"]["openAPIV3Schema"])
                    found[f"{spec['names']['kind']} {spec['group']}/{version['name']}"] = schema
    if not found:
        absent("definitions of KEDA and of the Prometheus operator", "set SICARGABOX_TEST_CRDS to a folder with them")
    return found


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    # Patterns are Go's, which Python reads otherwise.
    closed = {
        key: _closed(value)
        for key, value in schema.items()
        if not (key in ("format", "pattern") and isinstance(value, str))
    }
    open_ = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_:
        closed["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed


def _without_kubernetes_own(document: Document) -> Document:
    return {**document, "metadata": {}}


@pytest.mark.parametrize("mode", MODES)
def test_custom_objects_fit_their_definitions(mode: str, definitions: dict[str, dict[str, Any]]) -> None:
    seen = set()
    for profile in PROFILES:
        documents = render(profile, "monitoring.podMonitors.enabled=true", "monitoring.rules.enabled=true", mode=mode)
        for document in of_kind(documents, *KINDS):
            schema = definitions[f"{document['kind']} {document['apiVersion']}"]
            schema = {**schema, "properties": {**schema["properties"], "metadata": {"type": "object"}}}
            jsonschema.validate(_without_kubernetes_own(document), schema)
            seen.add(document["kind"])
    assert seen == (set(KINDS) if mode == "keda" else {"PodMonitor", "PrometheusRule"})


def test_a_misspelt_field_of_a_custom_object_is_found(definitions: dict[str, dict[str, Any]]) -> None:
    (first, *_) = of_kind(render(), "ScaledObject")
    wrong = {**_without_kubernetes_own(first), "spec": {**first["spec"], "cooldownPeriodSeconds": 3}}
    with pytest.raises(jsonschema.ValidationError, match="cooldownPeriodSeconds"):
        jsonschema.validate(wrong, definitions["ScaledObject keda.sh/v1alpha1"])


ROUTE = ("route.host=parcels.example.org", "networkPolicy.routeFrom[0].namespaceSelector.matchLabels.name=controller")


def test_a_gateway_leads_to_the_same_two_services_as_an_ingress() -> None:
    (route,) = of_kind(render("default", *ROUTE, "route.kind=gateway", "route.gateway.name=public"), "HTTPRoute")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    jsonschema.validate(route["spec"], _HTTP_ROUTE)
    by_gateway = {
        rule["matches"][0]["path"]["value"]: rule["backendRefs"][0]["name"] for rule in route["spec"]["rules"]
    }
    (ingress,) = of_kind(render("default", *ROUTE, "route.kind=ingress"), "Ingress")
    (rule,) = ingress["spec"]["rules"]
    by_ingress = {path["path"]: path["backend"]["service"]["name"] for path in rule["http"]["paths"]}
    assert by_gateway == by_ingress == {"/": "sb-sicargabox-api", "/admin": "sb-sicargabox-admin"}
    assert rule["host"] == route["spec"]["hostnames"][0] == "parcels.example.org"
