"""What Elasticsearch and its client say when something is wrong, as the errors of this product.

The one place that knows their exceptions. Messages name the server's reason, never an address with a password or a key.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, IncompleteRead
from typing import Any

from elasticsearch import (
    ApiError,
    ConnectionTimeout,
    SSLError,
    TransportError,
    UnsupportedProductError,
)
from elasticsearch import ConnectionError as NotConnected

from sicargabox_core.errors import InvalidSetting, SicargaBoxError, TaskFailed, Unavailable
from sicargabox_core.settings import ENV_PREFIX

# The client speaks the protocol of its own major version and of no other.
MAJOR = 9
# The HTTP status of what is not there.
GONE = 404
_BLOCKED = "cluster_block_exception"
_BUSY = frozenset({429, 502, 503, 504})
_PLAIN_HTTP = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
_NOT_REACHED: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "no server has the name in its address"),
    (ConnectionRefusedError, "nobody listens at its address"),
    (ConnectionError, "the connection ended before there was an answer"),
    (IncompleteRead, "the connection ended in the middle of an answer"),
    (HTTPException, "what answers there does not speak HTTP; Elasticsearch with TLS has an address of https://"),
    (OSError, "no way leads to its address"),
)


class Refused(TaskFailed):
    """Elasticsearch understood the request and does not do it; ``kind`` is its name for the reason."""

    def __init__(self, message: str, *, kind: str, status: int, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.kind = kind
        self.status = status


class Late(Unavailable):
    """No answer came in time: the server hangs, or has one slow moment."""


@contextmanager
def clear_errors() -> Iterator[None]:
    """Raises errors of ours instead of the client's: ``Unavailable``, ``InvalidSetting`` or ``Refused``."""
    try:
        yield
    except (ApiError, TransportError) as error:
        raise translated(error) from error


def translated(error: ApiError | TransportError) -> SicargaBoxError:
    """The error of ours that says what the client's means."""
    if isinstance(error, UnsupportedProductError):
        return not_elasticsearch()
    if isinstance(error, ApiError):
        return refused(error.status_code, _cause(error.body))
    if isinstance(error, SSLError):
        return _no_trust(error)
    if isinstance(error, ConnectionTimeout):
        return Late("Elasticsearch does not answer in time", remedy=_LOOK)
    if isinstance(error, NotConnected):
        return Unavailable(_why_not_reached(error), remedy=_LOOK)
    return Unavailable("Elasticsearch answers what cannot be read", remedy=_LOOK)


_LOOK = f"Look whether it runs, and at {ENV_PREFIX}SEARCH_URL."


def refused(status: int, cause: Mapping[str, Any]) -> SicargaBoxError:
    """The error for an answer, or one item of a bulk's, that is not a success."""
    kind, reason = str(cause.get("type", "error")), str(cause.get("reason", "no reason given"))
    if kind == _BLOCKED:
        return Unavailable(
            f"Elasticsearch takes no writes: {reason}",
            remedy="Look at the disk space of its nodes: above its flood-stage watermark an index is read-only until "
            "there is room; or its administrator has blocked it.",
        )
    if kind == "version_conflict_engine_exception":
        return Unavailable("another process wrote the same part of the index later: this one was stopped or too slow")
    if status in _BUSY:
        return Unavailable(f"Elasticsearch cannot answer now ({kind}: {reason})", remedy="Look at its health.")
    if status == 401:
        return InvalidSetting(
            "Elasticsearch does not accept the API key or password",
            field=f"{ENV_PREFIX}SEARCH_API_KEY",
            remedy=f"Set it, or {ENV_PREFIX}SEARCH_USERNAME and {ENV_PREFIX}SEARCH_PASSWORD, to one that it knows.",
        )
    if status == 403:
        return InvalidSetting(
            f"Elasticsearch does not allow it: {reason}",
            field=f"{ENV_PREFIX}SEARCH_API_KEY",
            remedy="Give it all rights on the indexes named after the alias, and `monitor` on the cluster.",
        )
    if kind == "media_type_header_exception":
        return wrong_version("another")
    if status >= 500:
        return Unavailable(f"Elasticsearch failed ({kind}: {reason})", remedy="Look at its log.")
    return Refused(f"Elasticsearch refused it ({kind}: {reason})", kind=kind, status=status)


def not_elasticsearch() -> InvalidSetting:
    """For something else at the address."""
    return InvalidSetting(
        "what answers there is not Elasticsearch",
        field=f"{ENV_PREFIX}SEARCH_URL",
        remedy="Name an Elasticsearch of Elastic; other servers with its protocol are not supported.",
    )


def wrong_version(version: str) -> InvalidSetting:
    """For a server of another major version than the client speaks."""
    return InvalidSetting(
        f"Elasticsearch there is of version {version}, and this release speaks with version {MAJOR}",
        field=f"{ENV_PREFIX}SEARCH_URL",
        remedy=f"Name a server of version {MAJOR}, or install the release of SicargaBox for that one.",
    )


def _cause(body: object) -> Mapping[str, Any]:
    error = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(error, Mapping):
        causes = error.get("root_cause")
        # "all shards failed" says nothing; the reason of the first shard does.
        return causes[0] if isinstance(causes, list) and causes else error
    return {"type": "error", "reason": str(error or "no reason given")[:200]}


def _no_trust(error: SSLError) -> Unavailable:
    causes = list(_causes(error))
    if any(getattr(cause, "reason", None) in _PLAIN_HTTP for cause in causes):
        return Unavailable(
            "what answers there speaks plain HTTP, and the address begins with https://",
            field=f"{ENV_PREFIX}SEARCH_URL",
            remedy="Have Elasticsearch speak TLS; or write http:// where only a network of your own lies between.",
        )
    # OpenSSL's own words ("self-signed certificate", "Hostname mismatch, …"), which a search engine finds.
    why = next((cause.verify_message for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
    return Unavailable(
        f"no trusted connection to Elasticsearch: {why or 'its side and ours do not agree on TLS'}",
        field=f"{ENV_PREFIX}SEARCH_CA_FILE",
        remedy="Name the file with the certificates that sign Elasticsearch's own.",
    )


def _why_not_reached(error: NotConnected) -> str:
    for cause in _causes(error):
        for kind, why in _NOT_REACHED:
            if isinstance(cause, kind):
                return f"Elasticsearch cannot be reached: {why}"
    return "Elasticsearch cannot be reached"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What led to an error, nearest first. The libraries' texts name their own classes: nothing for people."""
    cause: BaseException | None = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
