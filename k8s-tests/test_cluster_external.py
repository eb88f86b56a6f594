"""Somebody else's PostgreSQL, Redis with Sentinels and Elasticsearch; and what the cluster takes of other profiles.

The servers are this chart's own, made in another namespace without anything of ours beside them, without TLS and
without NetworkPolicies, which are theirs to have. What is installed has none of them and generates no password.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
import yaml

from tests.kubernetes.cluster import Cluster, Object
from tests.kubernetes.figures import Figures
from tests.kubernetes.installation import COMPONENT, Installation, succeeded
from tests.kubernetes.load import QUEUES
from tests.kubernetes.rendering import CHART, MODES, Document
from tests.kubernetes.replicated import MEMBERS, SMALL, Replicated
from tests.servers.ports import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SERVERS = ("postgres", "redis", "sentinel", "elasticsearch")
_ROUTE = ("route.host=parcels.example.org", "networkPolicy.routeFrom[0].podSelector.matchLabels.app=controller")


@pytest.fixture(scope="module")
def servers(cluster: Cluster) -> Iterator[Replicated]:
    """Of an installation only its servers, waited for."""
    with cluster.namespace("servers") as namespace:
        installation = Installation(cluster, namespace, "default", (*SMALL, "networkPolicy.enabled=false"))
        documents = installation.rendered()
        installation.apply(one for one in documents if _component(one) in (*SERVERS, "secrets"))
        made = Replicated(installation, ledger=None, token="")  # type: ignore[arg-type]  # nothing is accepted here
        for component in ("postgres", "elasticsearch"):
            installation.wait_ready(component)
        made.wait_whole()
        yield made


def _component(document: Document) -> str:
    return str(document["metadata"].get("labels", {}).get(COMPONENT, ""))


def _secret(name: str, **values: str) -> Object:
    data = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def _secrets(servers: Replicated) -> list[Object]:
    """Under the names that values-external.yaml has, with the servers' own passwords."""
    given, users = servers.installation.secret, ("api", "scheduler", "worker", "flower")
    return [
        _secret("sicargabox-key", secret_key="k" * 40),
        _secret("sicargabox-administrator", password="of the administrator, of the tests"),
        _secret("sicargabox-flower", basic_auth="flower:of the tests"),
        _secret(
            "sicargabox-database",
            password=given("postgres", "password"),
            scaler_password=given("postgres", "scaler-password"),
        ),
        _secret("sicargabox-redis", **{user: given("redis", user) for user in users}),
        _secret("sicargabox-sentinel", reader=given("sentinel", "reader")),
        _secret("sicargabox-search", password=given("elasticsearch", "password")),
    ]


def _values(servers: Replicated) -> dict[str, Any]:
    """values-external.yaml, copied and changed as its first lines say."""
    installation = servers.installation
    domain = f"{installation.namespace}.svc.cluster.local"
    values: dict[str, Any] = yaml.safe_load((CHART / "values-external.yaml").read_text(encoding="utf-8"))
    egress = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": installation.namespace}}}]
    sentinels = (f"{servers.pod(one, 'sentinel')}.{installation.name('sentinel')}-pods.{domain}" for one in MEMBERS)
    database = {"host": f"{installation.name('postgres')}.{domain}", "sslmode": "disable"}
    redis = {"url": ";".join(f"sentinel://{one}:26379" for one in sentinels), "tls": {"enabled": False}}
    search = {"url": f"http://{installation.name('elasticsearch')}.{domain}:9200", "username": "elastic"}
    search |= {"passwordKey": "password", "apiKeyKey": ""}
    for part, changed in (("database", database), ("redis", redis), ("search", search)):
        values[part]["external"] |= changed | {"egress": egress}
    for part in ("database", "search"):
        values[part]["external"]["ca"] = {"existingSecret": ""}
    # The servers have one node.
    values["search"]["replicas"] = 0
    return values


@pytest.fixture(scope="module")
def external(cluster: Cluster, servers: Replicated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Ours alone, in a namespace of its own."""
    cluster.require("keda.sh/v1alpha1", "KEDA", "install it in the cluster, in the namespace keda.")
    file = tmp_path_factory.mktemp("values") / "my-external.yaml"
    file.write_text(yaml.safe_dump(_values(servers)), encoding="utf-8")
    with cluster.namespace("external") as namespace:
        small = ("api.autoscaling.minReplicas=1", "scheduler.replicas=1", "api.resources.requests.cpu=100m")
        fast = (f"workerDefaults.autoscaling.{one}=15" for one in ("cooldownSeconds", "scaleDownStabilizationSeconds"))
        installation = Installation(cluster, namespace, "default", (*small, *fast), files=(file,))
        installation.apply(_secrets(servers))
        yield installation
        installation.close()


def test_it_is_installed_with_servers_of_somebody_else_and_a_search_is_answered_by_their_index(
    external: Installation, figures: Figures
) -> None:
    took = external.install()
    figures.note("install", "external servers: `helm install` until all is ready", "seconds", took)
    stateful = external.cluster.objects(external.namespace, "statefulsets")
    assert stateful == []

    def found() -> bool:
        told = httpx.get(f"{external.public}/api/v1/search", params={"q": "camiseta"}, timeout=10).json()
        return bool(told["results"]) and not told["degraded"]

    wait_until(found, seconds=240, what="a search is answered by the index", interval=1)


def test_a_task_of_each_queue_is_done_there_by_workers_that_keda_brought(
    external: Installation, servers: Replicated, figures: Figures
) -> None:
    """One for each queue and no fault, so no law of a thousand."""
    ended = "SELECT queue, count(*) AS many FROM tasks WHERE state = 'SUCCESS' GROUP BY queue"
    before = {row["queue"]: row["many"] for row in servers.installation.rows(ended)}
    external.wait_no_workers()
    began = time.monotonic()
    told = external.test()
    figures.note("install", "external servers: `helm test`, workers from none", "seconds", time.monotonic() - began)
    assert succeeded(told) >= len(QUEUES) + 2
    after = {row["queue"]: row["many"] for row in servers.installation.rows(ended)}
    assert all(after[queue] > before.get(queue, 0) for queue in QUEUES), (before, after)


def test_the_autoscaler_of_the_api_reads_what_its_pods_use(external: Installation, cluster: Cluster) -> None:
    cluster.require("metrics.k8s.io/v1beta1", "metrics-server", "install it in the cluster.")

    def active() -> bool:
        scaler = cluster.object("hpa", external.name("api"), "--namespace", external.namespace)
        told = {one["type"]: one["status"] for one in scaler["status"].get("conditions", [])}
        read = [one["resource"]["current"] for one in scaler["status"].get("currentMetrics") or [] if "resource" in one]
        return told.get("ScalingActive") == "True" and any("averageUtilization" in one for one in read)

    wait_until(active, seconds=180, what="the autoscaler has read a use of the CPU", interval=3)


# --- what the cluster takes, without running it --------------------------------------------------------------------


@pytest.fixture(scope="module")
def dry(cluster: Cluster) -> Iterator[str]:
    """A namespace that stays empty."""
    cluster.require("keda.sh/v1alpha1", "KEDA", "install it in the cluster, in the namespace keda.")
    cluster.require("monitoring.coreos.com/v1", "the Prometheus operator's CRDs", "apply them to the cluster.")
    with cluster.namespace("dry") as namespace:
        yield namespace


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("profile", ["dev", "default", "ha", "ha-external"])
def test_the_cluster_takes_every_object_of_every_profile(cluster: Cluster, dry: str, profile: str, mode: str) -> None:
    """With an Ingress. No warning either: nothing breaks restricted Pod Security."""
    kinds = _dry_run(Installation(cluster, dry, profile, (*_ROUTE, "route.kind=ingress", f"autoscaling.mode={mode}")))
    assert "Ingress" in kinds
    assert ("ScaledObject" in kinds) == (mode == "keda")


def test_the_cluster_takes_an_http_route(cluster: Cluster, dry: str) -> None:
    """Where the Gateway API is; else the render and the schema are all there is."""
    if not cluster.serves("gateway.networking.k8s.io/v1"):
        pytest.skip("this cluster has no Gateway API")
    gateway = (*_ROUTE, "route.kind=gateway", "route.gateway.name=public")
    assert "HTTPRoute" in _dry_run(Installation(cluster, dry, "dev", gateway))


def _dry_run(installation: Installation) -> Sequence[str]:
    """Kinds of the objects that the cluster would have taken."""
    documents = installation.rendered()
    installation.dry_run(documents)
    return [str(one["kind"]) for one in documents]
