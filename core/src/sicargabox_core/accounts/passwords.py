"""Hashing of passwords (Argon2id) and of random secrets (SHA-256, enough for 256 random bits)."""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from sicargabox_core.errors import InvalidInput


def _hash_of_nobody(hasher: PasswordHasher) -> str:
    """A hash that takes as long to verify as the hasher's own, of no known password.

    Written, not computed: computing one cost every process 0.3 s of its start, whether or not anybody signs in there.
    """
    salt, digest = (
        b64encode(secrets.token_bytes(length)).decode().rstrip("=") for length in (hasher.salt_len, hasher.hash_len)
    )
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${costs}${salt}${digest}"


_hasher = PasswordHasher()
# Verified against when the user name is unknown, so that its answer takes as long as a wrong password's.
_NOBODY = _hash_of_nobody(_hasher)
MIN_LENGTH = 10


def hash_password(password: str) -> str:
    """The Argon2id hash of a password of at least ``MIN_LENGTH`` letters; shorter ones raise ``InvalidInput``."""
    if len(password) < MIN_LENGTH:
        raise InvalidInput(f"at least {MIN_LENGTH} letters are needed", field="password", remedy="Choose a longer one.")
    if len(password) > 200:
        raise InvalidInput("at most 200 letters are taken", field="password", remedy="Choose a shorter one.")
    return _hasher.hash(password)


def verify_password(stored: str | None, password: str) -> bool:
    """Whether ``password`` is the one; takes the same time when there is no such user (``stored`` is ``None``)."""
    try:
        _hasher.verify(stored or _NOBODY, password)
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


def new_secret(prefix: str = "") -> str:
    """256 random bits as URL-safe text."""
    return prefix + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """What is stored of a secret. Looking a row up by it needs no constant-time compare: the hash is not guessable."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
