"""The command `sicargabox`: what a person or a script types on a machine that can reach the database.

A module per group of commands. Each command calls one application service and shows its answer as a table, or as JSON
with ``--json``; no rule of the product lives here. Heavy imports are inside the commands, so that `--help` and a
look at a task stay quick.
"""

from sicargabox_core.cli.application import app, main

__all__ = ["app", "main"]
