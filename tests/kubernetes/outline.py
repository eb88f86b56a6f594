"""What each profile makes, one line an object: a change of the chart that makes or takes away something shows here.

`python -m tests.kubernetes.outline` writes it; test_render_files.py compares.
"""

from __future__ import annotations

from tests.kubernetes.pods import pods_of
from tests.kubernetes.rendering import PROFILES, Document, render
from tests.settings import REPOSITORY

FILE = REPOSITORY / "k8s-tests" / "outline.txt"


def outline() -> str:
    """Every profile's objects, sorted; of those with pods also how many, their images, memory and time to end."""
    return "\n".join(f"[{profile}]\n{_of(render(profile))}" for profile in PROFILES)


def _of(documents: list[Document]) -> str:
    details = {pods.name: pods for pods in pods_of(documents)}
    lines = []
    for document in documents:
        name = f"{document['kind']}/{document['metadata']['name']}"
        line = name
        if name in details:
            pods = details[name]
            replicas = document["spec"].get("replicas", "scaled") if pods.serves else "once"
            containers = ", ".join(
                f"{one['name']} {one['image']} ≤{one['resources']['limits']['memory']}" for one in pods.all_containers
            )
            line += f": {replicas}; {pods.spec['terminationGracePeriodSeconds']} s; {containers}"
        lines.append(line)
    return "".join(f"{line}\n" for line in sorted(lines))


if __name__ == "__main__":
    FILE.write_text(outline(), encoding="utf-8")
