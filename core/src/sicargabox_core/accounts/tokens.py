"""API tokens: what a program shows instead of a password."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sicargabox_core.accounts import audit
from sicargabox_core.accounts.models import ApiToken, Role
from sicargabox_core.accounts.passwords import hash_secret, new_secret
from sicargabox_core.accounts.principal import SCOPES, Principal
from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import Conflict, InvalidInput, NotFound

PREFIX = "sbx_"
# last_used_at is for people who tidy up; a minute's precision spares a write on every request.
TOUCH_SECONDS = 60

_LIVE_TOKEN = select(
    ApiToken.id,
    ApiToken.name,
    ApiToken.role,
    ApiToken.scopes,
    (ApiToken.last_used_at.is_(None) | (ApiToken.last_used_at < db_now(-TOUCH_SECONDS))).label("stale"),
).where(
    ApiToken.token_hash == bindparam("token_hash"),
    ApiToken.revoked_at.is_(None),
    ApiToken.expires_at.is_(None) | (ApiToken.expires_at > db_now()),
)


def create_token(
    session: Session, name: str, role: Role, scopes: Iterable[str], *, by: str, days: int | None = None
) -> tuple[ApiToken, str]:
    """Makes a token and returns its row and the secret, which is shown once and stored only as a hash."""
    chosen = sorted(set(scopes))
    unknown = [scope for scope in chosen if scope not in SCOPES]
    if unknown:
        raise InvalidInput(
            f"there is no scope {unknown[0]!r}", field="scopes", remedy=f"Use some of: {', '.join(SCOPES)}."
        )
    if not re.fullmatch(r"[\w.-]{2,60}", name):
        raise InvalidInput(
            "a token name is 2 to 60 letters, digits, dots, dashes or underscores",
            field="name",
            remedy="Choose another.",
        )
    secret = new_secret(PREFIX)
    token = ApiToken(
        name=name,
        token_hash=hash_secret(secret),
        role=role,
        scopes=chosen,
        created_by=by,
        expires_at=None if days is None else db_now(days * 86400.0),
    )
    try:
        with session.begin_nested():
            session.add(token)
    except IntegrityError as error:
        raise Conflict(f"the token {name} exists", field="name", remedy="Choose another name.") from error
    audit.record(
        session,
        actor=by,
        action="token.create",
        object_type="token",
        object_id=name,
        after={"role": role, "scopes": chosen},
    )
    return token, secret


def authenticate(database: Database, secret: str) -> Principal | None:
    """The principal behind a token, or ``None`` when it is unknown, revoked or expired."""
    if not secret.startswith(PREFIX):
        return None
    # One statement of plain columns: this runs before every request of a program.
    token = database.at_once(_LIVE_TOKEN, {"token_hash": hash_secret(secret)})
    if token is None:
        return None
    if token.stale:
        with database.write() as session:
            session.execute(update(ApiToken).where(ApiToken.id == token.id).values(last_used_at=db_now()))
    return Principal(name=f"token:{token.name}", role=Role(token.role), scopes=frozenset(token.scopes))


def list_tokens(session: Session) -> list[ApiToken]:
    """All tokens, the newest first."""
    return list(session.scalars(select(ApiToken).order_by(ApiToken.id.desc())))


def revoke(session: Session, name: str, *, by: str) -> None:
    """Makes a token worthless at once; raises ``NotFound`` for an unknown name."""
    found = session.scalars(
        update(ApiToken)
        .where(ApiToken.name == name, ApiToken.revoked_at.is_(None))
        .values(revoked_at=db_now())
        .returning(ApiToken.id)
    ).all()
    if not found:
        raise NotFound(f"there is no live token {name!r}", field="name", remedy="See `sicargabox tokens list`.")
    audit.record(session, actor=by, action="token.revoke", object_type="token", object_id=name)
