"""How Elasticsearch is reached, and what people are told when it is not: words, never a library's."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sicargabox_core.errors import InvalidSetting, SicargaBoxError, Unavailable
from sicargabox_core.search.elasticsearch_client import connect, nodes, server_version
from sicargabox_core.search.elasticsearch_errors import Late
from sicargabox_core.settings import load_settings

CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Type: application/json\r\n\r\n{"


@contextmanager
def answering(answer: bytes | None) -> Iterator[str]:
    """The place of a server that gives one answer to whatever it is told and hangs up; without one it is silent."""
    ended = threading.Event()

    def serve() -> None:
        taken, _ = listening.accept()
        with taken:
            taken.recv(65_536)
            if answer is None:
                ended.wait(20)
            else:
                taken.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        thread.join()


def told(url: str) -> SicargaBoxError:
    with connect(load_settings(search_url=url), seconds=0.5) as client, pytest.raises(SicargaBoxError) as caught:
        server_version(client)
    assert caught.value.__cause__ is not None
    for word in ("Error(", "HTTPConnection", "RemoteDisconnected", "IncompleteRead", "_ssl.c", "Errno", "('", "b'"):
        assert word not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "the connection ended before there was an answer"),
        (CUT, "the connection ended in the middle of an answer"),
        (CUT.replace(b"100", b"1"), "answers what cannot be read"),
        (b"\x15\x03\x01 no HTTP", "does not speak HTTP"),
    ],
)
def test_an_answer_that_is_none_is_told_in_words(answer: bytes, words: str) -> None:
    with answering(answer) as place:
        error = told(f"http://{place}")
    assert type(error) is Unavailable
    assert words in str(error)
    assert "SICARGABOX_SEARCH_URL" in str(error)


def test_silence_is_late_and_nothing_else_is() -> None:
    with answering(None) as place:
        assert type(told(f"http://{place}")) is Late


def test_an_address_where_nobody_listens_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert "nobody listens at its address" in str(told(f"http://127.0.0.1:{port}"))


def test_a_name_that_no_server_has_is_told_in_words() -> None:
    assert "no server has the name" in str(told("http://nobody.invalid:9200"))


def test_https_to_a_server_of_plain_http_is_an_error_of_its_address() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as place:
        error = told(f"https://{place}")
    assert error.field == "SICARGABOX_SEARCH_URL"
    assert "plain HTTP" in str(error)
    assert "CA_FILE" not in str(error)


@pytest.mark.parametrize("url", ["http://a:9200;", ";http://a:9200", "http://a:9200;;http://b:9200", "http://a:9200; "])
def test_an_empty_part_of_the_address_is_named(url: str) -> None:
    with pytest.raises(InvalidSetting, match="a part of it is empty") as caught:
        nodes(load_settings(search_url=url))
    assert caught.value.field == "SICARGABOX_SEARCH_URL"


def test_requests_are_no_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("elastic_transport").setLevel(logging.NOTSET)
    with caplog.at_level(logging.INFO), answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as place:
        told(f"http://{place}")
    assert [record.name for record in caplog.records if record.levelno < logging.WARNING] == []
