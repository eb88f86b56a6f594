"""Who may speak with whom: the ways that NetworkPolicies leave open are those that are declared here, and no other."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.kubernetes.declared_ways import WAYS, WORKERS
from tests.kubernetes.pods import COMPONENT, Pods, pods_of, variables
from tests.kubernetes.rendering import Document, of_kind, render

ROUTE = "networkPolicy.routeFrom[0].namespaceSelector.matchLabels.name=controller"
# From outside, by the name of the namespace.
FROM_OUTSIDE = {
    ("keda", "postgres", 5432),
    ("controller", "api", 8000),
    ("controller", "admin", 8001),
    ("monitoring", "api", 8000),
    *product(["monitoring"], ["scheduler", *WORKERS], [9100]),
    *product(["monitoring"], ["redis", "sentinel"], [9121]),
}


def _policies(documents: list[Document]) -> dict[str, dict[str, Any]]:
    """By component; the one for all is the nameless."""
    found = {}
    for one in of_kind(documents, "NetworkPolicy"):
        labels = one["spec"]["podSelector"]["matchLabels"]
        found[labels.get(COMPONENT, "")] = one["spec"]
    return found


def _inside(policies: dict[str, dict[str, Any]], side: str, key: str) -> set[tuple[str, str, int]]:
    ways = set()
    for component, spec in policies.items():
        for rule in spec.get(side, []):
            for peer, port in product(rule.get(key, [{}]), rule["ports"]):
                other = peer.get("podSelector", {}).get("matchLabels", {}).get(COMPONENT)
                if other and "namespaceSelector" not in peer:
                    assert port["protocol"] == "TCP"
                    pair = (other, component) if side == "ingress" else (component, other)
                    ways.add((*pair, port["port"]))
    return ways


def _outside(policies: dict[str, dict[str, Any]]) -> set[tuple[str, str, int]]:
    return {
        (next(iter(peer["namespaceSelector"]["matchLabels"].values())), component, port["port"])
        for component, spec in policies.items()
        for rule in spec.get("ingress", [])
        for peer, port in product(rule["from"], rule["ports"])
        if "namespaceSelector" in peer
    }


def test_inside_both_ends_allow_the_declared_ways_and_nothing_else() -> None:
    policies = _policies(render())
    assert _inside(policies, "ingress", "from") == WAYS
    assert _inside(policies, "egress", "to") == WAYS


def test_from_outside_only_the_declared_ways_are_open() -> None:
    assert _outside(_policies(render("default", ROUTE))) == FROM_OUTSIDE
    without = {way for way in FROM_OUTSIDE if way[0] != "controller"}
    assert _outside(_policies(render())) == without
    assert _outside(_policies(render(mode="none"))) == {way for way in without if way[0] != "keda"}


def test_a_service_with_a_door_to_the_outside_lets_in_whom_the_values_name() -> None:
    office, people = "networkPolicy.routeFrom[0].ipBlock.cidr", "networkPolicy.flowerFrom[0].ipBlock.cidr"
    told = render(
        "default",
        *("api.service.type=LoadBalancer", "api.service.externalTrafficPolicy=Local", f"{office}=192.0.2.0/24"),
        *("flower.service.type=NodePort", f"{people}=198.51.100.0/24"),
    )
    services = {one["metadata"]["labels"][COMPONENT]: one["spec"] for one in of_kind(told, "Service")}
    assert services["api"]["type"] == "LoadBalancer"
    assert services["api"]["externalTrafficPolicy"] == "Local"
    assert services["flower"]["type"] == "NodePort"
    assert "externalTrafficPolicy" not in services["flower"]
    policies = _policies(told)
    let_in = {
        component: {
            (peer["ipBlock"]["cidr"], port["port"])
            for rule in spec.get("ingress", [])
            for peer, port in product(rule["from"], rule["ports"])
            if "ipBlock" in peer
        }
        for component, spec in policies.items()
    }
    assert {component: ways for component, ways in let_in.items() if ways} == {
        "api": {("192.0.2.0/24", 8000)},
        "admin": {("192.0.2.0/24", 8001)},
        "flower": {("198.51.100.0/24", 5555)},
    }
    # The other way round: a policy takes nothing from a Service that has no such door.
    assert "externalTrafficPolicy" not in {name for one in of_kind(render(), "Service") for name in one["spec"]}


@pytest.mark.parametrize("profile", ["default", "dev", "ha", "external"])
def test_every_pod_has_a_policy_that_closes_both_directions(profile: str) -> None:
    documents = render(profile)
    policies = _policies(documents)
    assert "ingress" not in policies[""]
    for spec in policies.values():
        assert sorted(spec["policyTypes"]) == ["Egress", "Ingress"]
        for rule in [*spec.get("ingress", []), *spec.get("egress", [])]:
            assert rule["ports"], "a rule without ports opens all of them"
        for rule in spec.get("ingress", []):
            assert rule["from"], "a rule without peers is open to everybody"
    for pods in pods_of(documents):
        assert pods.component in policies
        for component, spec in policies.items():
            labels = spec["podSelector"]["matchLabels"].items() <= pods.metadata["labels"].items()
            assert labels is (component in ("", pods.component))


def test_names_are_resolved_by_the_clusters_dns_alone() -> None:
    (rule,) = _policies(render())[""]["egress"]
    assert rule["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]
    assert {(port["protocol"], port["port"]) for port in rule["ports"]} == {("UDP", 53), ("TCP", 53)}


def test_every_address_a_process_is_given_can_be_reached_by_it() -> None:
    """The other way round: what the settings name must be among the ways."""
    for pods in pods_of(render()):
        for container in pods.all_containers:
            for target in _targets(pods, container):
                assert (pods.component, *target) in WAYS, f"{pods.name}/{container['name']} → {target}"


def _targets(pods: Pods, container: dict[str, Any]) -> set[tuple[str, int]]:
    told = variables(container)
    found = set()
    if "PGPASSWORD" in told:
        found.add(("postgres", 5432))
    if "SICARGABOX_REDIS_USERNAME" in told:
        found |= {("redis", 6379), ("sentinel", 26379)}
    if "SICARGABOX_SEARCH_URL" in told:
        found.add(("elasticsearch", 9200))
    return found


def test_who_signs_in_somewhere_and_who_does_not() -> None:
    """A process has no password that its work does not need."""
    signs_in = {
        pods.component: {target for target, _ in _targets(pods, pods.main)}
        for pods in pods_of(render())
        if pods.owner["kind"] == "Deployment"
    }
    everything, hub = {"postgres", "redis", "sentinel", "elasticsearch"}, {"redis", "sentinel"}
    assert signs_in == {
        "api": everything,
        "admin": everything,
        "indexer-worker": everything,
        "scheduler": {"postgres", *hub},
        "ai-worker": {"postgres", *hub},
        "learning-worker": everything,
        "flower": hub,
    }


def test_external_servers_are_reached_where_the_values_say_they_are() -> None:
    policies = _policies(render("external"))
    out = {
        component: sorted(
            (peer["ipBlock"]["cidr"], port["port"])
            for rule in spec.get("egress", [])
            for peer, port in product(rule.get("to", []), rule["ports"])
            if "ipBlock" in peer
        )
        for component, spec in policies.items()
    }
    database, search = [("10.20.0.0/24", 5432)], [("10.20.2.0/24", 9200)]
    hub = [("10.20.1.0/24", 6379), ("10.20.1.0/24", 26379)]
    assert out == {
        "": [],
        "api": database + hub + search,
        "admin": database + hub + search,
        "indexer-worker": database + hub + search,
        "ai-worker": database + hub,
        "learning-worker": database + hub + search,
        "scheduler": database + hub,
        "test": database + hub,
        "flower": hub,
        "migrate": database,
    }


def test_a_worker_gets_the_further_ways_that_its_values_name() -> None:
    told = "workers.ai.egress[0].ports[0].port=443,workers.ai.egress[0].to[0].ipBlock.cidr=203.0.113.0/24"
    policies = _policies(render("default", told))
    assert {"ports": [{"port": 443}], "to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]} in policies["ai-worker"][
        "egress"
    ]
    assert all("203.0.113.0" not in str(spec) for name, spec in policies.items() if name != "ai-worker")


def test_without_network_policies_there_are_none() -> None:
    assert of_kind(render("default", "networkPolicy.enabled=false"), "NetworkPolicy") == []
