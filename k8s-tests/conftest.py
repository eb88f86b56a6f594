"""What tests on a cluster share: the cluster, their figures, and a report of its pods when one of them fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubernetes.cluster import Cluster, reachable
from tests.kubernetes.figures import Figures

CLUSTER = pytest.StashKey[Cluster]()
FIGURES = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is told yet."""
    config.stash[FIGURES] = Figures()


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Cluster:
    """The cluster of ``KUBECONFIG``; without it the test is skipped, or fails where nothing may be missing."""
    found = pytestconfig.stash[CLUSTER] = reachable()
    return found


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """Where to tell what was measured."""
    return pytestconfig.stash[FIGURES]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failure shows the namespaces that are open then: they are gone when a person reads it.

    What its fixtures and itself have measured counts when it has passed, and is forgotten when it has not.
    """
    report: pytest.TestReport = yield  # type: ignore[assignment]  # pytest's own shape of a wrapper
    if call.when == "call" and report.passed:
        item.config.stash[FIGURES].passed()
    elif not report.passed:
        item.config.stash[FIGURES].failed()
    cluster = item.config.stash.get(CLUSTER, None)
    if report.failed and call.when != "teardown" and cluster is not None:
        report.sections += [(f"namespace {name}", cluster.report(name)) for name in cluster.namespaces]
    return report  # type: ignore[return-value]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line for each figure of a test that passed."""
    if told := config.stash[FIGURES].told:
        terminalreporter.section("measured on the cluster")
        for figure in told:
            terminalreporter.write_line(str(figure))
