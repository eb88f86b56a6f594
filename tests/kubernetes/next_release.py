"""Images of a release after this one: the same product with one more migration, made from the images under test."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from pathlib import Path

from tests.settings import absent, machine

NAMES = ("api", "indexer-worker", "ai-worker", "learning-worker")
COLUMN = "of_the_next_release"
# No shell: the last layer of the images need not have one. The folder is where Python finds it.
_COPY = """\
import pathlib, shutil, sicargabox_core.migrations.versions as found
shutil.copy("/migration.py", pathlib.Path(list(found.__path__)[0]) / "{file}")
"""
_DOCKERFILE = """\
ARG BASE
FROM ${{BASE}}
USER 0
COPY migration.py /migration.py
RUN ["python", "-c", {program}]
USER 10001:10001
"""
_MIGRATION = '''\
"""A column that this release does not know."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "{next}"
down_revision = "{last}"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("{column}", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("tasks", "{column}")
'''


def after(migration: str) -> str:
    """The number of the migration that follows."""
    return f"{int(migration) + 1:04d}"


def build(last: str) -> str:
    """Builds the images, whose migration follows the ``last`` one, and brings them into the cluster; returns their tag.

    Skips the test (or fails it) where no command is named that does so.
    """
    settings = machine()
    if not settings.image_load:
        absent("the command that brings an image into the cluster", "set SICARGABOX_TEST_IMAGE_LOAD to it.")
    tag = f"{settings.image_tag}-next"
    number = after(last)
    program = json.dumps(_COPY.format(file=f"{number}_next_release.py"))
    with tempfile.TemporaryDirectory(prefix="sicargabox-next-release-") as name:
        folder = Path(name)
        (folder / "Dockerfile").write_text(_DOCKERFILE.format(program=program))
        migration = _MIGRATION.format(next=number, last=last, column=COLUMN)
        (folder / "migration.py").write_text(migration)
        for image in NAMES:
            base = f"BASE={settings.image_prefix}{image}:{settings.image_tag}"
            made = f"{settings.image_prefix}{image}:{tag}"
            _run([*shlex.split(settings.image_build), "--build-arg", base, "--tag", made, str(folder)])
            _run([*shlex.split(settings.image_load), made])
    return tag


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
