"""Writer and reader as the product has them: separate processes over one index, killed and stopped at will."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from core.tests.search.tariff import LINES, add_keyword, build

from sicargabox_core.db import Database
from sicargabox_core.search import indexing
from sicargabox_core.search.engine import SearchEngine
from tests.search_laws.place import Place
from tests.settings import REPOSITORY

Actor = subprocess.Popen[str]


def said(actor: Actor) -> str:
    assert actor.stdout is not None
    return actor.stdout.readline().strip()


def go_on(actor: Actor) -> None:
    assert actor.stdin is not None
    actor.stdin.write("\n")
    actor.stdin.flush()


class ProcessLaws:
    """What happens between processes."""

    @pytest.fixture
    def start(self, engine: SearchEngine, place: Place) -> Iterator[Callable[..., Actor]]:
        """Starts an actor process over the engine's place; all are ended after the test."""
        started: list[Actor] = []

        def start_one(command: str, *arguments: str) -> Actor:
            actor = subprocess.Popen(
                [sys.executable, "-m", "tests.search_laws.actor", command, place.address, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=REPOSITORY,
            )
            started.append(actor)
            return actor

        yield start_one
        for actor in started:
            actor.kill()
            actor.communicate()

    def test_a_reader_never_meets_a_moment_without_results(
        self, sqlite_catalogue: Database, engine: SearchEngine, start: Callable[..., Actor]
    ) -> None:
        """A reader asks without pause while ten generations come and go and lines are updated in between."""
        build(sqlite_catalogue, engine, "g0")
        reader = start("read")
        assert said(reader) == "reading"
        for number in range(1, 11):
            build(sqlite_catalogue, engine, f"g{number}")
            indexing.update(sqlite_catalogue, engine, ["8517130000", "6404"])
        output, _ = reader.communicate(timeout=60)
        seen = json.loads(output)
        assert set(seen["answers"]) == {"whole"}
        assert len(seen["generations"]) > 1

    def test_a_reader_notices_another_process_s_generation_at_its_next_question(
        self, sqlite_catalogue: Database, engine: SearchEngine, sqlite_url: str, start: Callable[..., Actor]
    ) -> None:
        build(sqlite_catalogue, engine)
        assert not engine.vocabulary().knows("telefonito")
        add_keyword(sqlite_catalogue, "8517130000", "telefonito")
        writer = start("rebuild", sqlite_url, "nowhere")
        assert said(writer) == "done"
        assert engine.vocabulary().knows("telefonito")
        assert engine.status().generation == "actor"

    @pytest.mark.parametrize("moment", ["half", "publish"])
    def test_a_writer_killed_in_mid_rebuild_leaves_the_old_index(
        self,
        sqlite_catalogue: Database,
        engine: SearchEngine,
        place: Place,
        sqlite_url: str,
        start: Callable[..., Actor],
        moment: str,
    ) -> None:
        build(sqlite_catalogue, engine)
        writer = start("rebuild", sqlite_url, moment)
        assert said(writer) == moment
        writer.send_signal(signal.SIGKILL)
        writer.wait(20)
        status = place.engine().status()
        assert (status.generation, status.documents, status.building) == ("first", len(LINES), ["actor"])
        # Its lock died with it, and the next rebuild removes what it left.
        assert indexing.update(sqlite_catalogue, engine, ["8517130000"]).updated == 1
        build(sqlite_catalogue, engine, "second")
        assert place.generations() == {"first", "second"}

    def test_a_stopped_writer_s_generation_never_serves_after_another_s(
        self,
        sqlite_catalogue: Database,
        engine: SearchEngine,
        place: Place,
        sqlite_url: str,
        start: Callable[..., Actor],
    ) -> None:
        """Its attempt is fenced by the task's row; here even without that its folder is gone when it wakes."""
        build(sqlite_catalogue, engine)
        writer = start("rebuild", sqlite_url, "half")
        assert said(writer) == "half"
        writer.send_signal(signal.SIGSTOP)
        build(sqlite_catalogue, engine, "second")
        writer.send_signal(signal.SIGCONT)
        go_on(writer)
        output, _ = writer.communicate(timeout=30)
        assert "done" not in output
        assert writer.returncode != 0
        assert engine.status().generation == "second"
        assert place.generations() == {"first", "second"}
        assert engine.status().documents == len(LINES)
