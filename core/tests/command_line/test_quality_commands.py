"""`evaluate` and `lexicon check`: what they print, and with which code they end."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from core.tests.command_line.commands import CommandLine
from core.tests.search.tariff import fill

from sicargabox_core.search.evaluate import OWN_SET, read_set

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


def test_bad_rows_are_named_with_their_lines_and_end_with_two(line: CommandLine, labelled: Path) -> None:
    labelled.write_bytes(b"\xef\xbb\xbfquery;headings\r\nbocina;8518\r\nmiel;409\r\n;8518\r\n")
    done = line.run("evaluate", "--set", str(labelled), "--half", "all")
    assert done.exit_code == 2
    assert "line 3: 409 lacks a digit; write 0409" in done.stderr
    assert "line 4: no query" in done.stderr


def test_queries_of_other_catalogues_are_left_out_and_counted(line: CommandLine, labelled: Path) -> None:
    with labelled.open("a") as file:
        file.write("miel,0409,es,plain\n")
    done = line.run("evaluate", "--set", str(labelled), "--half", "all", "--json")
    report = json.loads(done.stdout)
    assert (report["left_out"], report["scores"]["all"]["queries"]) == (1, 3)


def test_no_set_of_ours_and_no_baseline_tells_what_the_counted_half_missed(line: CommandLine, labelled: Path) -> None:
    done = line.run("evaluate", "--misses")
    assert done.exit_code == 0
    assert "Goals, on the counted half" in done.stdout
    counted = [one.query for one in read_set(OWN_SET) if one.counted and len(one.query) > 12]
    assert not [query for query in counted if query in done.stdout]


def test_another_installation_is_asked_no_faster_than_the_rate(line: CommandLine, labelled: Path) -> None:
    asked: list[float] = []

    class Installation(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(time.monotonic())
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"engine": "tantivy", "results": [{"code": "8518300000"}]}')

        def log_message(self, *_: object) -> None:
            """Nothing is to be read of it."""

    with HTTPServer(("127.0.0.1", 0), Installation) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = line.run("evaluate", "--set", str(labelled), "--half", "all", "--url", url, "--rate", "5")
        server.shutdown()
    assert done.exit_code == 0
    assert len(asked) == 3
    # At least, so no busy machine can break it; a request may be on its way a little longer than the next.
    assert asked[-1] - asked[0] >= 0.3


def test_our_vocabulary_on_a_tariff_that_lacks_most_of_its_headings_is_told(line: CommandLine, labelled: Path) -> None:
    done = line.run("lexicon", "check", "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert report["headings"] == 6
    assert not report["without_words"]
    assert any(one.startswith("8802 ") for one in report["unknown_codes"])
