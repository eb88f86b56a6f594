"""The pods that rendered documents make, whatever makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.rendering import Document

COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Pods:
    """Pods as ``owner`` (a Deployment, a Job …) makes them."""

    owner: Document
    metadata: dict[str, Any]
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        """Kind and name of the owner."""
        return f"{self.owner['kind']}/{self.owner['metadata']['name']}"

    @property
    def component(self) -> str:
        """Its label, or nothing."""
        return str(self.metadata["labels"].get(COMPONENT, ""))

    @property
    def serves(self) -> bool:
        """Whether they are to run for ever."""
        return self.owner["kind"] in ("Deployment", "StatefulSet")

    @property
    def containers(self) -> list[dict[str, Any]]:
        """Containers that stay."""
        return list(self.spec["containers"])

    @property
    def all_containers(self) -> list[dict[str, Any]]:
        """Those of the start too."""
        return [*self.spec.get("initContainers", []), *self.containers]

    @property
    def main(self) -> dict[str, Any]:
        """The first container."""
        return self.containers[0]


def pods_of(documents: Sequence[Document]) -> Iterator[Pods]:
    """Every kind of pods."""
    for document in documents:
        if document["kind"] == "Pod":
            yield Pods(document, document["metadata"], document["spec"])
        elif document["kind"] in ("Deployment", "StatefulSet", "Job", "DaemonSet", "ReplicaSet"):
            template = document["spec"]["template"]
            yield Pods(document, template["metadata"], template["spec"])
        elif document["kind"] == "CronJob":
            template = document["spec"]["jobTemplate"]["spec"]["template"]
            yield Pods(document, template["metadata"], template["spec"])


def variables(container: dict[str, Any]) -> dict[str, Any]:
    """Environment variables by name: the value, or where it comes from."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container.get("env", [])}
