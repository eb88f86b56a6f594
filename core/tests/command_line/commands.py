"""The command line as tests type it: in this process, on a database of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from sicargabox_core.cli import app
from sicargabox_core.db import Database
from sicargabox_core.settings import ENV_PREFIX
from tests.servers.ports import free_port


class CommandLine:
    """Runs commands; ``environment`` are the variables of all of them, without the prefix."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        self.database = database
        self.environment = {
            "DATA_DIR": str(data_dir),
            "DATABASE_URL": database.engine.url.render_as_string(hide_password=False),
            # Nobody listens there: what a command does without Redis is the rule here, not the exception.
            "REDIS_URL": f"redis://127.0.0.1:{free_port()}",
        }

    def run(self, *arguments: str, stdin: str | None = None, **changes: str) -> Result:
        """One command, as typed."""
        variables = {ENV_PREFIX + name: value for name, value in {**self.environment, **changes}.items()}
        return CliRunner().invoke(app, list(arguments), input=stdin, env=variables)

    def json(self, *arguments: str, stdin: str | None = None, **changes: str) -> Any:
        """What a command that must succeed prints with ``--json``."""
        result = self.run(*arguments, "--json", stdin=stdin, **changes)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)
