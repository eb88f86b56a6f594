"""When readers leave Elasticsearch alone: at once when it is away, and only after several answers that were late."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sicargabox_core.errors import InvalidSetting, SicargaBoxError, Unavailable
from sicargabox_core.search.elasticsearch_breaker import MOST_LATE, ReaderBreaker
from sicargabox_core.search.elasticsearch_errors import Late, Refused

LATE = Late("not in time")


def failing(error: SicargaBoxError) -> Callable[[], None]:
    def question() -> None:
        raise error

    return question


def fails(breaker: ReaderBreaker, error: SicargaBoxError, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(Unavailable, match=error.message):
            breaker.ask(failing(error))


def test_late_answers_open_it_only_when_several_came_in_a_row() -> None:
    breaker = ReaderBreaker()
    fails(breaker, LATE, MOST_LATE - 1)
    assert not breaker.is_open
    assert breaker.ask(lambda: "answer") == "answer"
    fails(breaker, LATE, MOST_LATE - 1)
    assert not breaker.is_open
    fails(breaker, LATE)
    assert breaker.is_open


@pytest.mark.parametrize("error", [Unavailable("refused"), InvalidSetting("key", field="a", remedy="b")])
def test_a_server_that_is_away_or_not_ours_opens_it_at_once_and_the_reason_is_told(error: SicargaBoxError) -> None:
    breaker = ReaderBreaker()
    fails(breaker, error)
    assert breaker.is_open
    with pytest.raises(Unavailable, match=rf"{error.message} \(asked a moment ago\)"):
        breaker.ask(lambda: None)


def test_a_refusal_is_an_answer() -> None:
    breaker = ReaderBreaker()
    fails(breaker, LATE, MOST_LATE - 1)
    with pytest.raises(Refused):
        breaker.ask(failing(Refused("not found", kind="index_not_found_exception", status=404)))
    fails(breaker, LATE, MOST_LATE - 1)
    assert not breaker.is_open


def test_the_one_try_after_a_pause_opens_it_again_when_it_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sicargabox_core.search.elasticsearch_breaker._PAUSE_SECONDS", 0.0)
    breaker = ReaderBreaker()
    fails(breaker, Unavailable("refused"))
    fails(breaker, LATE)
    assert breaker.is_open
