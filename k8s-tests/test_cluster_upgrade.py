"""A new release with a changed schema and changed values, and the way back, while tasks run and people search.

Not one request fails. The older release finds a schema that it does not know, leaves it alone, and works.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.kubernetes.cluster import Cluster
from tests.kubernetes.figures import Figures
from tests.kubernetes.load import LONG, Load, no_op
from tests.kubernetes.next_release import COLUMN, after, build
from tests.kubernetes.replicated import Replicated, replicated
from tests.settings import machine

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

OURS = ("api", "admin", "scheduler", "indexer-worker", "ai-worker", "learning-worker")
# More than a worker may take to drain, so that it is given back; on workers that take two at a time.
LONG_SECONDS = 90
# Our images have no printenv.
TOLD = "import os; print(os.environ['SICARGABOX_RESULT_TTL_SECONDS'])"


@pytest.fixture(scope="module")
def release(cluster: Cluster) -> Iterator[Replicated]:
    """As small as the others, with two pods of the API as the default has."""
    cluster.require("keda.sh/v1alpha1", "KEDA", "install it in the cluster, in the namespace keda.")
    with replicated(cluster, "upgrade", "api.replicas=2") as made:
        yield made


def _servers(release: Replicated) -> set[str]:
    """Pods that neither another image of ours nor another setting of ours may make anew."""
    return {one for component in ("postgres", "elasticsearch", "sentinel") for one in release.ids(component)}


def _schema(release: Replicated) -> str:
    return release.installation.psql("SELECT version_num FROM alembic_version").strip()


def _has_column(release: Replicated) -> bool:
    found = f"SELECT count(*) FROM information_schema.columns WHERE table_name = 'tasks' AND column_name = '{COLUMN}'"
    return release.installation.psql(found).strip() == "1"


def _tags(release: Replicated) -> dict[str, set[str]]:
    """Of the images that ready pods of each component run."""
    return {
        component: {
            str(container["image"]).rpartition(":")[2]
            for pod in release.installation.ready(component)
            for container in pod["spec"]["containers"]
        }
        for component in OURS
    }


def _begun(release: Replicated, load: Load) -> None:
    """Some tasks that no drain waits for are under way."""
    load.send(*(no_op(queue, seconds=LONG_SECONDS, note=LONG) for queue in ("ai_generation", "elasticsearch")))
    release.under_way(2)


def _judged(release: Replicated, figures: Figures, row: str, load: Load, began: float) -> None:
    """The laws, and not one failed request."""
    release.judge(figures, row, load)
    assert load.answers().problems == {}
    stories = [story for one, story in release.ledger.stories().items() if one in set(load.accepted)]
    again = [one for one in stories if one.claims > 1 and one.finished_at]
    assert any(began < (one.finished_at or 0) for one in again), "no task was under way: this proves nothing"


def test_an_upgrade_fails_no_request_and_loses_no_task(release: Replicated, figures: Figures) -> None:
    row = "`helm upgrade` to images with one more migration (all is ready)"
    installation = release.installation
    newer = after(_schema(release))
    next_tag = build(_schema(release))
    # What ours read, and what makes the Redis pods go round: each primary among them hands over.
    values = ("settings.RESULT_TTL_SECONDS=7200", "redis.internal.pod.annotations.changed=yes")
    servers = _servers(release)
    with release.under_load(searches=3) as load:
        _begun(release, load)
        began = time.time()
        took = installation.upgrade(f"image.tag={next_tag}", *values)
        ready = time.time()
        assert _servers(release) == servers
        assert (_schema(release), _has_column(release)) == (newer, True)
        assert _tags(release) == {component: {next_tag} for component in OURS}
        assert installation.exec(f"deploy/{installation.name('api')}", "api", "python", "-c", TOLD).strip() == "7200"
        release.wait_whole()
        release.flows(load, time.time())
        figures.note("faults", row, "over, s", took)
        figures.note("faults", row, "next task, s", release.next_end(load, ready) - began)
    _judged(release, figures, row, load, began)


def test_the_way_back_fails_no_request_and_loses_no_task(release: Replicated, figures: Figures) -> None:
    """Of the installation that the test above has upgraded."""
    row = "`helm rollback` from it (all is ready)"
    installation, tag = release.installation, machine().image_tag
    assert _has_column(release), "it was not upgraded"
    newer, servers = _schema(release), _servers(release)
    with release.under_load(searches=3) as load:
        _begun(release, load)
        began = time.time()
        took = installation.rollback()
        ready = time.time()
        assert _servers(release) == servers
        # The older release's job has run again, and found nothing to do.
        assert (_schema(release), _has_column(release)) == (newer, True)
        assert _job_images(release) == {f"{machine().image_prefix}api:{tag}"}
        assert _tags(release) == {component: {tag} for component in OURS}
        release.wait_whole()
        release.flows(load, time.time())
        figures.note("faults", row, "over, s", took)
        figures.note("faults", row, "next task, s", release.next_end(load, ready) - began)
    _judged(release, figures, row, load, began)


def _job_images(release: Replicated) -> set[str]:
    """Of the migration jobs that are there, all of which have ended well."""
    installation = release.installation
    jobs = installation.cluster.objects(installation.namespace, "jobs", "app.kubernetes.io/component=migrate")
    assert jobs
    assert all(job["status"].get("succeeded") == 1 and "failed" not in job["status"] for job in jobs), jobs
    return {job["spec"]["template"]["spec"]["containers"][0]["image"] for job in jobs}
