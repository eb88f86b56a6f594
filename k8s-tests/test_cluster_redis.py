"""Redis and its Sentinels on a cluster: pods deleted, gently and not, one and all; with volumes and without.

Under load all the while: nothing that was accepted is lost or done twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import yaml

from tests.kubernetes.cluster import Cluster
from tests.kubernetes.figures import Figures
from tests.kubernetes.installation import Installation
from tests.kubernetes.load import Load
from tests.kubernetes.rendering import CHART, helm
from tests.kubernetes.replicated import MEMBERS, Replicated, replicated
from tests.servers.ports import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def redis(cluster: Cluster) -> Iterator[Replicated]:
    """One installation; each test goes on from where the last ended."""
    cluster.require("keda.sh/v1alpha1", "KEDA", "install it in the cluster, in the namespace keda.")
    with replicated(cluster, "redis") as made:
        yield made


def _replaced(redis: Replicated, before: set[str], component: str = "sentinel", count: int = 1) -> None:
    what = f"{count} new pods of {component}"
    wait_until(lambda: len(redis.ids(component) - before) == count, seconds=120, what=what, interval=0.5)


def _primary_deleted(redis: Replicated, load: Load, figures: Figures, row: str, *, force: bool) -> float:
    """Deletes the primary's pod and waits until all is well again; returns when it was deleted."""
    old = redis.wait_whole()
    redis.flows(load, time.time())
    pods = redis.ids()
    at = redis.delete(redis.pod(old), force=force)
    switched = redis.wait_switch(at)
    _replaced(redis, pods, "redis")
    new = redis.wait_whole()
    assert new != old
    assert redis.installation.role(old) == "slave"
    redis.flows(load, switched)
    figures.note(row, "until the Sentinels name another primary", switched - at)
    figures.note(row, "until a task ends that was taken after that", redis.next_end(load, switched) - at)
    return at


@pytest.mark.short
def test_a_primary_that_is_deleted_hands_over_before_it_stops(redis: Replicated, figures: Figures) -> None:
    row = "Redis primary deleted"
    with redis.nobody_else_restarts(), redis.load() as load:
        at = _primary_deleted(redis, load, figures, row, force=False)
    # By the hook: nobody had to find out that it was gone.
    assert redis.sentinels_said("Executing user requested FAILOVER", at)
    redis.tell(figures, row, redis.judge(load))


def test_a_primary_that_is_killed_is_replaced_and_comes_back_as_a_replica(redis: Replicated, figures: Figures) -> None:
    row = "Redis primary deleted with --force"
    with redis.nobody_else_restarts(), redis.load() as load:
        # Its hook has two seconds, which are enough for an order to the Sentinels on a fast machine.
        _primary_deleted(redis, load, figures, row, force=True)
    redis.tell(figures, row, redis.judge(load))


def test_sentinels_go_one_by_one_and_nothing_moves(redis: Replicated, figures: Figures) -> None:
    row = "all Sentinels deleted, one by one"
    primary = redis.wait_whole()
    began = time.time()
    with redis.nobody_else_restarts(), redis.load() as load:
        for number in MEMBERS:
            redis.flows(load, time.time())
            pods = redis.ids("sentinel")
            redis.delete(redis.pod(number, "sentinel"))
            _replaced(redis, pods)
            # Three Sentinels know of each other, and of no fourth.
            assert redis.wait_whole() == primary
        redis.flows(load, time.time())
    assert redis.sentinels_said("+switch-master", began) == []
    redis.tell(figures, row, redis.judge(load))


def test_all_redis_servers_at_once_come_back_with_one_primary(redis: Replicated, figures: Figures) -> None:
    row = "all Redis pods deleted at once with --force"
    with redis.nobody_else_restarts(), redis.load() as load:
        redis.wait_whole()
        redis.flows(load, time.time())
        pods = redis.ids()
        at = redis.delete(*(redis.pod(number) for number in MEMBERS), force=True)
        _replaced(redis, pods, "redis", 3)
        back = time.time()
        redis.wait_whole()
        figures.note(row, "until one primary with two replicas in step", time.time() - at)
        redis.flows(load, time.time())
        figures.note(row, "until a task ends that was taken since the pods are back", redis.next_end(load, back) - at)
    redis.tell(figures, row, redis.judge(load))


def test_redis_with_empty_volumes_has_lost_nothing(redis: Replicated, figures: Figures) -> None:
    row = "all Redis volumes deleted"
    installation = redis.installation
    where = ("--namespace", installation.namespace)
    scale = ("scale", f"statefulset/{installation.name('redis')}", *where)
    with redis.nobody_else_restarts(), redis.load() as load:
        redis.wait_whole()
        redis.flows(load, time.time())
        at = time.time()
        installation.cluster.kubectl(*scale, "--replicas=0")
        wait_until(lambda: not installation.pods("redis"), seconds=180, what="the pods are gone", interval=0.5)
        claims = [f"data-{redis.pod(number)}" for number in MEMBERS]
        installation.cluster.kubectl("delete", "pvc", *claims, *where)
        installation.cluster.kubectl(*scale, "--replicas=3")
        redis.wait_whole()
        figures.note(row, "until one primary with two replicas in step", time.time() - at)
        redis.flows(load, time.time())
    redis.tell(figures, row, redis.judge(load))


def test_of_a_thousand_accepted_none_was_lost_or_done_twice(redis: Replicated) -> None:
    verdict = redis.ledger.verdict(redis.accepted)
    assert (verdict.lost, verdict.finished_twice) == ((), ())
    assert verdict.accepted >= 1000


def test_the_ha_profile_applies_and_its_redis_fails_over(cluster: Cluster, figures: Figures) -> None:
    row = "ha profile, its Redis and Sentinels alone"
    with cluster.namespace("ha") as namespace:
        installation = Installation(cluster, namespace, "ha", ("redis.exporter.enabled=true",))
        rendered = helm(
            *("template", installation.release, str(CHART), "--namespace", namespace, "--skip-tests"),
            *installation.options(),
        )
        documents = [one for one in yaml.safe_load_all(rendered) if one]
        everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        # Nothing of it violates restricted Pod Security, which would be a warning.
        dry = ("apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "--filename", "-")
        cluster.kubectl(*dry, "--namespace", namespace, given=everything)

        of_redis = ("-redis", "-redis-pods", "-sentinel", "-sentinel-pods")
        cluster.apply(
            *(
                document | {"metadata": document["metadata"] | {"namespace": namespace}}
                for document in documents
                if document["metadata"]["name"].endswith(of_redis) or document["metadata"]["name"] == "sb-sicargabox"
            )
        )
        alone = Replicated(installation, ledger=None, token="")  # type: ignore[arg-type]  # nothing is accepted here
        old = alone.wait_whole()
        at = alone.delete(alone.pod(old), force=True)
        switched = alone.wait_switch(at)
        assert alone.wait_whole() != old
        figures.note(row, "killed primary: until the Sentinels name another", switched - at)
