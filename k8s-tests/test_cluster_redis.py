"""Redis and its Sentinels on a cluster: pods deleted, gently and not, one and all; with volumes and without.

Under load all the while: nothing that was accepted is lost or done twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.kubernetes.cluster import Cluster
from tests.kubernetes.figures import Figures
from tests.kubernetes.installation import Installation
from tests.kubernetes.load import Load
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
    pods = redis.ids()
    at = redis.delete(redis.pod(old), force=force)
    switched = redis.wait_switch(at)
    _replaced(redis, pods, "redis")
    new = redis.wait_whole()
    assert new != old
    assert redis.installation.role(old) == "slave"
    redis.flows(load, switched)
    figures.note("faults", row, "over, s", switched - at)
    figures.note("faults", row, "next task, s", redis.next_end(load, switched) - at)
    return at


def _whole_again(redis: Replicated, load: Load, figures: Figures, row: str, at: float) -> None:
    """Waits until one primary has two replicas in step and tasks flow."""
    redis.wait_whole()
    whole = time.time()
    redis.flows(load, whole)
    figures.note("faults", row, "over, s", whole - at)
    figures.note("faults", row, "next task, s", redis.next_end(load, whole) - at)


@pytest.mark.short
def test_a_primary_that_is_deleted_hands_over_before_it_stops(redis: Replicated, figures: Figures) -> None:
    row = "Redis primary deleted (the Sentinels name another)"
    with redis.under_load() as load:
        at = _primary_deleted(redis, load, figures, row, force=False)
    # By the hook: nobody had to find out that it was gone.
    assert redis.sentinels_said("Executing user requested FAILOVER", at)
    redis.judge(figures, row, load)


def test_a_primary_that_is_killed_is_replaced_and_comes_back_as_a_replica(redis: Replicated, figures: Figures) -> None:
    row = "Redis primary deleted with `--force` (the Sentinels name another)"
    with redis.under_load() as load:
        # Its hook has two seconds, which are enough for an order to the Sentinels on a fast machine.
        _primary_deleted(redis, load, figures, row, force=True)
    redis.judge(figures, row, load)


def test_sentinels_go_one_by_one_and_nothing_moves(redis: Replicated, figures: Figures) -> None:
    row = "all Sentinels deleted, one by one (the last is back and knows the others)"
    primary = redis.wait_whole()
    with redis.under_load() as load:
        began = time.time()
        for number in MEMBERS:
            pods = redis.ids("sentinel")
            redis.delete(redis.pod(number, "sentinel"))
            _replaced(redis, pods)
            # Three Sentinels know of each other, and of no fourth.
            assert redis.wait_whole() == primary
            if number == MEMBERS[-1]:
                figures.note("faults", row, "over, s", time.time() - began)
            redis.flows(load, time.time())
    assert redis.sentinels_said("+switch-master", began) == []
    redis.judge(figures, row, load)


def test_all_redis_servers_at_once_come_back_with_one_primary(redis: Replicated, figures: Figures) -> None:
    row = "all Redis pods deleted at once with `--force` (one primary, two replicas in step)"
    redis.wait_whole()
    with redis.under_load() as load:
        pods = redis.ids()
        at = redis.delete(*(redis.pod(number) for number in MEMBERS), force=True)
        _replaced(redis, pods, "redis", 3)
        _whole_again(redis, load, figures, row, at)
    redis.judge(figures, row, load)


def test_redis_with_empty_volumes_has_lost_nothing(redis: Replicated, figures: Figures) -> None:
    row = "all Redis volumes deleted (one primary, two replicas in step)"
    installation = redis.installation
    where = ("--namespace", installation.namespace)
    scale = ("scale", f"statefulset/{installation.name('redis')}", *where)
    redis.wait_whole()
    with redis.under_load() as load:
        at = time.time()
        installation.cluster.kubectl(*scale, "--replicas=0")
        wait_until(lambda: not installation.pods("redis"), seconds=180, what="the pods are gone", interval=0.5)
        claims = [f"data-{redis.pod(number)}" for number in MEMBERS]
        installation.cluster.kubectl("delete", "pvc", *claims, *where)
        installation.cluster.kubectl(*scale, "--replicas=3")
        _whole_again(redis, load, figures, row, at)
    redis.judge(figures, row, load)


def test_the_ha_profile_applies_and_its_redis_fails_over(cluster: Cluster, figures: Figures) -> None:
    """Of the rest of that profile the node has not enough, and one node only. Nobody accepts tasks here, so no law."""
    row = "ha profile, its Redis and Sentinels alone: primary deleted with `--force` (the Sentinels name another)"
    with cluster.namespace("ha") as namespace:
        installation = Installation(cluster, namespace, "ha")
        documents = installation.rendered()
        of_redis = ("-redis", "-redis-pods", "-sentinel", "-sentinel-pods")
        installation.apply(
            one
            for one in documents
            if one["metadata"]["name"].endswith(of_redis) or one["metadata"]["name"] == "sb-sicargabox"
        )
        alone = Replicated(installation, ledger=None, token="")  # type: ignore[arg-type]  # nothing is accepted here
        old = alone.wait_whole()
        at = alone.delete(alone.pod(old), force=True)
        switched = alone.wait_switch(at)
        assert alone.wait_whole() != old
        figures.note("faults", row, "over, s", switched - at)
