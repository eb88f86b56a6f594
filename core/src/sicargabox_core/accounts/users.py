"""Staff: accounts, sign-in with its limit, and server-side sessions."""

from __future__ import annotations

import re

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sicargabox_core.accounts import audit
from sicargabox_core.accounts.models import Role, SignInAttempt, User, UserSession
from sicargabox_core.accounts.passwords import hash_password, hash_secret, new_secret, verify_password
from sicargabox_core.accounts.principal import Principal
from sicargabox_core.accounts.signing import keyed_hash
from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import Conflict, InvalidInput, NotFound, SignInRequired, TooManyRequests

# Ten wrong passwords for one name or fifty from one address in five minutes: a person who forgets is not locked out
# of the next shift, and a guesser gets at most 2,880 tries a day.
WINDOW_SECONDS = 300
LIMIT_PER_NAME = 10
LIMIT_PER_ADDRESS = 50
# A session's row is touched at most this often, so that a page with many requests writes once.
TOUCH_SECONDS = 60


def normalise_username(username: str) -> str:
    """Lower case; raises ``InvalidInput`` for anything but 2–60 letters, digits, dots, dashes and underscores."""
    name = username.strip().lower()
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9._-]{0,58}[a-z0-9])", name):
        raise InvalidInput(
            "a user name is 2 to 60 letters, digits, dots, dashes or underscores",
            field="username",
            remedy="Choose another.",
        )
    return name


def parse_role(role: str) -> Role:
    """The role of that name, or ``InvalidInput`` listing the roles."""
    try:
        return Role(role)
    except ValueError as error:
        raise InvalidInput(
            f"there is no role {role!r}", field="role", remedy=f"Use one of: {', '.join(Role)}."
        ) from error


def create_user(session: Session, username: str, password: str, role: Role, *, by: str) -> User:
    """Adds a member of staff; raises ``Conflict`` when the name is taken."""
    user = User(username=normalise_username(username), password_hash=hash_password(password), role=role)
    try:
        with session.begin_nested():
            session.add(user)
    except IntegrityError as error:
        raise Conflict(f"the user {user.username} exists", field="username", remedy="Choose another name.") from error
    audit.record(
        session, actor=by, action="user.create", object_type="user", object_id=user.username, after={"role": role}
    )
    return user


def find_user(session: Session, username: str) -> User:
    """The user of that name, or ``NotFound``."""
    user = session.scalars(select(User).where(User.username == username.strip().lower())).one_or_none()
    if user is None:
        raise NotFound(f"there is no user {username!r}", field="username", remedy="See `sicargabox users list`.")
    return user


def list_users(session: Session) -> list[User]:
    """All accounts by name, locked ones too."""
    return list(session.scalars(select(User).order_by(User.username)))


def set_password(session: Session, username: str, password: str, *, by: str) -> None:
    """Changes a password and ends all the user's sessions."""
    user = find_user(session, username)
    user.password_hash = hash_password(password)
    user.updated_at = db_now()
    end_sessions(session, user.id)
    audit.record(session, actor=by, action="user.password", object_type="user", object_id=user.username)


def set_role(session: Session, username: str, role: Role, *, by: str) -> None:
    """Changes a role, at once for open sessions too. The last administrator keeps theirs (``Conflict``)."""
    user = find_user(session, username)
    before = user.role
    if before == Role.ADMIN and role != Role.ADMIN:
        _keep_an_admin(session, user)
    user.role = role
    user.updated_at = db_now()
    audit.record(
        session,
        actor=by,
        action="user.role",
        object_type="user",
        object_id=user.username,
        before={"role": before},
        after={"role": role},
    )


def disable_user(session: Session, username: str, *, by: str) -> None:
    """Locks an account and ends its sessions. The last administrator cannot be locked (``Conflict``)."""
    user = find_user(session, username)
    if user.role == Role.ADMIN:
        _keep_an_admin(session, user)
    user.disabled_at = db_now()
    end_sessions(session, user.id)
    audit.record(session, actor=by, action="user.disable", object_type="user", object_id=user.username)


def enable_user(session: Session, username: str, *, by: str) -> None:
    """Unlocks an account; its password and role are those it had. Raises ``Conflict`` for one that is not locked."""
    user = find_user(session, username)
    if user.disabled_at is None:
        raise Conflict(f"{user.username} is not disabled", field="disabled_at", remedy="There is nothing to do.")
    user.disabled_at = None
    user.updated_at = db_now()
    audit.record(session, actor=by, action="user.enable", object_type="user", object_id=user.username)


def end_sessions(session: Session, user_id: int) -> int:
    """Signs a user out everywhere; returns how many sessions ended."""
    return len(
        session.scalars(delete(UserSession).where(UserSession.user_id == user_id).returning(UserSession.user_id)).all()
    )


def _keep_an_admin(session: Session, user: User) -> None:
    others = session.scalar(
        select(func.count())
        .select_from(User)
        .where(User.role == Role.ADMIN, User.disabled_at.is_(None), User.id != user.id)
    )
    if not others:
        raise Conflict(f"{user.username} is the last administrator", field="username", remedy="Appoint another first.")


def sign_in(
    database: Database, username: str, password: str, *, address: str, key: bytes, session_seconds: int
) -> tuple[str, Principal]:
    """Checks name and password and opens a session; returns its token (for the cookie) and the principal.

    Raises ``SignInRequired`` with the same words for an unknown name and a wrong password, ``TooManyRequests`` when
    the limit is reached. ``key`` turns name and address into what is stored of a failed attempt.
    """
    # PostgreSQL takes no NUL in a text; no name holds the sign that stands for it.
    name = username.strip().lower()[:60].replace("\x00", "\N{REPLACEMENT CHARACTER}")
    by_name, by_address = keyed_hash(key, "name", name), keyed_hash(key, "address", address)
    attempts = _reserve(database, {by_name: LIMIT_PER_NAME, by_address: LIMIT_PER_ADDRESS})
    with database.read() as session:
        user = session.scalars(select(User).where(User.username == name)).one_or_none()
    known = user is not None and user.disabled_at is None
    # Argon2 takes tens of milliseconds: outside any transaction.
    if not verify_password(user.password_hash if user and known else None, password) or user is None:
        raise SignInRequired("user name or password is wrong")
    token = new_secret()
    with database.write() as session:
        session.add(
            UserSession(token_hash=hash_secret(token), user_id=user.id, expires_at=db_now(float(session_seconds)))
        )
        session.execute(
            delete(SignInAttempt).where((SignInAttempt.subject == by_name) | SignInAttempt.id.in_(attempts))
        )
        audit.record(
            session,
            actor=f"user:{user.username}",
            action="session.open",
            object_type="user",
            object_id=user.username,
        )
    return token, _principal(user)


def _reserve(database: Database, limits: dict[str, int]) -> list[int]:
    """Counts this attempt as a failed one until it succeeds, so that many at the same moment cannot pass the limit.

    On PostgreSQL those whose short transactions overlap may exceed it, by at most the size of the pool.
    Returns the ids of its rows; raises ``TooManyRequests``.
    """
    with database.write() as session:
        session.execute(delete(SignInAttempt).where(SignInAttempt.at < db_now(-WINDOW_SECONDS)))
        for subject, limit in limits.items():
            failed = session.scalar(
                select(func.count())
                .select_from(SignInAttempt)
                .where(SignInAttempt.subject == subject, SignInAttempt.at > db_now(-WINDOW_SECONDS))
            )
            if (failed or 0) >= limit:
                raise TooManyRequests("too many failed sign-ins", retry_after=WINDOW_SECONDS)
        rows = [SignInAttempt(subject=subject) for subject in limits]
        session.add_all(rows)
        session.flush()
        return [row.id for row in rows]


def session_user(database: Database, token: str, *, session_seconds: int) -> Principal | None:
    """The principal behind a session cookie, or ``None``; prolongs the session while it is used."""
    token_hash = hash_secret(token)
    with database.read() as session:
        found = session.execute(
            select(User, UserSession.last_seen_at < db_now(-TOUCH_SECONDS))
            .join(UserSession, UserSession.user_id == User.id)
            .where(
                UserSession.token_hash == token_hash,
                UserSession.expires_at > db_now(),
                User.disabled_at.is_(None),
            )
        ).one_or_none()
    if found is None:
        return None
    user, stale = found
    if stale:
        with database.write() as session:
            session.execute(
                update(UserSession)
                .where(UserSession.token_hash == token_hash)
                .values(last_seen_at=db_now(), expires_at=db_now(float(session_seconds)))
            )
    return _principal(user)


def sign_out(database: Database, token: str) -> None:
    """Ends one session; an unknown token is no error."""
    with database.write() as session:
        session.execute(delete(UserSession).where(UserSession.token_hash == hash_secret(token)))


def _principal(user: User) -> Principal:
    return Principal(name=f"user:{user.username}", role=Role(user.role), user_id=user.id)
