"""What the chart holds twice is the same twice, its scripts are sound, its notes tell no secret, its outline known."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.kubernetes.outline import FILE, outline
from tests.kubernetes.rendering import CHART, NAMESPACE, PROFILES, RELEASE, helm, named, of_kind, render
from tests.settings import REPOSITORY, absent


@pytest.fixture(scope="module")
def chart_files() -> ModuleType:
    """The program of `make chart-files`."""
    spec = importlib.util.spec_from_file_location("chart_files", REPOSITORY / "k8s-tests" / "chart_files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_of_redis_are_byte_for_byte_the_repositorys(chart_files: ModuleType) -> None:
    there = {path.name for path in (CHART / "files" / "redis").iterdir()}
    assert there == set(chart_files.REDIS)
    assert there == {path.name for path in (REPOSITORY / "redis").iterdir()} - {"README.md"}
    for name in there:
        assert (CHART / "files" / "redis" / name).read_bytes() == (REPOSITORY / "redis" / name).read_bytes(), name


@pytest.mark.parametrize("kind", ["redis", "sentinel"])
def test_they_reach_the_pods_byte_for_byte(kind: str) -> None:
    data = named(render(), "ConfigMap", kind)["data"]
    for name, content in data.items():
        folder = "redis" if (CHART / "files" / "redis" / name).exists() else "scripts"
        assert content == (CHART / "files" / folder / name).read_text(), name


def test_the_readme_has_every_value(chart_files: ModuleType) -> None:
    written = (CHART / "README.md").read_text()
    assert written == chart_files.readme(), "run make chart-files"
    documented = set(re.findall(r"^\| `([A-Za-z.]+)`", written, re.MULTILINE))
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert {name.partition(".")[0] for name in documented} - {"pod"} == set(values)
    # Deep ones too.
    assert {"redis.external.users.worker.key", "workers.NAME.autoscaling.fallbackReplicas", "pod.spread"} <= documented


def test_the_chart_and_the_product_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    core = tomllib.loads((REPOSITORY / "core" / "pyproject.toml").read_text())
    assert chart["appVersion"] == core["project"]["version"]


@pytest.mark.parametrize("profile", PROFILES)
def test_lint_has_nothing_to_say(profile: str) -> None:
    options = [word for name in PROFILES[profile] for word in ("--values", str(CHART / name))]
    helm("lint", "--strict", "--quiet", str(CHART), *options)


def test_the_scripts_are_sound() -> None:
    # `make test-chart` installs one beside this Python.
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if shellcheck is None:
        absent("shellcheck", "install it, or requirements/k8s-tests.txt")
    scripts = [*(REPOSITORY / "redis").glob("*.sh"), *(CHART / "files" / "scripts").glob("*.sh")]
    assert len(scripts) >= 8
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_script_parses() -> None:
    for script in [*(REPOSITORY / "redis").glob("*.sh"), *(CHART / "files" / "scripts").glob("*.sh")]:
        subprocess.run(["sh", "-n", script], check=True)


def _notes(profile: str, *sets: str) -> str:
    options = [word for name in PROFILES[profile] for word in ("--values", str(CHART / name))]
    options += [word for value in sets for word in ("--set", value)]
    told = helm(
        *("install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--dry-run=client", *options),
        # Helm looks at no cluster then, but asks for its version all the same.
        *("--kube-version", "1.34.0") if _takes_version() else (),
    )
    return told.rpartition("NOTES:")[2]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_notes_say_how_to_sign_in_and_tell_no_password(profile: str) -> None:
    notes = _notes(profile)
    assert "Sign in as admin" in notes
    assert "get secret" in notes
    assert "/admin/" in notes
    assert re.search(r"\b[A-Za-z0-9]{40}\b", notes) is None


@pytest.mark.parametrize("profile", PROFILES)
def test_the_notes_name_what_is_there(profile: str) -> None:
    documents = render(profile)
    there = {one["metadata"]["name"] for one in documents}
    notes = _notes(profile)
    named_there = re.findall(r"(?:deploy|svc)/(\S+)|get secret (\S+)", notes)
    assert len(named_there) >= 5
    for name in (one or other for one, other in named_there):
        # The external profile's Secrets are the user's own.
        assert name in there or name.startswith("sicargabox-"), name
    assert f"exec -i deploy/{RELEASE}-sicargabox-admin -- sicargabox import tariff /dev/stdin <" in notes
    assert "port-forward svc/sb-sicargabox-flower 5555:80" in notes
    titles = re.findall(r"/d/(sicargabox-\S+)  (.+)", notes)
    dashboards = [one for one in of_kind(documents, "ConfigMap") if "-dashboard-" in one["metadata"]["name"]]
    assert len(titles) == len(dashboards)
    for one in dashboards:
        (text,) = one["data"].values()
        assert (json.loads(text)["uid"], json.loads(text)["title"]) in titles


@pytest.mark.parametrize("profile", PROFILES)
def test_the_notes_say_what_an_uninstall_deletes_and_what_it_leaves(profile: str) -> None:
    documents = render(profile)
    ends: dict[str, set[str]] = {"Delete": set(), "Retain": set()}
    for one in of_kind(documents, "StatefulSet"):
        component = one["metadata"]["labels"]["app.kubernetes.io/component"]
        ends[one["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"]].add(component)
    notes = _notes(profile).partition("helm uninstall")[2].lower().replace("postgresql", "postgres")
    (deleted,) = re.findall(r"deletes, .*", notes) or [""]
    (left,) = re.findall(r"leaves .*", notes) or [""]
    servers = {"postgres", "redis", "sentinel", "elasticsearch"}
    assert {name for name in servers if name in deleted} == ends["Delete"]
    assert {name for name in servers if name in left} == ends["Retain"]
    assert ("secrets" in left) is bool(of_kind(documents, "Secret"))


def _takes_version() -> bool:
    return "--kube-version" in helm("install", "--help")


def test_the_outline_is_known() -> None:
    assert outline() == FILE.read_text(), "see what changed; then: python -m tests.kubernetes.outline"
