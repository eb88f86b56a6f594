"""Puts what was measured into a document of ours. Knows nothing of what it says."""

from __future__ import annotations

from pathlib import Path


def put_between(document: Path, begin: str, end: str, made: str) -> None:
    """Puts ``made`` between the two marks of the document, instead of what stood there.

    Raises ``ValueError`` without the marks.
    """
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, also, after = rest.partition(end)
    if not found or not also:
        raise ValueError(f"{document} lacks the marks {begin} and {end}")
    document.write_text(f"{before}{begin}\n{made}\n{end}{after}", encoding="utf-8")
