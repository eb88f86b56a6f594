from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import func, select, update

from sicargabox_core.accounts import passwords, users
from sicargabox_core.accounts.models import AuditEntry, Role, SignInAttempt, User, UserSession
from sicargabox_core.accounts.passwords import hash_secret
from sicargabox_core.accounts.principal import Principal
from sicargabox_core.db import Database, db_now
from sicargabox_core.errors import Conflict, Forbidden, InvalidInput, NotFound, SignInRequired, TooManyRequests

KEY = b"k" * 32
PASSWORD = "correct horse battery"


def add(database: Database, name: str = "ana", role: Role = Role.OPERATOR) -> None:
    with database.write() as session:
        users.create_user(session, name, PASSWORD, role, by="cli")


def sign_in(
    database: Database, name: str = "ana", password: str = PASSWORD, address: str = "192.0.2.1"
) -> tuple[str, Principal]:
    return users.sign_in(database, name, password, address=address, key=KEY, session_seconds=3600)


def who(database: Database, token: str) -> Principal | None:
    return users.session_user(database, token, session_seconds=3600)


def test_a_sign_in_opens_a_session_that_a_sign_out_ends(database: Database) -> None:
    add(database)
    token, principal = sign_in(database, " Ana ")

    assert (principal.name, principal.role, principal.scopes) == ("user:ana", Role.OPERATOR, None)
    assert who(database, token) == principal
    users.sign_out(database, token)
    assert who(database, token) is None


def test_neither_password_nor_token_is_stored(database: Database) -> None:
    add(database)
    token, _ = sign_in(database)
    with database.read() as session:
        stored = session.scalars(select(User.password_hash)).one()
        assert stored.startswith("$argon2id$")
        assert session.scalars(select(UserSession.token_hash)).one() == hash_secret(token) != token


@pytest.mark.parametrize(("name", "password"), [("ana", "wrong password"), ("nobody", PASSWORD), ("a\x00na", PASSWORD)])
def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(database: Database, name: str, password: str) -> None:
    add(database)
    with pytest.raises(SignInRequired, match="user name or password is wrong"):
        sign_in(database, name, password)


def test_a_locked_account_is_out_at_once_and_cannot_sign_in(database: Database) -> None:
    add(database)
    token, _ = sign_in(database)
    with database.write() as session:
        users.disable_user(session, "ana", by="cli")
    assert who(database, token) is None
    with pytest.raises(SignInRequired):
        sign_in(database)


def test_an_unlocked_account_signs_in_with_its_old_password_and_its_old_sessions_stay_ended(database: Database) -> None:
    add(database)
    token, _ = sign_in(database)
    with database.write() as session:
        users.disable_user(session, "ana", by="cli")
        users.enable_user(session, "ana", by="cli")
    assert who(database, token) is None
    assert who(database, sign_in(database)[0]) is not None
    with database.write() as session, pytest.raises(Conflict, match="not disabled"):
        users.enable_user(session, "ana", by="cli")


def test_a_new_password_ends_every_session(database: Database) -> None:
    add(database)
    token, _ = sign_in(database)
    with database.write() as session:
        users.set_password(session, "ana", "another long one", by="cli")
    assert who(database, token) is None
    assert who(database, sign_in(database, password="another long one")[0]) is not None


def test_a_new_role_holds_for_open_sessions(database: Database) -> None:
    add(database)
    token, _ = sign_in(database)
    with database.write() as session:
        users.set_role(session, "ana", Role.VIEWER, by="cli")
    principal = who(database, token)
    assert principal is not None
    assert principal.role == Role.VIEWER


def test_a_session_lives_while_it_is_used_and_no_longer(database: Database) -> None:
    add(database)
    token, _ = sign_in(database)
    with database.write() as session:
        before = session.scalars(select(UserSession.expires_at)).one()
        session.execute(update(UserSession).values(last_seen_at=db_now(-users.TOUCH_SECONDS - 1.0)))
    users.session_user(database, token, session_seconds=7200)
    with database.write() as session:
        assert session.scalars(select(UserSession.expires_at)).one() > before + timedelta(minutes=50)
        session.execute(update(UserSession).values(expires_at=db_now(-1.0)))
    assert who(database, token) is None


def test_the_limit_per_name_holds_wherever_the_guesser_is_and_spares_others(database: Database) -> None:
    add(database)
    add(database, "bea")
    for number in range(users.LIMIT_PER_NAME):
        with pytest.raises(SignInRequired):
            sign_in(database, password="wrong password", address=f"192.0.2.{number}")
    with pytest.raises(TooManyRequests) as refused:
        sign_in(database)
    assert refused.value.retry_after > 0
    assert sign_in(database, "bea")[1].name == "user:bea"


def test_the_limit_per_address_holds_for_whatever_names(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "LIMIT_PER_ADDRESS", 3)
    add(database)
    for number in range(3):
        with pytest.raises(SignInRequired):
            sign_in(database, f"name{number}")
    with pytest.raises(TooManyRequests):
        sign_in(database)
    assert sign_in(database, address="192.0.2.2")


def test_a_right_password_forgets_the_wrong_ones_and_the_window_moves_on(database: Database) -> None:
    add(database)
    for _ in range(users.LIMIT_PER_NAME - 1):
        with pytest.raises(SignInRequired):
            sign_in(database, password="wrong password")
    sign_in(database)
    for _ in range(users.LIMIT_PER_NAME):
        with pytest.raises(SignInRequired):
            sign_in(database, password="wrong password")
    with database.write() as session:
        session.execute(update(SignInAttempt).values(at=db_now(-users.WINDOW_SECONDS - 1.0)))
    sign_in(database)


def test_many_guesses_at_one_moment_do_not_pass_the_limit(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(sqlite_url)
    add(database)
    together = threading.Barrier(6)
    tried: list[str] = []

    def slow(_stored: str | None, password: str) -> bool:
        tried.append(password)
        return False

    monkeypatch.setattr(users, "verify_password", slow)
    monkeypatch.setattr(users, "LIMIT_PER_NAME", 3)

    def guess() -> None:
        together.wait()
        with pytest.raises((SignInRequired, TooManyRequests)):
            sign_in(database, password="guess")

    threads = [threading.Thread(target=guess) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tried) == 3
    database.dispose()


def test_what_is_kept_of_a_failed_attempt_names_nobody(database: Database) -> None:
    with pytest.raises(SignInRequired):
        sign_in(database, "ana@example.org", "wrong password", "192.0.2.77")
    with database.read() as session:
        kept = session.scalars(select(SignInAttempt.subject)).all()
    assert len(kept) == 2
    assert all(len(subject) == 64 and "ana" not in subject for subject in kept)


@pytest.mark.parametrize("name", ["", "a", "-a", "a b", "x" * 61, "ana@example.org", "a\x00b"])
def test_a_name_that_is_none_is_refused(database: Database, name: str) -> None:
    with database.write() as session, pytest.raises(InvalidInput) as refused:
        users.create_user(session, name, PASSWORD, Role.VIEWER, by="cli")
    assert refused.value.field == "username"


@pytest.mark.parametrize("password", ["short", "x" * 201])
def test_a_password_too_short_or_too_long_is_refused(database: Database, password: str) -> None:
    with database.write() as session, pytest.raises(InvalidInput) as refused:
        users.create_user(session, "ana", password, Role.VIEWER, by="cli")
    assert refused.value.field == "password"


def test_a_taken_name_is_a_conflict_in_whatever_case(database: Database) -> None:
    add(database)
    with database.write() as session, pytest.raises(Conflict):
        users.create_user(session, "ANA", PASSWORD, Role.VIEWER, by="cli")


def test_the_last_administrator_stays(database: Database) -> None:
    add(database, "ana", Role.ADMIN)
    with database.write() as session:
        with pytest.raises(Conflict):
            users.set_role(session, "ana", Role.VIEWER, by="cli")
        with pytest.raises(Conflict):
            users.disable_user(session, "ana", by="cli")
    add(database, "bea", Role.ADMIN)
    with database.write() as session:
        users.set_role(session, "ana", Role.VIEWER, by="user:bea")


def test_an_unknown_user_or_role_is_named(database: Database) -> None:
    with database.read() as session, pytest.raises(NotFound, match="nobody"):
        users.find_user(session, "nobody")
    with pytest.raises(InvalidInput, match="viewer, reviewer, operator, admin"):
        users.parse_role("king")


def test_every_change_leaves_a_trail_without_secrets(database: Database) -> None:
    add(database, "ana", Role.ADMIN)
    add(database, "bea")
    with database.write() as session:
        users.set_role(session, "bea", Role.REVIEWER, by="user:ana")
        users.set_password(session, "bea", "another long one", by="user:ana")
        users.disable_user(session, "bea", by="user:ana")
        users.enable_user(session, "bea", by="user:ana")
    with database.read() as session:
        trail = session.scalars(select(AuditEntry).where(AuditEntry.object_id == "bea").order_by(AuditEntry.id)).all()
        made, *changed = (entry.action for entry in trail)
        assert made == "user.create"
        assert changed == ["user.role", "user.password", "user.disable", "user.enable"]
        assert (trail[1].before, trail[1].after) == ({"role": "operator"}, {"role": "reviewer"})
        everything = "".join(f"{entry.before}{entry.after}" for entry in trail)
        assert "another long one" not in everything
        assert "argon2" not in everything


def test_a_change_that_is_rolled_back_leaves_no_trail(database: Database) -> None:
    def add_and_fail() -> None:
        with database.write() as session:
            users.create_user(session, "ana", PASSWORD, Role.VIEWER, by="cli")
            raise RuntimeError("something else failed")

    with pytest.raises(RuntimeError):
        add_and_fail()
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(AuditEntry)) == 0


def test_a_role_may_all_that_the_ones_before_it_may() -> None:
    roles = list(Role)
    for at, role in enumerate(roles):
        person = Principal("user:ana", role)
        assert [person.may(other) for other in roles] == [True] * (at + 1) + [False] * (len(roles) - at - 1)
    with pytest.raises(Forbidden):
        Principal("user:ana", Role.VIEWER).require(Role.ADMIN)


def test_a_stranger_is_answered_no_sooner_than_a_wrong_password() -> None:
    """Or the time of an answer would tell which names there are. A hash that cannot be read is refused at once."""
    hasher = PasswordHasher()
    nobodys = passwords._hash_of_nobody(hasher)
    assert extract_parameters(nobodys) == extract_parameters(hasher.hash(PASSWORD))
    with pytest.raises(VerifyMismatchError):
        hasher.verify(nobodys, PASSWORD)
    assert nobodys != passwords._hash_of_nobody(hasher)
