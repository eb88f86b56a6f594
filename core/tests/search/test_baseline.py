from __future__ import annotations

from pathlib import Path

import pytest

from sicargabox_core.errors import InvalidInput
from sicargabox_core.search.baseline import Baseline, compare
from sicargabox_core.search.evaluate import Labelled, Outcome


def outcomes(places: list[int | None], kind: str = "plain") -> list[Outcome]:
    return [
        Outcome(Labelled(f"query {number}", frozenset({"8518"}), kind=kind), place, 1, None)
        for number, place in enumerate(places)
    ]


def test_the_same_answers_are_no_loss() -> None:
    now = outcomes([1, 2, None, 7])
    assert not any(change.loss or change.lost or change.gained for change in compare(Baseline.of("tantivy", now), now))


def test_many_queries_lost_are_a_loss_and_a_few_beside_as_many_gained_are_not() -> None:
    then = Baseline.of("tantivy", outcomes([1] * 50 + [None] * 50))
    worse = compare(then, outcomes([None] * 20 + [1] * 30 + [None] * 50))
    assert {change.group for change in worse if change.loss} == {"all", "plain"}
    level = compare(then, outcomes([None] * 10 + [1] * 40 + [1] * 9 + [None] * 41))
    assert [(change.lost, change.gained, change.loss) for change in level] == [(10, 9, False)] * 4


def test_a_loss_at_the_first_place_is_seen_where_the_first_five_stay() -> None:
    then = Baseline.of("tantivy", outcomes([1] * 40))
    changes = compare(then, outcomes([3] * 40))
    assert {change.depth for change in changes if change.loss} == {1}


def test_queries_that_only_one_side_knows_are_left_out() -> None:
    then = Baseline.of("tantivy", outcomes([1, 1]))
    assert [change.lost for change in compare(then, outcomes([1, 1, None, None]))] == [0] * 4


def test_a_baseline_is_read_back_and_tells_no_query(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    written = Baseline.of("tantivy", outcomes([1, None]))
    path.write_text(written.model_dump_json())
    assert Baseline.read(path) == written
    assert "query" not in path.read_text()
    path.write_text("{}")
    with pytest.raises(InvalidInput, match="save-baseline"):
        Baseline.read(path)
    with pytest.raises(InvalidInput):
        Baseline.read(tmp_path / "none.json")
