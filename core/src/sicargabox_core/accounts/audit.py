"""The audit trail: one row for each change a person or program makes."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy.orm import Session

from sicargabox_core.accounts.models import AuditEntry


def record(
    session: Session,
    *,
    actor: str,
    action: str,
    object_type: str,
    object_id: str | int,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Writes one entry in the caller's transaction, so that a change and its trail are committed together."""
    session.add(
        AuditEntry(
            actor=actor,
            action=action,
            object_type=object_type,
            object_id=str(object_id),
            before=before,
            after=after,
            request_id=structlog.contextvars.get_contextvars().get("request_id"),
        )
    )
