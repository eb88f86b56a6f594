"""What a search engine does for us: fetch candidates. It orders nothing that people see; ``ranking`` does.

Two engines implement the protocol with the same laws (one conformance suite): a rebuild is a new *generation* that is
proved complete before it is put into service in one step, readers never meet a moment without results, and updates
made while a generation is being built are in it when it serves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from sicargabox_core.errors import InvalidInput
from sicargabox_core.search.document import TariffDocument
from sicargabox_core.search.vocabulary import Vocabulary

MOST_CANDIDATES = 200
# They decide which lines are fetched, never their order on the page. One set for both engines: they fetch the same.
PHRASE_WEIGHT, TERM_WEIGHT, OWN_WEIGHT, PARENT_WEIGHT = 6.0, 3.0, 2.0, 0.7

_GENERATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_generation(name: str) -> None:
    """Raises ``InvalidInput`` for a name that could lead elsewhere than to a generation's own place."""
    if not _GENERATION.fullmatch(name):
        raise InvalidInput(
            "not a name for a generation", field="generation", remedy="Use letters, digits, dots and dashes."
        )


class Candidate(NamedTuple):
    """A line an engine found, with the blocks of its document's evidence (see ``evidence``)."""

    code: str
    evidence: tuple[str, ...]


class Completion(NamedTuple):
    """A phrase that begins as typed; ``lines`` tells how many tariff lines it leads to."""

    text: str
    language: str
    lines: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """What to fetch: lines at or below ``code``, or lines whose stems or whole phrases occur here."""

    code: str | None = None
    stems: tuple[tuple[str, float], ...] = ()
    phrases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Filters:
    """Only lines of this courier category and of this chapter (two digits)."""

    category: str | None = None
    chapter: str | None = None


@dataclass(frozen=True, slots=True)
class Replaced:
    """What an update did in the serving generation."""

    updated: int
    deleted: int


# green: all is well; yellow: it answers, with no copy to spare; red: the engine answers, but no index of ours can
# (none was built yet, or it is damaged); away: the engine does not answer.
Health = Literal["green", "yellow", "red", "away"]


# Why there is no index to answer from, or what is wrong with the one there is; people are told what to do by it.
# no_index: none was built yet; unreadable: its files or what is known of it; lost_part: of its documents;
# other_mapping: it answers, and takes no updates; several_indexes: more than one serves; name_taken: by an index that
# is none of ours; setting: an address, key or password is wrong; away: the engine does not answer.
Fault = Literal[
    "no_index", "unreadable", "lost_part", "other_mapping", "several_indexes", "name_taken", "setting", "away"
]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was counted before a generation was put into service.

    ``held`` may be more or less than ``given`` by what updates changed while it was being built.
    """

    given: int
    held: int

    def __str__(self) -> str:
        return f"{self.given:,} documents given, {self.held:,} held"


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation that an engine holds; ``size`` in bytes, ``built_at`` in ISO 8601. None: cannot be known."""

    name: str
    role: Literal["serving", "previous", "building"]
    documents: int | None = None
    size: int | None = None
    built_at: str | None = None


@dataclass(frozen=True)
class EngineStatus:
    """How an engine is; sizes in bytes. ``ready`` is false when there is no generation to answer from.

    ``version`` is the server's, or the library's; ``generations`` names the serving one first, then the previous one,
    then those being built. ``problem`` is for people, and says what to do; ``fault`` is its kind, for programs and
    other languages.
    """

    engine: str
    ready: bool
    documents: int = 0
    size: int = 0
    generation: str | None = None
    previous: str | None = None
    number: int = 0
    built_at: str | None = None
    seconds: float | None = None
    proof: Proof | None = None
    building: list[str] = field(default_factory=list)
    problem: str | None = None
    fault: Fault | None = None
    health: Health = "away"
    version: str | None = None
    generations: list[Generation] = field(default_factory=list)


OnProgress = Callable[[int], None]
Publish = Callable[[], AbstractContextManager[object]]


class SearchEngine(Protocol):
    """The interface. Every method raises ``Unavailable`` when the engine cannot answer."""

    name: str

    def rebuild(
        self, documents: Iterable[TariffDocument], *, generation: str, on_progress: OnProgress, publish: Publish
    ) -> int:
        """Builds ``generation`` from the documents and puts it into service; returns its number of documents.

        ``on_progress`` is called between batches with the number so far and may raise to stop. What others can notice
        (removing leftovers at the beginning, the switch at the end) happens inside ``publish()``, which raises when
        this attempt has no right to it any more. Whatever goes wrong, the new
        generation is removed and the old one goes on serving. Raises ``TaskFailed`` when there are no documents or
        the engine does not hold as many as it was given.
        """
        ...

    def replace(self, codes: Sequence[str], documents: Iterable[TariffDocument]) -> Replaced:
        """Replaces everything at or below ``codes`` by these documents, here and in a generation being built.

        ``documents`` is read only once the engine has the right to write, so that of two updates the one that writes
        later has also read later.
        """
        ...

    def delete(self, expected: str, *, publish: Publish) -> int:
        """Removes the index with all its generations; returns how many documents served.

        Happens inside ``publish()``, as the switch of a rebuild does. Where no index is, nothing happens and 0 is
        returned, so that a second attempt ends well. Raises ``Conflict`` (field ``generation``) when another
        generation than ``expected`` serves: somebody rebuilt since the one who asks looked.
        """
        ...

    def vocabulary(self) -> Vocabulary:
        """The words of the serving generation."""
        ...

    def candidates(self, lookup: Lookup, limit: int, filters: Filters) -> list[Candidate]:
        """At most ``limit`` (≤ 200) lines that may answer, in no order that matters."""
        ...

    def suggest(self, prefix: str, limit: int) -> list[Completion]:
        """Phrases that begin with ``prefix`` (folded), the most useful first."""
        ...

    def status(self) -> EngineStatus:
        """How the engine is; never raises for an engine that is away."""
        ...

    def hashes(self) -> Iterator[tuple[str, str]]:
        """Code and content hash of every document that serves."""
        ...
