"""What is kept when pods are taken away: by a drain, with the database, and with the whole release."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.kubernetes.cluster import Cluster, KubectlFailed
from tests.kubernetes.evidence import explained
from tests.kubernetes.figures import Figures
from tests.kubernetes.installation import COMPONENT
from tests.kubernetes.ledger import Ledger
from tests.kubernetes.load import LEAST, LONG, backlog, no_op
from tests.kubernetes.replicated import Replicated, replicated
from tests.servers.ports import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

WORKERS = ("ai-worker", "indexer-worker", "learning-worker")
# More than its worker may take to drain, so that it is given back.
LONG_SECONDS = 90
_LINES = "SELECT count(*) AS many FROM tariff_lines"
_REBUILDS = "SELECT count(*) AS many FROM tasks WHERE name = 'search.rebuild_index'"
# Secrets that were generated, by the end of their names.
SECRETS = ("administrator", "elasticsearch", "key", "postgres", "redis", "sentinel")


@pytest.fixture(scope="module")
def kept(cluster: Cluster) -> Iterator[Replicated]:
    """One installation with two workers of one kind, of which a drain may take one at a time."""
    cluster.require("keda.sh/v1alpha1", "KEDA", "install it in the cluster, in the namespace keda.")
    two = ("workers.ai.autoscaling.minReplicas=2", "workers.ai.autoscaling.maxReplicas=2")
    with replicated(cluster, "keeping", *two) as made:
        yield made


# --- a drain ---------------------------------------------------------------------------------------------------------


def _evict(kept: Replicated, pod: str) -> bool:
    """As kubectl drain does; False when a PodDisruptionBudget says not now. Raises ``KubectlFailed``."""
    namespace = kept.installation.namespace
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    try:
        kept.installation.cluster.kubectl("create", "--raw", path, "--filename", "-", given=json.dumps(eviction))
    except KubectlFailed as error:
        if "disruption budget" not in str(error):
            raise
        return False
    return True


def test_a_drain_takes_workers_one_at_a_time_and_no_task_with_them(kept: Replicated, figures: Figures) -> None:
    row = "worker pods evicted, as by `kubectl drain`, some with long tasks (the last is allowed to go)"
    installation, refused, least = kept.installation, 0, []
    with kept.under_load() as load:
        load.send(*(no_op("ai_generation", seconds=LONG_SECONDS, note=LONG) for _ in range(2)))
        kept.under_way(2)
        began = time.time()
        for worker in WORKERS:
            left = [str(pod["metadata"]["name"]) for pod in installation.ready(worker)]
            assert len(left) == (2 if worker == "ai-worker" else 1)
            deadline = time.monotonic() + 240
            while left:
                assert time.monotonic() < deadline, f"not evicted: {left}"
                least.append((worker, len(installation.ready(worker))))
                # All that are left are asked for at once: the budget decides.
                asked = {pod: _evict(kept, pod) for pod in left}
                refused += sum(not gone for gone in asked.values())
                left = [pod for pod, gone in asked.items() if not gone]
                time.sleep(0.5)
        last = time.time()
        kept.flows(load, last)
        figures.note("faults", row, "over, s", last - began)
        figures.note("faults", row, "next task, s", kept.next_end(load, last) - began)
    kept.judge(figures, row, load)
    stories = kept.ledger.stories()
    # Under way when the first was asked to go; the others have all ended by then.
    long = [
        one
        for one in map(stories.__getitem__, load.accepted)
        if (one.claimed_at or began) < began < (one.finished_at or 0) - 1
    ]
    assert any(one.claims > 1 for one in long), "no long task was given back: this proves nothing"
    assert refused > 0, "the budget never said no"
    assert min(count for worker, count in least if worker == "ai-worker") >= 1


# --- the database ----------------------------------------------------------------------------------------------------


class _Asking(threading.Thread):
    """One who asks for a task and for a list of tasks all the while, and keeps each answer that was no 2xx."""

    def __init__(self, kept: Replicated) -> None:
        super().__init__(name="asking", daemon=True)
        self._url, self._token, self._over = kept.installation.public, kept.token, threading.Event()
        self.refused: list[tuple[float, httpx.Response]] = []

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}"}
        with httpx.Client(base_url=self._url, headers=headers, timeout=15, verify=False) as client:  # noqa: S501  # plain HTTP
            while not self._over.wait(0.2):
                try:
                    answer = client.get("/api/v1/tasks", params={"limit": 1})
                except httpx.HTTPError:
                    continue
                if not answer.is_success:
                    self.refused.append((time.time(), answer))

    def stop(self) -> None:
        self._over.set()
        self.join(timeout=20)


def test_while_the_database_restarts_answers_say_so_and_what_was_accepted_is_kept(
    kept: Replicated, figures: Figures
) -> None:
    """Errors are counted where the database is up: not from its deletion until its Service has it again."""
    row = "PostgreSQL pod deleted (it is ready again; requests meanwhile are not counted)"
    installation = kept.installation
    asking = _Asking(kept)
    with kept.under_load() as load:
        asking.start()
        pods = kept.ids("postgres")
        at = kept.delete(f"{installation.name('postgres')}-0")
        wait_until(lambda: kept.ids("postgres") - pods, seconds=180, what="the pod is back", interval=0.5)
        installation.wait_ready("postgres")
        back = time.time()
        # A request under way may end after its server's pod is ready: the client's patience.
        away = (at, back + 10)
        kept.flows(load, back)
        figures.note("faults", row, "over, s", back - at)
        figures.note("faults", row, "next task, s", kept.next_end(load, back) - at)
        asking.stop()
    for _, answer in asking.refused:
        assert answer.status_code == 503, answer.text
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert int(answer.headers["retry-after"]) > 0
    assert all(away[0] <= when <= away[1] for when, _ in asking.refused), [when - at for when, _ in asking.refused]
    kept.judge(figures, row, load, away=[away])


# --- the release -----------------------------------------------------------------------------------------------------


def test_an_uninstall_leaves_volumes_and_secrets_and_an_installation_finds_them(
    kept: Replicated, figures: Figures
) -> None:
    """With tasks that were accepted before, and which nobody had done when the workers went."""
    row = "uninstalled with tasks waiting, and installed again on the kept volumes (all is ready)"
    installation = kept.installation
    passwords = _passwords(kept)
    hits = _search(kept)
    lines, rebuilds = installation.rows(_LINES), installation.rows(_REBUILDS)
    with kept.load(rate=0) as load:
        load.send(*backlog(LEAST, seconds=0.3))
        with explained(installation, kept.ledger, load, load.began):
            load.reach()
    at = time.time()
    tasks = kept.ledger.stories()

    installation.uninstall()
    installation.close()
    kinds = installation.cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
    wait_until(lambda: not installation.pods(), seconds=240, what="all pods are gone", interval=1)
    gone = time.time()
    claims = {f"data-{installation.name('elasticsearch')}-0", f"data-{installation.name('postgres')}-0"}
    claims |= {f"data-{kept.pod(number, kind)}" for number in range(3) for kind in ("redis", "sentinel")}
    expected = {("PersistentVolumeClaim", one) for one in claims}
    expected |= {("Secret", installation.name(one)) for one in SECRETS}
    wait_until(lambda: _left(kept, kinds) <= expected, seconds=60, what="nothing else is left", interval=2)
    assert _left(kept, kinds) == expected

    figures.note("install", "default profile, made small: on kept volumes", "seconds", installation.install())
    figures.note("faults", row, "over, s", time.time() - at)
    assert _passwords(kept) == passwords
    assert installation.rows(_LINES) == lines
    # The index that was built before answers, once the API has heard that its server is back: nobody built another.
    wait_until(lambda: not _search(kept)["degraded"], seconds=90, what="the index answers", interval=1)
    assert _search(kept)["total"] == hits["total"]
    assert installation.rows(_REBUILDS) == rebuilds
    assert tasks.keys() <= Ledger(installation).stories().keys()
    kept.wait_whole()
    # A key made before still opens.
    with kept.load() as more:
        kept.flows(more, time.time())
    kept.judge(figures, row, load)
    stories = kept.ledger.stories()
    left = [one for one in load.accepted if (stories[one].finished_at or 0) > at]
    assert left, "every task had ended before the workers went: this proves nothing"
    figures.note("faults", row, "next task, s", kept.next_end(load, gone) - at)


def _left(kept: Replicated, kinds: list[str]) -> set[tuple[str, str]]:
    """What is in the namespace that Kubernetes and the tests have not put there."""
    own = ("events", "pods.metrics", "kube-root-ca.crt", "tests-from-outside")
    found = set()
    listed = [kind for kind in kinds if not kind.startswith(own)]
    for one in kept.installation.cluster.objects(kept.installation.namespace, ",".join(listed)):
        name = str(one["metadata"]["name"])
        ours = one["kind"] == "ServiceAccount" and name == "default"
        if not ours and not name.startswith(own):
            found.add((str(one["kind"]), name))
    return found


def _passwords(kept: Replicated) -> dict[str, Any]:
    secrets = kept.installation.cluster.objects(kept.installation.namespace, "secrets", f"{COMPONENT}=secrets")
    return {one["metadata"]["name"]: one["data"] for one in secrets}


def _search(kept: Replicated) -> dict[str, Any]:
    answer = httpx.get(f"{kept.installation.public}/api/v1/search", params={"q": "camiseta"}, timeout=15)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found
