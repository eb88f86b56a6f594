"""Every profile, on every Kubernetes, with every way of scaling, renders to what Kubernetes takes and we promise."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.kubernetes.pods import COMPONENT, Pods, pods_of
from tests.kubernetes.rendering import KUBERNETES, MODES, PROFILES, Document, of_kind, render, text
from tests.programs import program
from tests.settings import REPOSITORY

# Theirs are not among Kubernetes' own schemas; test_render_custom.py looks at them.
CUSTOM = ("ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule", "HTTPRoute")
RECOMMENDED = ("name", "instance", "component", "version", "part-of", "managed-by")
# 40 letters and what may stand before them, as Secrets hold them.
_GENERATED = re.compile(r"(?<=: )[A-Za-z0-9+/]{54,63}={1,2}$", re.MULTILINE)
OURS = re.compile(r"^sicargabox-(api|indexer-worker|ai-worker|learning-worker):")


@pytest.fixture(params=list(PROFILES))
def documents(request: pytest.FixtureRequest) -> list[Document]:
    """A profile's, with all that can be switched on."""
    return render(
        request.param, "monitoring.podMonitors.enabled=true", "monitoring.rules.enabled=true", "flower.enabled=true"
    )


@pytest.fixture
def pods(documents: list[Document]) -> list[Pods]:
    """All of a profile's kinds of pods."""
    return list(pods_of(documents))


# --- Kubernetes takes it ---------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kubernetes' schemas as kubeconform finds them: beside each other, named by nothing but their files."""
    bundled = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    kinds = {
        (one["kind"].lower(), one["apiVersion"])
        for profile in PROFILES
        for one in render(profile, mode="hpa")
        if one["kind"] not in CUSTOM
    }
    folder = tmp_path_factory.mktemp("schemas")
    for version in KUBERNETES:
        (folder / version).mkdir()
        source = bundled / f"v{version}-local-strict"
        shared = json.loads((source / "_definitions.json").read_text())["$defs"]
        for kind, api in kinds:
            group, _, number = api.rpartition("/")
            name = "-".join(filter(None, (kind, group.partition(".")[0], number)))
            schema = json.loads((source / f"{name}.json").read_text())
            del schema["$id"]
            # Only what it needs: kubeconform reads the whole anew for each kind, which took most of a minute.
            schema["$defs"] = _needed(schema, shared)
            told = json.dumps(schema).replace('"/api/_definitions.json#', '"#')
            (folder / version / f"{name}.json").write_text(told)
    return folder


def _needed(schema: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    needed: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        for name in re.findall(r'#/\$defs/([^"]+)"', json.dumps(waiting.pop())):
            if name not in needed:
                needed[name] = shared[name]
                waiting.append(shared[name])
    return needed


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_everything_fits_the_schemas_of_kubernetes(kubernetes: str, schemas: Path, tmp_path: Path) -> None:
    for profile in PROFILES:
        for mode in MODES:
            file = tmp_path / f"{profile}-{mode}.yaml"
            file.write_text(text(profile, kubernetes=kubernetes, mode=mode))
    told = _conform(schemas, kubernetes, tmp_path)
    assert told["summary"]["valid"] > 500
    assert [(one["filename"], one["kind"], one["name"], one["msg"]) for one in told.get("resources") or []] == []


def test_what_does_not_fit_is_found(schemas: Path, tmp_path: Path) -> None:
    wrong = text("dev").replace("terminationGracePeriodSeconds: 45", "terminationGraceSeconds: 45")
    (tmp_path / "wrong.yaml").write_text(wrong)
    told = _conform(schemas, KUBERNETES[0], tmp_path)
    assert {one["name"] for one in told["resources"]} == {"sb-sicargabox-api", "sb-sicargabox-admin"}
    assert all("terminationGraceSeconds" in one["msg"] for one in told["resources"])


def _conform(schemas: Path, kubernetes: str, folder: Path) -> dict[str, Any]:
    where = f"{schemas}/{kubernetes}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    done = subprocess.run(
        [
            *(program("kubeconform"), "-strict", "-summary", "-output", "json", "-skip", ",".join(CUSTOM)),
            *("-kubernetes-version", kubernetes, "-schema-location", where, str(folder)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("profile", PROFILES)
def test_two_renders_are_the_same_but_for_generated_passwords(profile: str, mode: str) -> None:
    first = text(profile, mode=mode)
    # Another entry of the cache, and the same values.
    second = text(profile, "nameOverride=", mode=mode)
    assert _GENERATED.sub("", first) == _GENERATED.sub("", second)
    assert (first == second) is (_GENERATED.search(first) is None)


def test_nothing_is_rendered_twice_or_outside_the_namespace(documents: list[Document]) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in documents]
    assert sorted(set(names)) == sorted(names)
    assert {one["metadata"].get("namespace") for one in documents} == {None}


@pytest.mark.parametrize("release", ["a", "sicargabox", "x" * 53])
def test_names_stay_short_enough_for_the_names_of_pods(release: str) -> None:
    for document in render(release=release):
        # A StatefulSet's label with its revision adds 11 characters.
        limit = 52 if document["kind"] == "StatefulSet" else 63
        assert len(document["metadata"]["name"]) <= limit, document["metadata"]["name"]


# --- labels and selectors --------------------------------------------------------------------------------------------
def test_everything_has_the_recommended_labels(documents: list[Document]) -> None:
    for document in documents:
        labels = document["metadata"]["labels"]
        missing = [name for name in RECOMMENDED if not labels.get(f"app.kubernetes.io/{name}")]
        assert missing == [], f"{document['kind']}/{document['metadata']['name']}"


def test_every_selector_chooses_the_pods_it_means_and_no_others(documents: list[Document], pods: list[Pods]) -> None:
    for document in of_kind(documents, "Deployment", "StatefulSet"):
        chosen = _chosen(document["spec"]["selector"]["matchLabels"], pods)
        assert [one.owner["metadata"]["name"] for one in chosen] == [document["metadata"]["name"]]
    for document in of_kind(documents, "Service"):
        chosen = _chosen(document["spec"]["selector"], pods)
        assert len(chosen) == 1, document["metadata"]["name"]
        ports = {port["name"] for container in chosen[0].containers for port in container.get("ports", [])}
        assert {port["targetPort"] for port in document["spec"]["ports"]} <= ports
    for document in of_kind(documents, "PodDisruptionBudget", "PodMonitor"):
        chosen = _chosen(document["spec"]["selector"]["matchLabels"], pods)
        assert [one.component for one in chosen] == [document["metadata"]["labels"][COMPONENT]]
    for document in of_kind(documents, "PodMonitor"):
        (scraped,) = _chosen(document["spec"]["selector"]["matchLabels"], pods)
        ports = {port["name"] for container in scraped.containers for port in container.get("ports", [])}
        assert {one["port"] for one in document["spec"]["podMetricsEndpoints"]} <= ports


def test_another_release_makes_no_new_pods_of_the_servers() -> None:
    """A database that goes round because our images have another tag is an outage for nothing."""
    first, second = (of_kind(render("default", f"image.tag={tag}"), "StatefulSet") for tag in ("one", "two"))
    assert len(first) == len(second) == 4
    for before, after in zip(first, second, strict=True):
        assert before["spec"] == after["spec"], before["metadata"]["name"]
        assert "helm.sh/chart" not in before["spec"]["template"]["metadata"]["labels"]


def _chosen(labels: dict[str, str], pods: list[Pods]) -> list[Pods]:
    return [one for one in pods if labels.items() <= one.metadata["labels"].items()]


def test_what_an_autoscaler_owns_has_no_number_of_replicas_and_all_else_has_one() -> None:
    for profile in PROFILES:
        for mode in MODES:
            documents = render(profile, mode=mode)
            owned = [
                one["spec"]["scaleTargetRef"]["name"]
                for one in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject")
            ]
            assert len(owned) == len(set(owned))
            numbered = {one["metadata"]["name"]: "replicas" in one["spec"] for one in of_kind(documents, "Deployment")}
            assert set(owned) <= set(numbered)
            assert numbered == {name: name not in owned for name in numbered}
            workers = {name for name in numbered if name.endswith("-worker")}
            assert workers <= set(owned) if mode != "none" else workers.isdisjoint(owned)


# --- all pods --------------------------------------------------------------------------------------------------------
def test_every_pod_is_restricted(pods: list[Pods]) -> None:
    for one in pods:
        pod = one.spec["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & one.spec.keys()
        allowed = {"emptyDir", "configMap", "secret", "projected", "persistentVolumeClaim", "downwardAPI", "csi"}
        for volume in one.spec.get("volumes", []):
            assert (volume.keys() - {"name"}) <= allowed, f"{one.name}: {volume}"
        for container in one.all_containers:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert not {"privileged", "runAsUser", "procMount"} & context.keys()
            assert all("hostPort" not in port for port in container.get("ports", []))


def test_our_pods_run_as_our_user_and_nobody_is_group_root_but_elasticsearch(pods: list[Pods]) -> None:
    for one in pods:
        context = one.spec["securityContext"]
        if OURS.match(one.main["image"]):
            assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (10001, 10001, 10001)
        if context["runAsGroup"] == 0:
            assert one.component == "elasticsearch"


def test_no_pod_has_a_token_or_the_variables_of_services(documents: list[Document], pods: list[Pods]) -> None:
    accounts = {one["metadata"]["name"] for one in of_kind(documents, "ServiceAccount")}
    assert all(one["automountServiceAccountToken"] is False for one in of_kind(documents, "ServiceAccount"))
    for one in pods:
        assert one.spec["automountServiceAccountToken"] is False
        assert one.spec["enableServiceLinks"] is False
        assert one.spec["serviceAccountName"] in accounts
    assert accounts == {one.spec["serviceAccountName"] for one in pods}
    assert of_kind(documents, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding") == []


def test_every_container_says_what_it_needs_and_where_it_ends(pods: list[Pods]) -> None:
    for one in pods:
        for container in one.all_containers:
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys(), f"{one.name}/{container['name']}"
            assert "memory" in resources["limits"]


def test_what_serves_has_all_three_probes_and_none_asks_celery(pods: list[Pods]) -> None:
    for one in pods:
        if not one.serves:
            continue
        for container in one.containers:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert probe in container, f"{one.name}/{container['name']}"
            assert "inspect" not in json.dumps([container[probe] for probe in ("livenessProbe", "readinessProbe")])


def test_where_a_file_system_is_read_only_there_is_a_place_to_write(pods: list[Pods]) -> None:
    for one in pods:
        if one.serves or OURS.match(one.main["image"]):
            mounts = {mount["mountPath"] for mount in one.main.get("volumeMounts", [])}
            if one.main["name"] != "exporter":
                assert "/tmp" in mounts, one.name
        volumes = {volume["name"] for volume in one.spec.get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in one.owner["spec"].get("volumeClaimTemplates", [])}
        used = {mount["name"] for container in one.all_containers for mount in container.get("volumeMounts", [])}
        assert used == volumes, f"{one.name}: mounted and declared"
        for volume in one.spec.get("volumes", []):
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"], f"{one.name}: {volume['name']}"


def test_settings_and_files_that_change_make_new_pods(pods: list[Pods]) -> None:
    for one in pods:
        if one.serves or one.owner["kind"] == "Job":
            sums = [name for name in one.metadata["annotations"] if name.startswith("checksum/")]
            assert sums, one.name
    before = {one.name: one.metadata["annotations"] for one in pods_of(render()) if one.serves}
    after = {one.name: one.metadata["annotations"] for one in pods_of(render("default", "settings.LOG_LEVEL=DEBUG"))}
    changed = {name.rpartition("sicargabox-")[2] for name in before if before[name] != after.get(name)}
    assert changed == {"api", "admin", "scheduler", "flower", "indexer-worker", "ai-worker", "learning-worker"}


def test_one_pod_is_disrupted_at_a_time_and_every_node_can_be_drained(documents: list[Document]) -> None:
    budgets = {one["metadata"]["labels"][COMPONENT]: one["spec"] for one in of_kind(documents, "PodDisruptionBudget")}
    serving = {one.component for one in pods_of(documents) if one.serves}
    assert budgets.keys() == serving
    for spec in budgets.values():
        assert "minAvailable" not in spec
        assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


def test_what_may_be_several_is_spread_over_nodes_and_zones(pods: list[Pods]) -> None:
    for one in pods:
        if not one.serves or one.component in ("postgres", "elasticsearch"):
            continue
        spread = {rule["topologyKey"]: rule for rule in one.spec["topologySpreadConstraints"]}
        assert spread.keys() == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        for rule in spread.values():
            assert rule["labelSelector"]["matchLabels"].items() <= one.metadata["labels"].items()
            # A tainted node would else count as an empty one, and hold back the second pod on every other.
            assert rule["nodeTaintsPolicy"] == "Honor"


# The most that a container with nothing to do was seen to hold, in MiB (on a node, 2026-11-23).
IDLE = {
    "api": 112,
    "admin": 112,
    "scheduler": 83,
    "flower": 59,
    "indexer-worker": 287,
    "ai-worker": 107,
    "learning-worker": 107,
    "postgres": 65,
    "redis": 6,
    "elasticsearch": 788,
}


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_kept_for_a_container_is_at_least_what_it_holds_with_nothing_to_do(profile: str) -> None:
    """Else a node that is full by its requests has not the memory for them, and evicts."""
    kept = {
        container["name"]: _mebibytes(container["resources"]["requests"]["memory"])
        for one in pods_of(render(profile))
        if one.serves
        for container in one.containers
    }
    # Neither was measured by itself.
    assert kept.keys() - IDLE.keys() <= {"sentinel", "exporter"}
    assert {name: (kept[name], IDLE[name]) for name in kept if kept[name] < IDLE.get(name, 0)} == {}


def test_the_dev_profile_fits_two_cores_and_eight_gigabytes() -> None:
    documents = render("dev")
    assert {one.owner["spec"]["replicas"] for one in pods_of(documents) if one.serves} == {1}
    _, cpu, memory = _requested(documents)
    # Beside them the migration at the start, three pods of a test, and what a node's own take: some 0.4 cores.
    others = [one for one in pods_of(documents) if not one.serves]
    at_once = [_of_pod(one) for one in others if one.owner["kind"] == "Job"]
    at_once += sorted(_of_pod(one) for one in others if one.owner["kind"] == "Pod")[-3:]
    assert len(at_once) == 4
    assert cpu + sum(one[0] for one in at_once) <= 1.2
    assert memory + sum(one[1] for one in at_once) <= 4096


def test_the_document_tells_the_requests_of_each_profile() -> None:
    told = (REPOSITORY / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    rows = {}
    for profile, name in {"dev": "`values-dev.yaml`", "default": "(default)", "ha": "`values-ha.yaml`"}.items():
        documents = render(profile)
        pods, *rest = _requested(documents)
        _, *most = _requested(documents, most=True)
        workers = sum(_replicas(one, documents) for one in pods_of(documents) if one.component.endswith("-worker"))
        words = {"dev": "", "default": ", no worker", "ha": ", one worker"}[profile]
        assert workers == {"dev": 3, "default": 0, "ha": 1}[profile]
        last = "the same" if most == rest else _told(*most)
        rows[profile] = f"| {name} | {pods}{words} | {_told(*rest)} | {last} |"
    assert {profile: row for profile, row in rows.items() if row not in told.splitlines()} == {}


def _told(cores: float, mebibytes: float) -> str:
    return f"{cores:.1f} cores, {mebibytes / 1024:.1f} GiB"


def _requested(documents: list[Document], *, most: bool = False) -> tuple[int, float, float]:
    """How many pods run at rest, or with every autoscaler at its most, and their cores and MiB."""
    number, cpu, memory = 0, 0.0, 0.0
    for one in pods_of(documents):
        if one.serves:
            replicas = _replicas(one, documents, most=most)
            own = _of_pod(one)
            number, cpu, memory = number + replicas, cpu + replicas * own[0], memory + replicas * own[1]
    return number, cpu, memory


def _replicas(pods: Pods, documents: list[Document], *, most: bool = False) -> int:
    for scaler in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject"):
        if scaler["spec"]["scaleTargetRef"]["name"] == pods.owner["metadata"]["name"]:
            end = "max" if most else "min"
            named = [scaler["spec"][key] for key in (f"{end}Replicas", f"{end}ReplicaCount") if key in scaler["spec"]]
            return int(named[0])
    return int(pods.owner["spec"].get("replicas", 1)) if pods.serves else 0


def _of_pod(pods: Pods) -> tuple[float, float]:
    """As the scheduler counts: what its containers want together, or the greediest of its start."""
    wants = [
        [
            (_cores(one["resources"]["requests"]["cpu"]), _mebibytes(one["resources"]["requests"]["memory"]))
            for one in part
        ]
        for part in (pods.spec.get("initContainers", []), pods.containers)
    ]
    cpu, memory = (max([sum(one[i] for one in wants[1]), *(one[i] for one in wants[0])]) for i in (0, 1))
    return cpu, memory


def _cores(quantity: str | float) -> float:
    told = str(quantity)
    return float(told[:-1]) / 1000 if told.endswith("m") else float(told)


def _mebibytes(quantity: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return float(number) * {"Mi": 1, "Gi": 1024}[unit]


# --- secrets ---------------------------------------------------------------------------------------------------------
def test_nothing_secret_stands_outside_of_secrets(documents: list[Document]) -> None:
    generated = {value for secret in of_kind(documents, "Secret") for value in _decoded(secret)}
    others = json.dumps([one for one in documents if one["kind"] != "Secret"])
    assert [one for one in generated if one in others] == []
    for one in pods_of(documents):
        for container in one.all_containers:
            for variable in container.get("env", []):
                if re.search(r"PASSWORD$|SECRET|BASIC_AUTH|API_KEY$", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], f"{one.name}: {variable['name']}"


def _decoded(secret: Document) -> Iterator[str]:
    import base64

    for value in secret["data"].values():
        yield base64.b64decode(value).decode().rpartition(":")[2]


def test_generated_passwords_are_long_all_different_and_kept(documents: list[Document]) -> None:
    secrets = of_kind(documents, "Secret")
    values = [value for secret in secrets for value in _decoded(secret)]
    assert len(values) == len(set(values))
    assert all(len(value) == 40 for value in values)
    assert all(one["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for one in secrets)


def test_every_secret_and_config_map_that_is_used_is_there(documents: list[Document]) -> None:
    there = {
        (one["kind"], one["metadata"]["name"]): set(one["data"]) for one in of_kind(documents, "Secret", "ConfigMap")
    }
    for one in pods_of(documents):
        for kind, name, key in _references(one):
            if name.startswith("sicargabox-"):  # of the external profile: the user's own
                continue
            assert (kind, name) in there, f"{one.name} wants {kind} {name}"
            assert key is None or key in there[kind, name], f"{one.name} wants {key} of {name}"


def _references(pods: Pods) -> Iterator[tuple[str, str, str | None]]:
    def of_source(source: dict[str, Any]) -> Iterator[tuple[str, str, str | None]]:
        if "secret" in source:
            name = source["secret"].get("secretName") or source["secret"]["name"]
            yield from ((("Secret"), name, item["key"]) for item in source["secret"].get("items", [{"key": None}]))
        if "configMap" in source:
            items = source["configMap"].get("items", [{"key": None}])
            yield from (("ConfigMap", source["configMap"]["name"], item["key"]) for item in items)
        for inner in source.get("projected", {}).get("sources", []):
            yield from of_source(inner)

    for volume in pods.spec.get("volumes", []):
        yield from of_source(volume)
    for container in pods.all_containers:
        for variable in container.get("env", []):
            if "valueFrom" in variable and "secretKeyRef" in variable["valueFrom"]:
                reference = variable["valueFrom"]["secretKeyRef"]
                yield "Secret", reference["name"], reference["key"]
        for source in container.get("envFrom", []):
            yield "ConfigMap", source["configMapRef"]["name"], None
