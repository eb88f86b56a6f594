"""What the tests need to know of the machine they run on; the one place where test paths and switches are read.

The official tables are not part of this repository. A test that needs one, or a server or browser that is not there,
skips with the reason; where ``require_servers`` says that nothing may be missing (continuous integration) it fails.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NoReturn

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

REPOSITORY = Path(__file__).resolve().parent.parent
_SHARED = REPOSITORY.parent / "shared"
_DATA = _SHARED / "data"


class MachineSettings(BaseSettings):
    """Read from ``SICARGABOX_TEST_…`` and ``SICARGABOX_REQUIRE_SERVERS``."""

    model_config = SettingsConfigDict(env_prefix="SICARGABOX_TEST_", extra="ignore", frozen=True)

    tariff_csv: Path = Field(_DATA / "honduras-tariff-2022.csv", description="The official tariff as CSV.")
    hs_english_csv: Path = Field(_DATA / "harmonized-system-en.csv", description="The English HS wording as CSV.")
    screenshots: Path | None = Field(None, description="Where browser tests leave their pictures; none: a temp folder.")
    search_server: Path = Field(
        _SHARED / "tools" / "search-server" / "search-server", description="The script that starts Elasticsearch."
    )
    search_url: str = Field("", description="An Elasticsearch that runs already, for tests that only use one.")
    examples: int = Field(0, ge=0, description="Examples of the task model for each database; 0: 150, always the same.")
    seed: int | None = Field(None, description="Where these examples begin; none: anywhere.")
    fault_repeats: int = Field(1, ge=1, description="How often the fault suite does each fault.")
    fault_rate: float = Field(20.0, gt=0, le=500, description="Requests a second of the fault suite's load.")
    fault_results: Path | None = Field(None, description="File to which each fault's figures are added; none: nowhere.")
    helm: Path | None = Field(None, description="Helm 4; none: the one on PATH.")
    promtool: Path | None = Field(None, description="Prometheus' promtool; none: the one on PATH.")
    kubeconform: Path | None = Field(None, description="kubeconform; none: the one on PATH.")
    crds: Path = Field(
        _SHARED / "tools" / "cluster" / "manifests",
        description="Folder with the definitions of KEDA's and the Prometheus operator's objects.",
    )
    kubeconfig: Path | None = Field(
        None,
        validation_alias="KUBECONFIG",
        description="The cluster that tests install on; none: none, never the one that kubectl would take by itself.",
    )
    kubectl: Path | None = Field(None, description="kubectl; none: the one on PATH.")
    image_prefix: str = Field("sicargabox-", description="What stands before api, indexer-worker … in images' names.")
    image_tag: str = Field("", description="Tag of the images that the cluster has; empty: the chart's own.")
    image_build: str = Field("docker build", description="Command before the arguments of `docker build`.")
    image_load: str = Field("", description="Command that brings the image named after it into the cluster.")
    cluster_namespace: str = Field("sicargabox-tests", description="First part of the names of namespaces made there.")
    cluster_figures: Path | None = Field(None, description="File of JSON to which what was measured there is added.")
    require_servers: bool = Field(
        False,
        validation_alias="SICARGABOX_REQUIRE_SERVERS",
        description="A missing server, browser or table is a failure instead of a skip.",
    )


@lru_cache
def machine() -> MachineSettings:
    """The settings of this test run."""
    return MachineSettings()


def absent(what: str, remedy: str) -> NoReturn:
    """Skips the test because ``what`` is not on this machine, or fails it where nothing may be missing."""
    message = f"{what} is not here: {remedy}"
    if machine().require_servers:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
