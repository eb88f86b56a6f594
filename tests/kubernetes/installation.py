"""An installation of the chart on the cluster: installed, changed and asked with Helm and kubectl, as users do."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.cluster import Cluster, KubectlFailed, Object, ready
from tests.kubernetes.rendering import CHART, PROFILES, RELEASE, Document, helm
from tests.kubernetes.ways_in import PortForward, forwarded, node_port
from tests.programs import program
from tests.servers.ports import wait_until
from tests.settings import machine

TIMEOUT_SECONDS = 600
_IMAGES = {
    "api": "api.image",
    "indexer-worker": "workers.indexer.image",
    "ai-worker": "workers.ai.image",
    "learning-worker": "workers.learning.image",
}
COMPONENT = "app.kubernetes.io/component"


class HelmFailed(Exception):
    """Helm ended with an error; the text is what it said, and what the namespace looked like."""


@dataclass
class Installation:
    """One release in one namespace. ``sets``: as after ``--set``, ``files``: of values, of every change of it."""

    cluster: Cluster
    namespace: str
    profile: str = "default"
    sets: Sequence[str] = ()
    release: str = RELEASE
    files: Sequence[Path] = ()
    _ways: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _public: str | None = None

    # --- Helm --------------------------------------------------------------------------------------------------------
    def helm(self, *arguments: str, seconds: float = TIMEOUT_SECONDS + 30) -> str:
        """What Helm prints, both its outputs. Raises ``HelmFailed`` with a report of the namespace."""
        command = [str(program("helm")), *arguments, "--namespace", self.namespace]
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                env=self.cluster.environment,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise HelmFailed(f"no end within {seconds:g} s\n{self.cluster.report(self.namespace)}") from error
        if done.returncode != 0:
            raise HelmFailed(f"{done.stdout}\n{self.cluster.report(self.namespace)}")
        return done.stdout

    def options(self, *sets: str) -> list[str]:
        """Profile, images and values as options of Helm."""
        prefix = machine().image_prefix
        images = [f"{where}.repository={prefix}{name}" for name, where in _IMAGES.items()]
        files = (*(CHART / name for name in PROFILES[self.profile]), *self.files)
        values = [word for name in files for word in ("--values", str(name))]
        every = (f"image.tag={machine().image_tag}", "image.pullPolicy=IfNotPresent", *images, *self.sets, *sets)
        return [*values, *(word for one in every for word in ("--set", one))]

    def install(self, *sets: str, wait: bool = True) -> float:
        """Installs and waits for all; returns the seconds it took. Raises ``HelmFailed``."""
        return self._change("install", *sets, wait=wait)

    def upgrade(self, *sets: str, wait: bool = True) -> float:
        """Changes values (those of ``sets`` besides the installation's own); returns the seconds it took."""
        return self._change("upgrade", *sets, wait=wait)

    def _change(self, how: str, *sets: str, wait: bool) -> float:
        began = time.monotonic()
        waits = ("--wait", "--wait-for-jobs", "--timeout", f"{TIMEOUT_SECONDS}s") if wait else ()
        self.helm(how, self.release, str(CHART), *self.options(*sets), *waits)
        return time.monotonic() - began

    def rollback(self, revision: int = 0) -> float:
        """Back to a revision (0: the one before), waiting for all; returns the seconds it took."""
        began = time.monotonic()
        self.helm("rollback", self.release, str(revision), "--wait", "--timeout", f"{TIMEOUT_SECONDS}s")
        return time.monotonic() - began

    def uninstall(self) -> None:
        """Removes the release, and waits for it."""
        self.helm("uninstall", self.release, "--wait", "--timeout", f"{TIMEOUT_SECONDS}s")

    def test(self) -> str:
        """``helm test``: what it prints. Raises ``HelmFailed`` when a test fails."""
        return self.helm("test", self.release, "--timeout", f"{TIMEOUT_SECONDS}s")

    # --- without a release -------------------------------------------------------------------------------------------
    def rendered(self, *sets: str) -> list[Document]:
        """What an installation would make. Raises ``Refused``."""
        made = helm(
            *("template", self.release, str(CHART), "--namespace", self.namespace, "--skip-tests"),
            *("--kube-version", self.cluster.version),
            *self.options(*sets),
        )
        return [one for one in yaml.safe_load_all(made) if one]

    def apply(self, documents: Iterable[Document]) -> None:
        """Makes objects that were rendered, without Helm."""
        inside = {"namespace": self.namespace}
        self.cluster.apply(*(one | {"metadata": one["metadata"] | inside} for one in documents))

    def dry_run(self, documents: Sequence[Document]) -> None:
        """Whether the cluster would take them, without a warning: one is what breaks restricted Pod Security.

        Raises ``KubectlFailed``.
        """
        everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
        dry = ("apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "--filename", "-")
        self.cluster.kubectl(*dry, "--namespace", self.namespace, given=everything)

    @property
    def notes(self) -> str:
        """What Helm tells who installs."""
        return self.helm("get", "notes", self.release)

    # --- what is there -----------------------------------------------------------------------------------------------
    def name(self, component: str) -> str:
        """Of a component's objects, like sb-sicargabox-api."""
        return f"{self.release}-sicargabox-{component}"

    def pods(self, component: str = "") -> list[Object]:
        """All pods, or those of a component; those that are being deleted too."""
        chosen = f"app.kubernetes.io/instance={self.release}"
        return self.cluster.objects(
            self.namespace, "pods", f"{chosen},{COMPONENT}={component}" if component else chosen
        )

    def ready(self, component: str) -> list[Object]:
        """Its pods that are ready."""
        return [pod for pod in self.pods(component) if ready(pod)]

    def wait_ready(self, component: str, count: int = 1, seconds: float = 240) -> None:
        """Until at least so many of its pods are ready."""
        what = f"{count} pods of {component} are ready in {self.namespace}"
        wait_until(lambda: len(self.ready(component)) >= count, seconds=seconds, what=what, interval=0.5)

    def wait_no_workers(self, seconds: float = 300) -> None:
        """Until no worker has a pod; a Deployment that an autoscaler owns begins with one."""

        def none() -> bool:
            return not any(pod["metadata"]["labels"].get(COMPONENT, "").endswith("-worker") for pod in self.pods())

        wait_until(none, seconds=seconds, what=f"no worker is left in {self.namespace}", interval=1)

    def secret(self, component: str, key: str) -> str:
        """A password that the chart made, like ("administrator", "password")."""
        data = self.cluster.object("secret", self.name(component), "--namespace", self.namespace)["data"]
        return base64.b64decode(data[key]).decode()

    # --- inside ------------------------------------------------------------------------------------------------------
    def exec(self, pod: str, container: str, *command: str, given: str | None = None, seconds: float = 60) -> str:
        """Runs a command in a pod (or ``deploy/NAME``); what it prints. Raises ``KubectlFailed``."""
        input_too = ("--stdin",) if given is not None else ()
        where = ("exec", *input_too, "--namespace", self.namespace, pod, "--container", container, "--")
        return self.cluster.kubectl(*where, *command, given=given, seconds=seconds)

    def sicargabox(self, *arguments: str, seconds: float = 120) -> str:
        """The product's own command line, in the pod of the staff pages."""
        return self.exec(f"deploy/{self.name('admin')}", "admin", "sicargabox", *arguments, seconds=seconds)

    def psql(self, sql: str, patience: float = 0) -> str:
        """Statements as PostgreSQL's superuser; what they print, without alignment.

        Asked again for ``patience`` seconds while the pod is away. Raises ``KubectlFailed``.
        """
        psql = ("psql", "--username", "postgres", "--dbname", "sicargabox", "--no-psqlrc", "--quiet", "--tuples-only")
        options = ("--no-align", "--set", "ON_ERROR_STOP=1", "--file", "-")
        deadline = time.monotonic() + patience
        while True:
            try:
                return self.exec(f"{self.name('postgres')}-0", "postgres", *psql, *options, given=sql)
            except KubectlFailed:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.5)

    def rows(self, select: str, patience: float = 0) -> list[dict[str, Any]]:
        """What a SELECT gives, each row as a dict."""
        answer = self.psql(f"SELECT coalesce(json_agg(found), '[]') FROM ({select}) AS found", patience)
        found: list[dict[str, Any]] = json.loads(answer)
        return found

    def redis(self, number: int, *command: str, user: str = "exporter") -> str:
        """Asks a Redis server as one of its users. Raises ``KubectlFailed``."""
        script = 'REDISCLI_AUTH="$(cat /secrets/redis/$0)" exec redis-cli --no-auth-warning --user "$0" "$@"'
        return self.exec(f"{self.name('redis')}-{number}", "redis", "sh", "-c", script, user, *command, seconds=15)

    def sentinel(self, number: int, *command: str, user: str = "reader") -> str:
        """Asks a Sentinel as one of its users. Raises ``KubectlFailed``."""
        secret = "/secrets/sentinel"
        script = f'REDISCLI_AUTH="$(cat {secret}/$0)" exec redis-cli -p 26379 --no-auth-warning --user "$0" "$@"'
        pod = f"{self.name('sentinel')}-{number}"
        return self.exec(pod, "sentinel", "sh", "-c", script, user, *command, seconds=15)

    def role(self, number: int) -> str:
        """``master`` or ``slave``; nothing when that Redis does not answer."""
        try:
            told = self.redis(number, "INFO", "replication")
        except KubectlFailed:
            return ""
        return next((line.strip().partition(":")[2] for line in told.splitlines() if line.startswith("role:")), "")

    # --- from outside ------------------------------------------------------------------------------------------------
    def forward(self, component: str) -> contextlib.AbstractContextManager[PortForward]:
        """A port-forward to its Service."""
        return forwarded(self.cluster, self.namespace, self.name(component))

    @property
    def public(self) -> str:
        """Address of the API as its users reach it: at a node's port where one answers here, else by port-forward."""
        if self._public is None:
            labels = {"app.kubernetes.io/instance": self.release, COMPONENT: "api"}
            self._public = node_port(self.cluster, self.namespace, labels)
            if self._public is None:
                self._public = self._ways.enter_context(self.forward("api")).url
        return self._public

    def token(self, name: str = "tests") -> str:
        """A new key of an administrator for the API."""
        scopes = ("--scope", "tasks", "--scope", "queues", "--scope", "search")
        made = self.sicargabox("tokens", "create", name, *scopes, "--role", "admin", "--json")
        return str(json.loads(made)["token"])

    def close(self) -> None:
        """Ends ways in; the release stays."""
        self._ways.close()
        self._public = None


def succeeded(told: str) -> int:
    """How many pods of ``helm test`` there were, by what it printed, all of which must have succeeded."""
    suites = re.findall(r"TEST SUITE:\s+(\S+)", told)
    assert re.findall(r"Phase:\s+(\S+)", told) == ["Succeeded"] * len(suites), told
    return len(suites)
