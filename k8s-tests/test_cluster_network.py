"""Who reaches whom on a cluster that enforces NetworkPolicies, and what the role that asks for scaling may read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest

from tests.kubernetes.cluster import Cluster, KubectlFailed
from tests.kubernetes.declared_ways import PROCESSES, WAYS
from tests.kubernetes.installation import COMPONENT
from tests.kubernetes.probing import Target, open_from, open_from_new, start
from tests.kubernetes.replicated import Replicated, replicated
from tests.servers.ports import wait_until
from tests.settings import absent

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SERVERS = ("postgres", "redis", "sentinel", "elasticsearch")
PORTS = {
    "api": 8000,
    "admin": 8001,
    **dict.fromkeys(PROCESSES[2:], 9100),
    "postgres": 5432,
    "redis": 6379,
    "sentinel": 26379,
    "elasticsearch": 9200,
}
SCALER = "sicargabox_scaler"


@pytest.fixture(scope="module")
def network(cluster: Cluster) -> Iterator[Replicated]:
    """One of each component, and nobody changes anything."""
    cluster.require("keda.sh/v1alpha1", "KEDA", "install it in the cluster, in the namespace keda.")
    with replicated(cluster, "network") as made:
        for component in PORTS:
            made.installation.wait_ready(component)
        yield made


@pytest.fixture(scope="module")
def elsewhere(cluster: Cluster) -> Iterator[str]:
    """Another namespace; skips the test where the cluster enforces no NetworkPolicy."""
    with cluster.namespace("elsewhere") as namespace:
        server = start(cluster, namespace, {"listens": "yes"}, ["python", "-m", "http.server", "8080"], 8080)
        address = wait_until(lambda: _address(cluster, namespace, server), seconds=60, what="an address", interval=0.5)
        target = {(address, 8080)}
        # What the probes are worth: where no policy is, they find a way.
        wait_until(
            lambda: open_from_new(cluster, namespace, {}, target) == target, seconds=90, what="an open way is seen"
        )
        metadata = {"name": "nobody", "namespace": namespace}
        chosen = {"matchLabels": {"listens": "yes"}}
        spec = {"podSelector": chosen, "policyTypes": ["Ingress"]}
        cluster.apply(
            {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
        )
        try:
            wait_until(lambda: not open_from_new(cluster, namespace, {}, target), seconds=30, what="the way is shut")
        except AssertionError:
            absent("a cluster that enforces NetworkPolicies", "use a network plugin that does.")
        yield namespace


def _address(cluster: Cluster, namespace: str, pod: str) -> str:
    return str(cluster.object("pod", pod, "--namespace", namespace)["status"].get("podIP", ""))


def _targets(network: Replicated, but: str = "") -> dict[Target, str]:
    """An address of each component, of another pod than ``but``; and the API of Kubernetes."""
    found: dict[Target, str] = {}
    for component, port in PORTS.items():
        for pod in network.installation.ready(component):
            if pod["metadata"]["name"] != but:
                found[str(pod["status"]["podIP"]), port] = component
    kubernetes = network.installation.cluster.object("service", "kubernetes", "--namespace", "default")
    found[str(kubernetes["spec"]["clusterIP"]), 443] = "kubernetes"
    return found


@pytest.mark.usefixtures("elsewhere")
def test_each_pod_reaches_what_is_declared_and_nothing_else(network: Replicated) -> None:
    installation = network.installation
    found, possible = set(), set()
    for component in (*PROCESSES, *SERVERS):
        pod = str(installation.ready(component)[0]["metadata"]["name"])
        targets = _targets(network, but=pod)
        reached = open_from(installation.cluster, installation.namespace, pod, component, targets)
        found |= {(component, targets[one], one[1]) for one in reached}
        possible |= {(component, targets[one], one[1]) for one in targets}
    assert found == WAYS & possible
    assert found >= {("redis", "redis", 6379), ("sentinel", "sentinel", 26379)}


def test_strangers_reach_nothing(network: Replicated, elsewhere: str) -> None:
    installation = network.installation
    targets = {one: what for one, what in _targets(network).items() if what != "kubernetes"}
    instance = {"app.kubernetes.io/instance": installation.release, "app.kubernetes.io/name": "sicargabox"}
    # In the installation's own namespace without its labels; elsewhere, with the labels of one who may.
    for namespace, labels in ((installation.namespace, {}), (elsewhere, {**instance, COMPONENT: "api"})):
        reached = open_from_new(installation.cluster, namespace, labels, targets)
        assert {targets[one] for one in reached} == set(), namespace


@pytest.mark.usefixtures("elsewhere")
def test_the_pods_of_helm_test_reach_what_they_test(network: Replicated) -> None:
    installation = network.installation
    labels = {"app.kubernetes.io/instance": installation.release, "app.kubernetes.io/name": "sicargabox"}
    pod = start(installation.cluster, installation.namespace, {**labels, COMPONENT: "test"}, ["sleep", "600"])
    targets, declared = _targets(network), {way for way in WAYS if way[0] == "test"}

    def found() -> set[tuple[str, str, int]]:
        reached = open_from(installation.cluster, installation.namespace, pod, "probe", targets)
        return {("test", targets[one], one[1]) for one in reached}

    # A cluster hears of a new pod's address a moment after the pod has begun.
    wait_until(lambda: _quietly(found) == declared, seconds=60, what=f"the ways are {declared}", interval=1)


def _quietly(ask: Callable[[], set[tuple[str, str, int]]]) -> set[tuple[str, str, int]]:
    """Nothing while the pod does not run yet."""
    try:
        return ask()
    except KubectlFailed:
        return set()


def test_keda_reaches_the_database_and_its_role_reads_six_columns_alone(network: Replicated) -> None:
    installation = network.installation
    for kind in ("indexer", "ai", "learning"):
        name = installation.name(f"{kind}-worker")

        def asked(name: str = name) -> bool:
            told = installation.cluster.object("scaledobject.keda.sh", name, "--namespace", installation.namespace)
            states = {one["type"]: one["status"] for one in told["status"]["conditions"]}
            return (states["Ready"], states["Fallback"]) == ("True", "False")

        wait_until(asked, seconds=60, what=f"KEDA has asked for {kind}", interval=1)

    readable = installation.rows(
        "SELECT class.relname || '.' || attribute.attname AS what "
        "FROM pg_attribute AS attribute JOIN pg_class AS class ON class.oid = attribute.attrelid "
        "WHERE class.relnamespace = 'public'::regnamespace AND class.relkind IN ('r', 'v', 'm', 'p') "
        "AND attribute.attnum > 0 AND NOT attribute.attisdropped "
        f"AND has_column_privilege('{SCALER}', class.oid, attribute.attnum, 'SELECT')"
    )
    columns = ("finished_at", "lease_until", "queue", "run_at", "state", "waits_for")
    assert sorted(row["what"] for row in readable) == [f"tasks.{column}" for column in columns]
    writable = installation.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'p') "
        f"AND has_table_privilege('{SCALER}', oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
    )
    assert writable == []
    role = installation.rows(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolconnlimit, "
        f"has_schema_privilege('{SCALER}', 'public', 'CREATE') AS creates FROM pg_roles WHERE rolname = '{SCALER}'"
    )
    rights = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls", "creates")
    assert role == [{**dict.fromkeys(rights, False), "rolconnlimit": 8}]
    for table, column in product(["tasks"], ["payload", "id"]):
        with pytest.raises(KubectlFailed, match="permission denied"):
            installation.psql(f"SET ROLE {SCALER}; SELECT {column} FROM {table} LIMIT 1")
