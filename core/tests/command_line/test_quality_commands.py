"""`evaluate` and `lexicon check`: what they print, and with which code they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from core.tests.command_line.commands import CommandLine
from core.tests.search.tariff import fill

SET = "query,headings,lang,kind\nbocina,8518,es,plain\nlámina de plástico,3921,es,plain\nzqxjkv,6404,es,typo\n"


@pytest.fixture
def labelled(line: CommandLine, tmp_path: Path) -> Path:
    fill(line.database)
    path = tmp_path / "set.csv"
    path.write_text(SET, encoding="utf-8")
    return path


def test_a_set_is_measured_and_its_outcome_kept_to_compare_with(line: CommandLine, labelled: Path) -> None:
    kept = labelled.with_name("baseline.json")
    done = line.run("evaluate", "--set", str(labelled), "--half", "all", "--save-baseline", str(kept), "--json")
    assert done.exit_code == 0
    scores = json.loads(done.stdout)["scores"]
    assert scores["all"]["queries"] == 3
    assert scores["kind typo"]["none"]["value"] == 1
    again = line.run("evaluate", "--set", str(labelled), "--half", "all", "--baseline", str(kept))
    assert again.exit_code == 0
    assert "Against the baseline" in again.stdout


def test_more_lost_than_chance_explains_ends_with_one(line: CommandLine, labelled: Path) -> None:
    rows = [f"zqxjkv{number},8518,es,plain" for number in range(40)]
    labelled.write_text("query,headings,lang,kind\n" + "\n".join(rows) + "\n")
    kept = labelled.with_name("baseline.json")
    assert line.run("evaluate", "--set", str(labelled), "--half", "all", "--save-baseline", str(kept)).exit_code == 0
    once = json.loads(kept.read_text())
    kept.write_text(json.dumps({**once, "places": dict.fromkeys(once["places"], 1)}))
    done = line.run("evaluate", "--set", str(labelled), "--half", "all", "--baseline", str(kept))
    assert done.exit_code == 1
    assert "LOSS" in done.stdout


@pytest.mark.parametrize("arguments", [("--set", "none.csv"), ("--baseline", "none.json")])
def test_a_file_that_is_none_is_one_line_and_two(line: CommandLine, labelled: Path, arguments: tuple[str, ...]) -> None:
    done = line.run("evaluate", *(arguments if "--set" in arguments else ("--set", str(labelled), *arguments)))
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_our_vocabulary_on_a_tariff_that_lacks_most_of_its_headings_is_told(line: CommandLine, labelled: Path) -> None:
    done = line.run("lexicon", "check", "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert report["headings"] == 6
    assert not report["without_words"]
    assert any(one.startswith("8802 ") for one in report["unknown_codes"])
