"""How Elasticsearch is reached: addresses, sign-in and certificates by the settings.

A client connects at its first request. None repeats a request by itself: the caller knows whether a second try is
worth a user's wait. Only where there are several nodes one more is asked when the first refuses the connection.
"""

from __future__ import annotations

import base64
import logging
import ssl
from typing import Any
from urllib.parse import urlsplit

from elasticsearch import Elasticsearch

from sicargabox_core.errors import InvalidSetting
from sicargabox_core.search.elasticsearch_errors import (
    MAJOR,
    Refused,
    clear_errors,
    not_elasticsearch,
    wrong_version,
)
from sicargabox_core.settings import ENV_PREFIX, Settings

_PORT = 9200
# A process asks with the threads of its web server; connections above this number are made anew for each request.
_CONNECTIONS = 40


def nodes(settings: Settings) -> list[str]:
    """The addresses of the nodes. Raises ``InvalidSetting`` for one that is none."""
    found = []
    for part in settings.search_url.split(";"):
        if not part.strip():
            raise _not_an_address("a part of it is empty; no ; stands at its beginning or end, or twice")
        parsed = urlsplit(part.strip())
        try:
            port = parsed.port or _PORT
        except ValueError as error:
            raise _not_an_address(str(error)) from error
        if parsed.scheme not in ("http", "https") or not parsed.hostname:
            raise _not_an_address("expected http:// or https:// with a host")
        if parsed.username or parsed.password:
            raise _not_an_address("a password in an address ends in logs")
        if parsed.query or parsed.fragment:
            raise _not_an_address("nothing may follow host, port and path")
        host = f"[{parsed.hostname}]" if ":" in parsed.hostname else parsed.hostname
        found.append(f"{parsed.scheme}://{host}:{port}{parsed.path.rstrip('/')}")
    if len({address.partition(":")[0] for address in found}) > 1:
        raise _not_an_address("all nodes are spoken to over TLS or none is")
    return found


def _not_an_address(why: str) -> InvalidSetting:
    return InvalidSetting(
        f"not an address of Elasticsearch: {why}",
        field=f"{ENV_PREFIX}SEARCH_URL",
        remedy=f"Use https://host:port, several with ; between them; a user goes into {ENV_PREFIX}SEARCH_USERNAME.",
    )


def connect(settings: Settings, *, seconds: float) -> Elasticsearch:
    """A client whose requests end after ``seconds``. Raises ``InvalidSetting`` for settings that cannot be."""
    addresses = nodes(settings)
    # It tells of each request at INFO: several lines for each search. What failed is told by us, once.
    logging.getLogger("elastic_transport").setLevel(logging.WARNING)
    options: dict[str, Any] = {}
    if settings.effective_search_api_key:
        options["api_key"] = settings.effective_search_api_key
    elif settings.search_username:
        # Encoded here: the client takes ASCII alone, and dies of any other password.
        signs_in = f"{settings.search_username}:{settings.effective_search_password}".encode()
        options["basic_auth"] = base64.b64encode(signs_in).decode()
    if settings.search_ca_file:
        _check_certificates(settings.search_ca_file)
        options["ca_certs"] = settings.search_ca_file
    return Elasticsearch(
        addresses,
        request_timeout=seconds,
        max_retries=1 if len(addresses) > 1 else 0,
        retry_on_timeout=False,
        retry_on_status=(),
        connections_per_node=_CONNECTIONS,
        **options,
    )


def _check_certificates(path: str) -> None:
    # The client would find out at its first request, and say that the server cannot be reached.
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        raise InvalidSetting(
            f"{path} holds no certificate that can be read",
            field=f"{ENV_PREFIX}SEARCH_CA_FILE",
            remedy="Name a file with certificates in PEM form.",
        ) from error


def server_version(client: Elasticsearch) -> str:
    """The version of the server. Raises ``InvalidSetting`` when it is one that this release cannot speak with."""
    try:
        with clear_errors():
            # An older server answers with an error alone what asks for our protocol's version, as the client makes
            # every "application/json" do.
            told = client.perform_request("GET", "/", headers={"accept": "*/*"})
    except Refused as error:
        raise not_elasticsearch() from error
    version = str(told["version"]["number"])
    if version.partition(".")[0] != str(MAJOR):
        raise wrong_version(version)
    return version
