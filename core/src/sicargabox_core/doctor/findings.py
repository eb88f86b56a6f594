"""What a check says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """FAULT: something does not work. WARNING: it works, and somebody should look. UNKNOWN: it could not be seen."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``detail`` says how it is, ``remedy`` (of warnings and faults) what to do."""

    check: str
    status: Status
    detail: str
    remedy: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """All findings; ``ok``: none is a fault."""

    ok: bool
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Diagnosis:
        """The diagnosis these findings make."""
        found = tuple(findings)
        return cls(ok=all(one.status is not Status.FAULT for one in found), findings=found)


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, Status.OK, detail)


def warning(check: str, detail: str, remedy: str) -> Finding:
    """It works, and somebody should look."""
    return Finding(check, Status.WARNING, detail, remedy)


def fault(check: str, detail: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(check, Status.FAULT, detail, remedy)


def unknown(check: str, detail: str) -> Finding:
    """It could not be seen, because something that has a finding of its own is away."""
    return Finding(check, Status.UNKNOWN, detail)
