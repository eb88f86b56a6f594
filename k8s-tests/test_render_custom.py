"""Objects that are not Kubernetes' own, against the definitions of those whose they are.

KEDA's and the Prometheus operator's are read from a folder of this machine (``SICARGABOX_TEST_CRDS``); of an HTTPRoute
only what we use is known here, since no cluster of the tests has its definition. Of operators' objects only the names
are, which the values files of ``examples`` and ``docs/operators.md`` give them.
"""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from tests.kubernetes.pods import Pods, pods_of, variables
from tests.kubernetes.rendering import CHART, MODES, PROFILES, Document, named, of_kind, render
from tests.settings import REPOSITORY, absent, machine

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


# Of each example: the component of the chart whose place it takes, the address, and each Secret with the keys that pods
# may see of it.
EXAMPLES: dict[str, tuple[str, str, dict[str, set[str]]]] = {
    "values-cnpg.yaml": (
        "postgres",
        (
            "postgresql://sicargabox@sicargabox-db-rw.parcels.svc:5432/sicargabox"
            "?sslmode=verify-full&sslrootcert=/secrets/database/ca.crt"
        ),
        {"sicargabox-db-owner": {"password"}, "sicargabox-db-ca": {"ca.crt"}},
    ),
    "values-eck.yaml": (
        "elasticsearch",
        "https://sicargabox-search-es-http.parcels.svc:9200",
        {"sicargabox-search-user": {"password"}, "sicargabox-search-es-http-certs-public": {"ca.crt"}},
    ),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_operators_server_takes_the_place_of_the_charts(example: str) -> None:
    component, address, secrets = EXAMPLES[example]
    documents = render("ha", files=(str(CHART / "examples" / example),))

    left = [one["metadata"]["name"] for one in documents if one["metadata"]["name"].endswith(f"-{component}")]
    assert not left
    (api,) = (pods for pods in pods_of(documents) if pods.component == "api" and pods.owner["kind"] == "Deployment")
    assert address in variables(api.main).values()
    seen = _secrets_seen(api)
    assert {name: seen.get(name) for name in secrets} == secrets
    told = (REPOSITORY / "docs" / "operators.md").read_text(encoding="utf-8")
    for name in [*secrets, address.split("@")[-1].split("?")[0].removeprefix("https://").split(":")[0]]:
        assert name in told, "docs/operators.md has other names"

    if component == "postgres":
        trigger = of_kind(documents, "ScaledObject")[0]["spec"]["triggers"][0]["metadata"]
        assert (trigger["host"], trigger["sslmode"]) == ("sicargabox-db-rw.parcels.svc", "require")
        (target,) = named(documents, "TriggerAuthentication", "scaler")["spec"]["secretTargetRef"]
        assert (target["name"], target["key"]) == ("sicargabox-db-scaler", "password")


def _secrets_seen(pods: Pods) -> dict[str, set[str]]:
    """The keys of each Secret that the pods' first container is given."""
    seen: dict[str, set[str]] = {}
    for value in variables(pods.main).values():
        if isinstance(value, dict) and "secretKeyRef" in value:
            seen.setdefault(value["secretKeyRef"]["name"], set()).add(value["secretKeyRef"]["key"])
    for volume in pods.spec["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            seen.setdefault(source["secret"]["name"], set()).update(item["key"] for item in source["secret"]["items"])
    return seen
