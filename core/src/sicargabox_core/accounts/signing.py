"""The key that signs CSRF cookies and turns visitors and addresses into unlinkable hashes."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from sicargabox_core.settings import Settings


def signing_key(settings: Settings) -> bytes:
    """The key of the settings or, in development, one generated once into the data folder (mode 0600).

    Safe when several processes start at once: the first to link its file wins and all read that one.
    """
    given = settings.secret_key.get_secret_value()
    if given:
        return hashlib.sha256(given.encode()).digest()
    path = settings.data_dir / "secret.key"
    if not path.exists():
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".secret.key.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32))
        _link_first(draft, path)
        draft.unlink()
    return bytes.fromhex(path.read_text().strip())


def _link_first(draft: Path, path: Path) -> None:
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return


def keyed_hash(key: bytes, purpose: str, value: str) -> str:
    """A hash of ``value`` that only holders of the key can compute; ``purpose`` keeps uses apart."""
    return hmac.new(key, f"{purpose}:{value}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
