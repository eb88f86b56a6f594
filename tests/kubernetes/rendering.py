"""Renders the chart with Helm, as a user would, and gives the documents. Knows nothing of what they must say."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import yaml

from tests.programs import program
from tests.settings import REPOSITORY

CHART = REPOSITORY / "charts" / "sicargabox"
PROFILES: dict[str, tuple[str, ...]] = {
    "default": (),
    "dev": ("values-dev.yaml",),
    "ha": ("values-ha.yaml",),
    "external": ("values-external.yaml",),
    "ha-external": ("values-ha.yaml", "values-external.yaml"),
}
KUBERNETES = ("1.31.0", "1.34.0", "1.37.0")
MODES = ("keda", "hpa", "none")
RELEASE, NAMESPACE = "sb", "parcels"

Document = dict[str, Any]


class Refused(Exception):  # what Helm did
    """Helm did not render; the text is what it said."""


def helm(*arguments: str) -> str:
    """What Helm prints. Raises ``Refused``; skips the test (or fails it) where there is no Helm."""
    done = subprocess.run([program("helm"), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


@lru_cache(maxsize=128)
def text(
    profile: str = "default",
    *sets: str,
    kubernetes: str = "1.34.0",
    mode: str | None = None,
    release: str = RELEASE,
    files: Sequence[str] = (),
) -> str:
    """The whole rendered chart as YAML. ``sets``: as after ``--set``; ``files``: more files of values.

    Raises ``Refused``.
    """
    options = [word for name in PROFILES[profile] for word in ("--values", str(CHART / name))]
    options += [word for name in files for word in ("--values", name)]
    options += [word for value in (*sets, *([f"autoscaling.mode={mode}"] if mode else [])) for word in ("--set", value)]
    return helm(*("template", release, str(CHART), "--namespace", NAMESPACE, "--kube-version", kubernetes), *options)


def render(profile: str = "default", *sets: str, **more: Any) -> list[Document]:
    """The same as documents, which nobody may change."""
    return _parsed(text(profile, *sets, **more))


@lru_cache(maxsize=64)
def _parsed(rendered: str) -> list[Document]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(rendered, Loader=loader) if document]  # a safe loader


def of_kind(documents: Sequence[Document], *kinds: str) -> list[Document]:
    """Those of these kinds."""
    return [document for document in documents if document["kind"] in kinds]


def named(documents: Sequence[Document], kind: str, name: str) -> Document:
    """The one of this kind whose name ends like that, after the release's."""
    (found,) = [one for one in of_kind(documents, kind) if one["metadata"]["name"] == f"{RELEASE}-sicargabox-{name}"]
    return found
