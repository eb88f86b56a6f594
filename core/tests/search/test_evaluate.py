from __future__ import annotations

from pathlib import Path

import pytest

from sicargabox_core.errors import InvalidInput
from sicargabox_core.search.evaluate import Labelled, Share, measure, read_set, score


def test_a_heading_counts_once_at_its_first_line_s_place() -> None:
    answers = {"a": ["8518300000", "8518290000", "8517130000"], "b": ["0101210000"], "c": []}
    outcomes = measure(
        [Labelled("a", frozenset({"8517"})), Labelled("b", frozenset({"0101"})), Labelled("c", frozenset({"0101"}))],
        answers.__getitem__,
    )
    assert [outcome.place for outcome in outcomes] == [2, 1, None]
    figures = score(outcomes)
    assert (figures.queries, figures.hit1.value, figures.hit5.value, figures.none.value) == (3, 1 / 3, 2 / 3, 1 / 3)
    assert figures.mrr == pytest.approx(0.5)


@pytest.mark.parametrize(("hits", "total"), [(0, 0), (0, 10), (10, 10), (7, 10), (900, 1000)])
def test_an_interval_holds_its_share_and_stays_between_none_and_all(hits: int, total: int) -> None:
    share = Share.of(hits, total)
    assert 0 <= share.low <= share.value <= share.high <= 1 or total == 0
    assert Share.of(70, 100).high - Share.of(70, 100).low > Share.of(700, 1000).high - Share.of(700, 1000).low


@pytest.mark.parametrize(
    "content", ["q,headings\nx,8518\n", "query,headings\nx,\n", "query,headings\n,8518\n", "query,headings\nx,85\n"]
)
def test_a_set_that_is_not_one_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "set.csv"
    path.write_text(content)
    with pytest.raises(InvalidInput):
        read_set(path)


def test_language_and_kind_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "set.csv"
    path.write_text("query,headings\naudífonos,8518|9021\n")
    assert read_set(path) == [Labelled("audífonos", frozenset({"8518", "9021"}))]
