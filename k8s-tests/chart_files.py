"""Writes what the chart holds twice: `make chart-files`. A test compares each with what would be written.

The files of `redis/`, which a chart can only read from inside itself, and the tables of values in its README, from the
schema and the defaults.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
CHART = REPOSITORY / "charts" / "sicargabox"
REDIS = (
    *("redis.conf", "replicated.conf", "sentinel.conf", "users.acl", "sentinel-users.acl"),
    *("render-users.sh", "hand-over.sh"),
)
BEGIN, END = "<!-- values: written by make chart-files -->", "<!-- end of values -->"
# Told once, below the table, wherever they occur.
_SHAPES = ("resources", "pod", "settings")


def readme() -> str:
    """The README with its tables as they should be."""
    text = (CHART / "README.md").read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{_tables()}\n{END}{after}"


def _tables() -> str:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    parts = []
    rows = [row for row in _rows(schema, schema, values, "") if not row.startswith("| `workers.")]
    parts.append("\n".join(["| value | default | meaning |", "|---|---|---|", *rows]))
    worker = schema["definitions"]["worker"]
    rows = list(_rows(schema, worker, values["workerDefaults"], "workers.NAME."))
    parts.append("Of each worker; the defaults are `workerDefaults`:")
    parts.append("\n".join(["| value | default | meaning |", "|---|---|---|", *rows]))
    pod = schema["definitions"]["pod"]["properties"]
    parts.append("Of each `pod` (empty: as `podDefaults`):")
    parts.append(
        "\n".join(
            ["| value | meaning |", "|---|---|", *(f"| `pod.{name}` | {_told(schema, pod[name])} |" for name in pod)]
        )
    )
    names = ", ".join(f"`{name}`" for name in schema["definitions"]["settings"]["propertyNames"]["enum"])
    parts.append(f"Of each `settings`, as in docs/reference.md without `SICARGABOX_`: {names}.")
    return "\n\n".join(parts) + "\n"


def _reference(schema: dict[str, Any]) -> str:
    for part in (schema, *schema.get("allOf", [])):
        if "$ref" in part:
            return str(part["$ref"]).rpartition("/")[2]
    return ""


def _told(root: dict[str, Any], schema: dict[str, Any]) -> str:
    found = schema.get("description") or root["definitions"][_reference(schema)]["description"]
    if "enum" in schema:
        found += f" One of {', '.join(f'`{one}`' for one in schema['enum'])}."
    return str(found).replace("|", "\\|")


def _rows(root: dict[str, Any], schema: dict[str, Any], values: Any, path: str) -> Iterator[str]:
    for name, part in schema["properties"].items():
        if name == "global":
            continue
        default = values.get(name) if isinstance(values, dict) else None
        target = root["definitions"][_reference(part)] if _reference(part) else part
        if "properties" in target and _reference(part) not in _SHAPES and (default or name == "image"):
            yield from _rows(root, target, default, f"{path}{name}.")
        elif name != "workers":
            shown = "" if default is None else f"`{json.dumps(default, ensure_ascii=False)}`"
            yield f"| `{path}{name}` | {shown} | {_told(root, part)} |"


def main() -> None:
    """Writes all of it."""
    for name in REDIS:
        shutil.copy(REPOSITORY / "redis" / name, CHART / "files" / "redis" / name)
    (CHART / "README.md").write_text(readme(), encoding="utf-8")


if __name__ == "__main__":
    main()
