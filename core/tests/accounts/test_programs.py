from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import pytest
from sqlalchemy import select, update

from sicargabox_core.accounts import tokens
from sicargabox_core.accounts.models import ApiToken, AuditEntry, Role
from sicargabox_core.accounts.signing import keyed_hash, signing_key
from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import Conflict, InvalidInput, NotFound
from sicargabox_core.settings import load_settings


def create(database: Database, name: str = "scanner", days: int | None = None) -> str:
    with database.write() as session:
        return tokens.create_token(session, name, Role.OPERATOR, ["tasks", "queues", "tasks"], by="cli", days=days)[1]


def test_a_token_is_who_it_says_with_its_role_and_scopes(database: Database) -> None:
    principal = tokens.authenticate(database, create(database))
    assert principal is not None
    assert (principal.name, principal.role, principal.scopes) == (
        "token:scanner",
        Role.OPERATOR,
        frozenset({"tasks", "queues"}),
    )
    assert principal.may(Role.VIEWER, "tasks")
    assert not principal.may(Role.VIEWER, "keywords")
    assert not principal.may(Role.ADMIN, "tasks")


def test_only_the_hash_of_a_secret_is_stored(database: Database) -> None:
    secret = create(database)
    with database.read() as session:
        row = session.scalars(select(ApiToken)).one()
        assert secret.startswith(tokens.PREFIX)
        assert secret not in f"{row.token_hash}{row.name}{row.scopes}"


@pytest.mark.parametrize("secret", ["", "sbx_", "nonsense", "sbx_nonsense", "sbx_é\udce9"])
def test_what_is_no_token_is_nobody(database: Database, secret: str) -> None:
    create(database)
    assert tokens.authenticate(database, secret) is None


def test_a_revoked_and_an_expired_token_are_nobody(database: Database) -> None:
    revoked, expired, living = create(database), create(database, "old", days=1), create(database, "new", days=1)
    with database.write() as session:
        tokens.revoke(session, "scanner", by="cli")
        session.execute(update(ApiToken).where(ApiToken.name == "old").values(expires_at=db_now(-1.0)))
    assert tokens.authenticate(database, revoked) is None
    assert tokens.authenticate(database, expired) is None
    assert tokens.authenticate(database, living) is not None
    with database.write() as session, pytest.raises(NotFound):
        tokens.revoke(session, "scanner", by="cli")


def test_the_last_use_is_noted_but_not_at_every_request(database: Database) -> None:
    secret = create(database)

    def last_used() -> object:
        with database.read() as session:
            return session.scalars(select(ApiToken.last_used_at)).one()

    tokens.authenticate(database, secret)
    first = last_used()
    tokens.authenticate(database, secret)
    assert first is not None
    assert last_used() == first
    with database.write() as session:
        session.execute(update(ApiToken).values(last_used_at=db_now(-tokens.TOUCH_SECONDS - 1.0)))
    tokens.authenticate(database, secret)
    assert last_used() >= first  # type: ignore[operator]  # a time


def test_wrong_names_and_scopes_are_named(database: Database) -> None:
    create(database)
    with database.write() as session:
        with pytest.raises(Conflict):
            tokens.create_token(session, "scanner", Role.VIEWER, [], by="cli")
        with pytest.raises(InvalidInput, match="name"):
            tokens.create_token(session, "a b", Role.VIEWER, [], by="cli")
        with pytest.raises(InvalidInput, match="'all'"):
            tokens.create_token(session, "other", Role.VIEWER, ["all"], by="cli")


def test_making_and_revoking_leave_a_trail_without_the_secret(database: Database) -> None:
    secret = create(database)
    with database.write() as session:
        tokens.revoke(session, "scanner", by="user:ana")
    with database.read() as session:
        trail = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert [(entry.action, entry.actor) for entry in trail] == [("token.create", "cli"), ("token.revoke", "user:ana")]
    assert secret not in "".join(f"{entry.after}" for entry in trail)


# --- the key of unlinkable hashes ------------------------------------------------------------------------------------
def _key(folder: str) -> bytes:
    return signing_key(load_settings(data_dir=Path(folder)))


def test_processes_that_start_at_once_share_one_generated_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        keys = set(pool.map(_key, [str(tmp_path)] * 4, chunksize=1))
    assert len(keys) == 1
    file = tmp_path / "secret.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


def test_a_given_key_is_used_and_nothing_is_written(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, secret_key="s" * 40)
    assert signing_key(settings) == signing_key(settings)
    assert signing_key(settings) != signing_key(load_settings(data_dir=tmp_path, secret_key="t" * 40))
    assert list(tmp_path.iterdir()) == []


def test_a_hash_depends_on_key_purpose_and_value() -> None:
    hashes = {keyed_hash(key, purpose, value) for key in (b"a", b"b") for purpose in ("p", "q") for value in ("x", "y")}
    assert len(hashes) == 8
