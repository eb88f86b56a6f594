from __future__ import annotations

from pathlib import Path

import pytest

from sicargabox_core.errors import InvalidInput
from sicargabox_core.search.baseline import compare
from sicargabox_core.search.evaluate import Labelled, Outcome
from sicargabox_core.search.quality_report import Report


def outcomes(places: list[int | None], kind: str = "plain") -> list[Outcome]:
    return [
        Outcome(Labelled(f"query {number}", frozenset({"8518"}), kind=kind), place, 1, None)
        for number, place in enumerate(places)
    ]


def test_the_same_answers_are_no_loss() -> None:
    now = outcomes([1, 2, None, 7])
    assert not any(change.loss or change.lost or change.gained for change in compare(Report.of("tantivy", now), now))


def test_many_queries_lost_are_a_loss_and_a_few_beside_as_many_gained_are_not() -> None:
    then = Report.of("tantivy", outcomes([1] * 50 + [None] * 50))
    worse = compare(then, outcomes([None] * 20 + [1] * 30 + [None] * 50))
    assert {change.group for change in worse if change.loss} == {"all", "plain"}
    level = compare(then, outcomes([None] * 10 + [1] * 40 + [1] * 9 + [None] * 41))
    assert [(change.lost, change.gained, change.loss) for change in level] == [(10, 9, False)] * 4


def test_a_loss_at_the_first_place_is_seen_where_the_first_five_stay() -> None:
    then = Report.of("tantivy", outcomes([1] * 40))
    changes = compare(then, outcomes([3] * 40))
    assert {change.depth for change in changes if change.loss} == {1}


def test_queries_that_only_one_side_knows_are_left_out() -> None:
    then = Report.of("tantivy", outcomes([1, 1]))
    assert [change.lost for change in compare(then, outcomes([1, 1, None, None]))] == [0] * 4


def counted(number: int, right: int, kind: str = "plain") -> Report:
    """A report of which only counts are known; whichever half a query is in, both sides ask the same."""
    return Report.of("tantivy", outcomes([1] * right + [None] * (number - right), kind)).model_copy(
        update={"places": None}
    )


def test_against_counts_alone_many_lost_are_a_loss_and_few_are_not() -> None:
    then = counted(200, 190)
    assert not any(change.loss for change in compare(then, outcomes([1] * 185 + [None] * 15)))
    worse = compare(then, outcomes([1] * 160 + [None] * 40))
    assert {(change.group, change.depth) for change in worse if change.loss} == {
        (group, depth) for group in ("all", "plain") for depth in (1, 5)
    }
    assert [(change.lost, change.gained) for change in worse] == [(30, 0)] * 4
    better = compare(then, outcomes([1] * 200))
    assert [(change.lost, change.gained, change.loss) for change in better] == [(0, 10, False)] * 4


def test_counts_of_a_half_that_was_not_asked_again_are_no_loss() -> None:
    everything = outcomes([1] * 50 + [None] * 50)
    then = Report.of("tantivy", everything).model_copy(update={"places": None})
    half = [one for one in everything if one.labelled.counted]
    assert not any(change.lost or change.gained for change in compare(then, half))


def test_what_is_published_tells_of_no_query_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    written = Report.of("tantivy", outcomes([1, None]))
    written.write(path, counts_only=True)
    assert Report.read(path) == written.model_copy(update={"places": None})
    written.write(path, counts_only=False)
    assert Report.read(path) == written
    assert "query" not in path.read_text().replace("queries", "")


def test_a_file_that_is_no_baseline_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text("{}")
    for wrong in (path, tmp_path / "none.json"):
        with pytest.raises(InvalidInput, match="save-baseline"):
            Report.read(wrong)
