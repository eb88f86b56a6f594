"""Who reaches whom on a cluster that enforces NetworkPolicies, and what the role that asks for scaling may read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import product

import pytest

from tests.kubernetes.asked_figures import asked, of_dashboards, of_rules, series
from tests.kubernetes.cluster import Cluster, KubectlFailed
from tests.kubernetes.declared_ways import PROCESSES, WAYS, WORKERS
from tests.kubernetes.figures import Figures
from tests.kubernetes.idle import memory
from tests.kubernetes.installation import COMPONENT, succeeded
from tests.kubernetes.load import QUEUES
from tests.kubernetes.probing import Target, open_from, open_from_new, start
from tests.kubernetes.replicated import Replicated, replicated
from tests.servers.ports import wait_until
from tests.settings import absent

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SERVERS = ("postgres", "redis", "sentinel", "elasticsearch")
PORTS: dict[str, tuple[int, ...]] = {
    "api": (8000,),
    "admin": (8001,),
    **dict.fromkeys(PROCESSES[2:], (9100,)),
    "flower": (5555,),
    "postgres": (5432,),
    # The second is the exporter's.
    "redis": (6379, 9121),
    "sentinel": (26379, 9121),
    "elasticsearch": (9200,),
}
FIGURES = {
    ("api", 8000),
    *((component, 9100) for component in ("scheduler", *WORKERS)),
    *((component, 9121) for component in ("redis", "sentinel")),
}
SCALER = "sicargabox_scaler"
_SCRAPE = """
import json, sys, urllib.request
def text(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()
print(json.dumps([text(url) for url in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def monitoring(cluster: Cluster) -> Iterator[str]:
    """The namespace that Prometheus is in."""
    with cluster.namespace("monitoring") as namespace:
        yield namespace


@pytest.fixture(scope="module")
def network(cluster: Cluster, monitoring: str) -> Iterator[Replicated]:
    """One of each component, with all that can be watched, and nobody changes anything."""
    cluster.require("keda.sh/v1alpha1", "KEDA", "install it in the cluster, in the namespace keda.")
    cluster.require("monitoring.coreos.com/v1", "the Prometheus operator's CRDs", "apply them to the cluster.")
    label = r"networkPolicy.monitoringFrom[0].namespaceSelector.matchLabels.kubernetes\.io/metadata\.name"
    watched = (f"monitoring.{what}.enabled=true" for what in ("podMonitors", "rules", "dashboards"))
    sets = ("flower.enabled=true", "redis.exporter.enabled=true", f"{label}={monitoring}", *watched)
    with replicated(cluster, "network", *sets) as made:
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
    """Every address of each component, of other pods than ``but``; and the API of Kubernetes."""
    found: dict[Target, str] = {}
    for component, ports in PORTS.items():
        for pod in network.installation.ready(component):
            if pod["metadata"]["name"] != but:
                found |= {(str(pod["status"]["podIP"]), port): component for port in ports}
    kubernetes = network.installation.cluster.object("service", "kubernetes", "--namespace", "default")
    found[str(kubernetes["spec"]["clusterIP"]), 443] = "kubernetes"
    return found


@pytest.mark.usefixtures("elsewhere")
def test_each_pod_reaches_what_is_declared_and_nothing_else(network: Replicated) -> None:
    installation = network.installation
    found, possible = set(), set()
    for component in (*PROCESSES, "flower", *SERVERS):
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
@pytest.mark.parametrize("component", ["test", "migrate"])
def test_pods_that_end_reach_what_is_declared_and_nothing_else(network: Replicated, component: str) -> None:
    labels = {"app.kubernetes.io/instance": network.installation.release, "app.kubernetes.io/name": "sicargabox"}
    pod = _asking(network, network.installation.namespace, {**labels, COMPONENT: component})
    _reaches(network, network.installation.namespace, pod, {(to, port) for one, to, port in WAYS if one == component})


@pytest.mark.usefixtures("elsewhere")
def test_prometheus_reaches_the_figures_and_nothing_else(network: Replicated, monitoring: str) -> None:
    """The API's are on the port of its pages, which have no other."""
    pod = _asking(network, monitoring, {"app": "prometheus"})
    _reaches(network, monitoring, pod, FIGURES)


def _asking(network: Replicated, namespace: str, labels: dict[str, str]) -> str:
    # Our images have no other program.
    waits = ["python", "-c", "import time; time.sleep(600)"]
    return start(network.installation.cluster, namespace, labels, waits)


def _reaches(network: Replicated, namespace: str, pod: str, declared: set[tuple[str, int]]) -> None:
    targets, cluster = _targets(network), network.installation.cluster
    if namespace != network.installation.namespace:
        # Nothing keeps a pod of another namespace from there.
        targets = {one: what for one, what in targets.items() if what != "kubernetes"}

    def found() -> set[tuple[str, int]]:
        return {(targets[one], one[1]) for one in open_from(cluster, namespace, pod, "probe", targets)}

    # A cluster hears of a new pod's address a moment after the pod has begun.
    wait_until(lambda: _quietly(found) == declared, seconds=60, what=f"the ways are {declared}", interval=1)


def _quietly(ask: Callable[[], set[tuple[str, int]]]) -> set[tuple[str, int]]:
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


def test_what_alerts_and_dashboards_look_for_is_really_told(network: Replicated, monitoring: str) -> None:
    """By the endpoints that the PodMonitors name, after some work has been done and some searches were answered."""
    installation = network.installation
    with network.load(rate=5, searches=3) as load:
        network.flows(load, time.time())
    endpoints = list(_endpoints(network))
    assert {component for component, _ in endpoints} == {component for component, _ in FIGURES}
    pod = _asking(network, monitoring, {"app": "prometheus"})
    urls = [f"http://{host}:{port}/metrics" for _, (host, port) in endpoints]
    told: list[str] = []

    def scraped() -> bool:
        where = ("exec", "--namespace", monitoring, pod, "--container", "probe", "--")
        try:
            told[:] = json.loads(installation.cluster.kubectl(*where, "python", "-c", _SCRAPE, *urls))
        except KubectlFailed:
            return False
        return True

    wait_until(scraped, seconds=60, what="every endpoint has told its figures", interval=2)
    names = {name for text in told for name in series(text)}
    where = ("--namespace", installation.namespace)
    (rules,) = installation.cluster.object("prometheusrule", *where)["items"]
    boards = installation.cluster.objects(installation.namespace, "configmaps", "grafana_dashboard")
    wanted = {name for expression in (*of_rules(rules), *of_dashboards(boards)) for name, _ in asked(expression)}
    ours = {name for name in wanted if name.startswith(("sicargabox_", "redis_"))}
    assert len(ours) > 30
    assert sorted(ours - names) == []


def _endpoints(network: Replicated) -> Iterator[tuple[str, Target]]:
    """Component and address of every pod that a PodMonitor chooses."""
    installation = network.installation
    for monitor in installation.cluster.objects(installation.namespace, "podmonitors"):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        component = str(monitor["spec"]["selector"]["matchLabels"][COMPONENT])
        for pod in installation.ready(component):
            ports = [port for one in pod["spec"]["containers"] for port in one.get("ports", [])]
            (number,) = [port["containerPort"] for port in ports if port.get("name") == endpoint["port"]]
            yield component, (str(pod["status"]["podIP"]), int(number))


def test_a_pod_that_has_nothing_to_do_holds_no_more_than_it_asks_for(network: Replicated, figures: Figures) -> None:
    network.ledger.settle()
    memory(network.installation, figures, "default profile, one of each")


def test_helm_test_brings_workers_from_none_and_asks_the_sentinels(network: Replicated, figures: Figures) -> None:
    """The last of these: afterwards nobody works here."""
    installation = network.installation
    before = network.ledger.stories()
    fast = [f"workerDefaults.autoscaling.{which}=15" for which in ("cooldownSeconds", "scaleDownStabilizationSeconds")]
    installation.upgrade("workerDefaults.autoscaling.minReplicas=0", *fast)
    installation.wait_no_workers()
    began = time.monotonic()
    told = installation.test()
    row = "default profile, workers from none, Sentinels asked: `helm test`"
    figures.note("install", row, "seconds", time.monotonic() - began)
    assert succeeded(told) >= len(QUEUES) + 2
    done = {one.queue for name, one in network.ledger.stories().items() if name not in before and one.finished == 1}
    assert done == set(QUEUES)
