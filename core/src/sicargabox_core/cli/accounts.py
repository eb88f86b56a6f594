"""Commands for people and programs that may sign in: `users`, `tokens`.

A password never stands on the command line, where every user of the machine can read it: it is asked for, or read
from stdin.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sicargabox_core.accounts.models import Role
from sicargabox_core.accounts.principal import SCOPES
from sicargabox_core.cli.invocation import invocation
from sicargabox_core.cli.output import Json, moment, print_json, print_table, say
from sicargabox_core.errors import InvalidInput

users = typer.Typer(no_args_is_help=True, help="Staff accounts.")
tokens = typer.Typer(no_args_is_help=True, help="Keys for programs that use the API.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
RoleOption = Annotated[Role, typer.Option(help="Each may do all that the ones before it may.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")
]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(users, name="users")
    app.add_typer(tokens, name="tokens")


@users.command("create")
def create_user(
    ctx: typer.Context,
    name: Name,
    role: RoleOption = Role.VIEWER,
    password_stdin: PasswordStdin = False,
    json: Json = False,
) -> None:
    """Add a member of staff; asks for the password.

    Examples: sicargabox users create ana --role reviewer · pass show ana | sicargabox users create ana --password-stdin
    """
    from sicargabox_core.accounts import users as accounts

    here = invocation(ctx)
    database = here.database
    password = _password(password_stdin)
    with database.write() as session:
        username = accounts.create_user(session, name, password, role, by=here.principal).username
    _tell(json, {"username": username, "role": role}, f"{username} may sign in as {role}.")


@users.command("list")
def list_users(ctx: typer.Context, json: Json = False) -> None:
    """List the accounts.

    Example: sicargabox users list
    """
    from sicargabox_core.accounts import users as accounts

    here = invocation(ctx)
    with here.database.read() as session:
        found = accounts.list_users(session)
    if json:
        fields = ("username", "role", "created_at", "disabled_at")
        print_json([{field: getattr(user, field) for field in fields} for user in found])
        return
    zone = here.settings.timezone
    print_table(
        ("name", "role", "created", "disabled"),
        [(user.username, user.role, moment(user.created_at, zone), moment(user.disabled_at, zone)) for user in found],
    )


@users.command("password")
def set_password(ctx: typer.Context, name: Name, password_stdin: PasswordStdin = False, json: Json = False) -> None:
    """Change a password and end all the user's sessions.

    Example: sicargabox users password ana
    """
    from sicargabox_core.accounts import users as accounts

    here = invocation(ctx)
    with here.database.read() as session:
        accounts.find_user(session, name)
    password = _password(password_stdin)
    with here.database.write() as session:
        accounts.set_password(session, name, password, by=here.principal)
    _tell(json, {"username": name}, f"The password of {name} is changed; open sessions have ended.")


@users.command("role")
def set_role(ctx: typer.Context, name: Name, role: Annotated[Role, typer.Argument()], json: Json = False) -> None:
    """Change what a user may do, at once.

    Example: sicargabox users role ana operator
    """
    from sicargabox_core.accounts import users as accounts

    here = invocation(ctx)
    with here.database.write() as session:
        accounts.set_role(session, name, role, by=here.principal)
    _tell(json, {"username": name, "role": role}, f"{name} is {role} now.")


@users.command("disable")
def disable_user(ctx: typer.Context, name: Name, json: Json = False) -> None:
    """Lock an account and end its sessions.

    Example: sicargabox users disable ana
    """
    from sicargabox_core.accounts import users as accounts

    here = invocation(ctx)
    with here.database.write() as session:
        accounts.disable_user(session, name, by=here.principal)
    _tell(json, {"username": name, "disabled": True}, f"{name} may not sign in any more.")


@users.command("enable")
def enable_user(ctx: typer.Context, name: Name, json: Json = False) -> None:
    """Unlock an account that was disabled; its password and role are the old ones.

    Example: sicargabox users enable ana
    """
    from sicargabox_core.accounts import users as accounts

    here = invocation(ctx)
    with here.database.write() as session:
        accounts.enable_user(session, name, by=here.principal)
    _tell(json, {"username": name, "disabled": False}, f"{name} may sign in again.")


@tokens.command("create")
def create_token(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What the program is called.")],
    scope: Annotated[list[str], typer.Option(help=f"What it may use: {', '.join(SCOPES)} (repeatable).")],
    role: RoleOption = Role.VIEWER,
    days: Annotated[
        int | None, typer.Option(help="Valid for this many days; without it: until revoked.", min=1)
    ] = None,
    json: Json = False,
) -> None:
    """Make a key for a program. The key is shown only this once.

    Example: sicargabox tokens create scanner --scope search --scope tasks --role operator --days 365
    """
    from sicargabox_core.accounts import tokens as accounts

    here = invocation(ctx)
    with here.database.write() as session:
        _, secret = accounts.create_token(session, name, role, scope, by=here.principal, days=days)
    _tell(json, {"name": name, "role": role, "scopes": sorted(set(scope)), "token": secret}, secret)


@tokens.command("list")
def list_tokens(ctx: typer.Context, json: Json = False) -> None:
    """List the keys, without their secrets.

    Example: sicargabox tokens list
    """
    from sicargabox_core.accounts import tokens as accounts

    here = invocation(ctx)
    with here.database.read() as session:
        found = accounts.list_tokens(session)
    times = ("created_at", "expires_at", "last_used_at", "revoked_at")
    if json:
        fields = ("name", "role", "scopes", "created_by", *times)
        print_json([{field: getattr(token, field) for field in fields} for token in found])
        return
    zone = here.settings.timezone
    print_table(
        ("name", "role", "scopes", "by", "created", "expires", "last used", "revoked"),
        [
            (
                *(token.name, token.role, ", ".join(token.scopes), token.created_by),
                *(moment(getattr(token, field), zone) for field in times),
            )
            for token in found
        ],
    )


@tokens.command("revoke")
def revoke_token(ctx: typer.Context, name: str, json: Json = False) -> None:
    """Make a key worthless at once.

    Example: sicargabox tokens revoke scanner
    """
    from sicargabox_core.accounts import tokens as accounts

    here = invocation(ctx)
    with here.database.write() as session:
        accounts.revoke(session, name, by=here.principal)
    _tell(json, {"name": name, "revoked": True}, f"The token {name} is revoked.")


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InvalidInput(
            "there is no terminal to ask for it.", field="password", remedy="Use --password-stdin and pipe it in."
        )
    answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer


def _tell(json: bool, data: dict[str, object], text: str) -> None:
    if json:
        print_json(data)
    else:
        say(text)
