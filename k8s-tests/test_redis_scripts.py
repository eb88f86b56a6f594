"""The chart's start scripts on real servers: who is primary when pods die, come back at once, or lose their volume.

No cluster: a pod is a process here (``tests/kubernetes/redis_pods.py``). Each test goes on from where the last ended.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis.exceptions import NoPermissionError

from tests.kubernetes.redis_pods import MEMBERS, RedisPods
from tests.servers.ports import wait_until


@pytest.fixture(scope="module")
def pods() -> Iterator[RedisPods]:
    """All six, started at the same moment with empty volumes."""
    pods = RedisPods()
    try:
        for number in MEMBERS:
            pods.start("redis", number)
            pods.start("sentinel", number)
        pods.wait_whole()
        yield pods
    finally:
        pods.stop()


def test_at_the_first_start_the_first_server_is_primary_at_once(pods: RedisPods) -> None:
    assert pods.wait_whole() == 0
    assert "primary: the Sentinels know no replica yet" in pods.log("redis", 0)


def test_every_user_of_the_templates_can_sign_in_and_further_queues_are_theirs(pods: RedisPods) -> None:
    primary = pods.wait_whole()
    with pods.client("redis", primary, "worker") as worker:
        worker.lpush("photos", "x")
        assert worker.rpop("photos") == "x"
        with pytest.raises(NoPermissionError):
            worker.lpush("videos", "x")
    with pods.client("redis", primary, "flower") as flower:
        assert flower.llen("photos") == 0
        with pytest.raises(NoPermissionError):
            flower.lpush("photos", "x")


def test_a_primary_that_is_back_at_once_waits_until_another_was_chosen_and_joins_it(pods: RedisPods) -> None:
    old = pods.wait_whole()
    with pods.client("redis", old, "worker") as worker:
        worker.lpush("celery", "kept")
        # With min-replicas a write is in two places, but a moment later.
        wait_until(lambda: _offsets_agree(pods, old), seconds=10, what="the replicas have it")
    with pods.never_two_primaries():
        pods.kill("redis", old)
        pods.start("redis", old)
        new = pods.wait_whole()
    assert new != old
    assert "waiting: the Sentinels still name this pod" in pods.log("redis", old)
    with pods.client("redis", new, "worker") as worker:
        assert worker.rpop("celery") == "kept"


def _offsets_agree(pods: RedisPods, primary: int) -> bool:
    with pods.client("redis", primary) as client:
        told = client.info("replication")
    return all(told[f"slave{number}"]["offset"] == told["master_repl_offset"] for number in range(2))


def test_the_hook_hands_over_before_its_pod_stops(pods: RedisPods) -> None:
    old = pods.wait_whole()
    done = pods.run("hand-over.sh", "redis", old)
    assert (done.returncode, done.stdout.startswith("handed over to")) == (0, True), done.stderr
    pods.kill("redis", old)
    pods.start("redis", old)
    assert pods.wait_whole() != old


def test_a_sentinel_keeps_its_name_and_what_it_knows_and_takes_new_settings(pods: RedisPods) -> None:
    pods.wait_whole()
    before = _kept(pods)
    pods.kill("sentinel", 1)
    pods.start("sentinel", 1)
    pods.wait_whole()
    assert _kept(pods) == before
    assert "nobody knows a primary" not in pods.log("sentinel", 1).rpartition("oO0Oo")[2]


def _kept(pods: RedisPods) -> set[str]:
    lines = (pods.folder / "sentinel-1" / "data" / "sentinel.conf").read_text().splitlines()
    return {line for line in lines if line.startswith(("sentinel myid", "sentinel monitor"))}


def test_a_sentinel_that_lost_its_volume_asks_the_others(pods: RedisPods) -> None:
    primary = pods.wait_whole()
    pods.kill("sentinel", 2)
    pods.empty("sentinel", 2)
    pods.start("sentinel", 2)
    wait_until(lambda: pods.told(2).get("ip") == pods.name("redis", primary), seconds=30, what="it names the primary")
    assert f"the other Sentinels name {pods.name('redis', primary)}" in pods.log("sentinel", 2)
    # With the name that it had: no fourth Sentinel is counted.
    pods.wait_whole()
    assert all(str(pods.told(number)["num-other-sentinels"]) == "2" for number in MEMBERS)


def test_all_servers_lost_at_once_come_back_with_one_primary_and_what_they_had(pods: RedisPods) -> None:
    primary = pods.wait_whole()
    with pods.client("redis", primary, "worker") as worker:
        # As kombu writes: a server whose default user may nothing loads all of its file but transactions.
        with worker.pipeline(transaction=True) as together:
            together.lpush("celery", "kept")
            together.lpush("learning", "kept too")
            together.execute()
        wait_until(lambda: _offsets_agree(pods, primary), seconds=10, what="the replicas have it")
        # Written to the disk every second.
        wait_until(lambda: _aof_written(pods, primary), seconds=10, what="it is on the disk")
    with pods.never_two_primaries():
        for number in MEMBERS:
            pods.kill("redis", number)
        for number in MEMBERS:
            pods.start("redis", number)
        primary = pods.wait_whole(90)
    with pods.client("redis", primary, "worker") as worker:
        assert (worker.rpop("celery"), worker.rpop("learning")) == ("kept", "kept too")


def _aof_written(pods: RedisPods, primary: int) -> bool:
    with pods.client("redis", primary) as client:
        return int(client.info("persistence")["aof_pending_bio_fsync"]) == 0


def test_without_any_sentinel_a_server_waits_and_says_so(pods: RedisPods) -> None:
    old = pods.wait_whole()
    for number in MEMBERS:
        pods.kill("sentinel", number)
    pods.kill("redis", old)
    pods.start("redis", old)
    wait_until(lambda: "waiting for the Sentinels: 0 answer" in pods.log("redis", old), seconds=20, what="it says so")
    assert pods.primaries() == []
    for number in MEMBERS:
        pods.start("sentinel", number)
    pods.wait_whole(90)
