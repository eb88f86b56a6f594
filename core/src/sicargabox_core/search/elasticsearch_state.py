"""The small index beside the generations: the writers' lock, what is known of each generation, and the journal.

    <alias>-state
        lock                        who may write, until when; its token only grows
        record/<index>              of a generation: documents, proof, when it was built, the vocabulary
        journal/<index>/<token>/<n> an update made while that generation was being built

The lock's clock is the server's, so clocks of machines may differ. Its holder may be stopped longer than the lock
lasts and go on as if nothing had happened: therefore every write carries the lock's token as its version, and
Elasticsearch refuses the write of a lower one.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from elasticsearch import Elasticsearch
from pydantic import BaseModel, ConfigDict, ValidationError, field_serializer, field_validator

from sicargabox_core.errors import DataFault, Unavailable
from sicargabox_core.search.elasticsearch_errors import Refused, clear_errors
from sicargabox_core.search.engine import Proof
from sicargabox_core.search.vocabulary import Vocabulary

WAIT_SECONDS = 30.0
_POLL = 0.05
_LOCK = "lock"
_PAGE = 20
_UNSEARCHED = {"type": "binary"}
_SETTINGS = {"number_of_shards": 1, "auto_expand_replicas": "0-1", "hidden": True}
_MAPPING = {
    "dynamic": "strict",
    "properties": {
        "kind": {"type": "keyword"},
        "index": {"type": "keyword"},
        "generation": {"type": "keyword"},
        "previous": {"type": "keyword"},
        "built_at": {"type": "keyword"},
        "proof": {"type": "keyword", "index": False},
        "number": {"type": "long"},
        "documents": {"type": "long"},
        "seconds": {"type": "double"},
        "vocabulary": _UNSEARCHED,
        "token": {"type": "long"},
        "part": {"type": "integer"},
        "update": _UNSEARCHED,
        "owner": {"type": "keyword"},
        "expires": {"type": "long"},
        "outlived": {"type": "boolean"},
    },
}
# A token is at least the time in milliseconds: should the state be lost, those given later are still the higher ones.
_TAKE = """
if (ctx._source.owner == null || ctx._source.owner.isEmpty() || ctx._source.expires <= ctx._now) {
  ctx._source.outlived = ctx._source.owner != null && !ctx._source.owner.isEmpty();
  ctx._source.token = ctx._source.token == null ? ctx._now : (long) Math.max(ctx._source.token + 1, ctx._now);
  ctx._source.kind = 'lock';
  ctx._source.owner = params.owner;
  ctx._source.expires = ctx._now + params.lasts;
} else { ctx.op = 'none' }
"""
_KEEP = """
if (ctx._source.owner == params.owner) { ctx._source.expires = ctx._now + params.lasts } else { ctx.op = 'none' }
"""
_GIVE_BACK = """
if (ctx._source.owner == params.owner) { ctx._source.owner = ''; ctx._source.expires = 0L } else { ctx.op = 'none' }
"""


class Record(BaseModel):
    """What is known of a generation that was proved. ``number`` rises with every change of what readers see."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    index: str
    generation: str
    previous: str | None
    number: int
    documents: int
    built_at: str
    seconds: float
    proof: Proof | None

    @field_validator("proof", mode="before")
    @classmethod
    def _read(cls, stored: object) -> object:
        """Its field is one text, for which a state index of an earlier release has room too: that held a sentence."""
        if not isinstance(stored, str):
            return stored
        return json.loads(stored) if stored.startswith("{") else None

    @field_serializer("proof")
    def _write(self, proof: Proof | None) -> str | None:
        return None if proof is None else json.dumps(asdict(proof))


@dataclass
class Lock:
    """The right to write. ``outlived``: the one before did not give it back, and may wake and think it still has it."""

    token: int
    outlived: bool
    _client: Elasticsearch
    _state: str
    _owner: str
    _lasts: int
    _kept: bool = False

    def confirm(self) -> None:
        """Makes it last anew. Raises ``Unavailable`` when another has taken it: this one was too slow."""
        if not self._change(_KEEP):
            raise Unavailable("another process took the right to write the index: this one was stopped or too slow")

    def keep(self) -> None:
        """Do not give it back: it is not known what became of the last write, so whoever comes next must look."""
        self._kept = True

    def give_back(self) -> None:
        """Lets the next one write at once; one that cannot be given back expires."""
        if not self._kept:
            with suppress(Unavailable):
                self._change(_GIVE_BACK)

    def _change(self, script: str) -> bool:
        parameters = {"owner": self._owner, "lasts": self._lasts}
        with clear_errors():
            changed = self._client.update(
                index=self._state,
                id=_LOCK,
                script={"source": script, "params": parameters},
                retry_on_conflict=5,
            )
        return bool(changed["result"] != "noop")


class State:
    """The state index of one alias."""

    def __init__(self, client: Elasticsearch, alias: str, *, lock_seconds: float) -> None:
        """``lock_seconds``: how long a writer that died keeps the others waiting."""
        self._client = client
        self.index = f"{alias}-state"
        self._lasts = round(lock_seconds * 1000)

    # --- the lock ----------------------------------------------------------------------------------------------------
    @contextmanager
    def lock(self) -> Iterator[Lock]:
        """The right to write, given back at the end. Raises ``Unavailable`` when others have it for too long."""
        self._make()
        owner = uuid4().hex
        deadline = time.monotonic() + WAIT_SECONDS
        while (lock := self._take(owner)) is None:
            if time.monotonic() > deadline:
                raise Unavailable(f"another process has been writing the index for {WAIT_SECONDS:.0f} s")
            time.sleep(_POLL)
        try:
            yield lock
        finally:
            lock.give_back()

    def _take(self, owner: str) -> Lock | None:
        with clear_errors():
            answer = self._client.update(
                index=self.index,
                id=_LOCK,
                script={"source": _TAKE, "params": {"owner": owner, "lasts": self._lasts}},
                upsert={},
                scripted_upsert=True,
                source=True,
                retry_on_conflict=5,
            )
        if answer["result"] == "noop":
            return None
        told = answer["get"]["_source"]
        return Lock(int(told["token"]), bool(told["outlived"]), self._client, self.index, owner, self._lasts)

    def _make(self) -> None:
        with clear_errors():
            if self._client.indices.exists(index=self.index):
                return
        try:
            with clear_errors():
                self._client.indices.create(index=self.index, settings=_SETTINGS, mappings=_MAPPING)
        except Refused as error:
            if error.kind != "resource_already_exists_exception":
                raise

    # --- what is known of generations --------------------------------------------------------------------------------
    def record(self, index: str, *, client: Elasticsearch | None = None) -> Record | None:
        """What is known of a generation; none for one that was not proved."""
        stored = self._get(client or self._client, index, excludes=["vocabulary"])
        return None if stored is None else _record(stored)

    def described(self, index: str, *, client: Elasticsearch | None = None) -> tuple[Record, Vocabulary] | None:
        """The same with its vocabulary."""
        stored = self._get(client or self._client, index)
        return None if stored is None else (_record(stored), Vocabulary.from_json(_unpacked(stored["vocabulary"])))

    def _get(self, client: Elasticsearch, index: str, excludes: list[str] | None = None) -> dict[str, Any] | None:
        try:
            with clear_errors():
                found: dict[str, Any] = client.get(index=self.index, id=f"record/{index}", source_excludes=excludes)[
                    "_source"
                ]
        except Refused as error:
            if error.status == 404:
                return None
            raise
        return found

    def write(self, record: Record, vocabulary: Vocabulary, token: int) -> None:
        """Keeps what is known of a generation. Raises ``Refused`` when a later writer has done so already."""
        with clear_errors():
            self._client.index(
                index=self.index,
                id=f"record/{record.index}",
                document={"kind": "record", **record.model_dump(), "vocabulary": _packed(vocabulary.to_json())},
                version=token,
                version_type="external_gte",
            )

    def forget(self, indexes: list[str]) -> None:
        """Removes records and journals of generations that are gone."""
        with clear_errors():
            self._client.indices.refresh(index=self.index)
            self._client.delete_by_query(
                index=self.index, query={"terms": {"index": indexes}}, conflicts="proceed", refresh=True
            )

    # --- the journal -------------------------------------------------------------------------------------------------
    def append(self, index: str, token: int, part: int, codes: list[str], documents: list[str]) -> None:
        """Adds an update to a generation's journal, documents as JSON. It is kept when this returns."""
        update = json.dumps({"codes": codes, "documents": documents})
        with clear_errors():
            self._client.index(
                index=self.index,
                id=f"journal/{index}/{token}/{part}",
                document={"kind": "journal", "index": index, "token": token, "part": part, "update": _packed(update)},
            )

    def journal(self, index: str) -> Iterator[tuple[list[str], list[str]]]:
        """Codes and documents of every update since the generation was begun, in the order they were made."""
        with clear_errors():
            self._client.indices.refresh(index=self.index)
        after: list[Any] | None = None
        while True:
            with clear_errors():
                hits = self._client.search(
                    index=self.index,
                    query={"bool": {"filter": [{"term": {"kind": "journal"}}, {"term": {"index": index}}]}},
                    sort=[{"token": "asc"}, {"part": "asc"}],
                    size=_PAGE,
                    search_after=after,
                )["hits"]["hits"]
            for hit in hits:
                update = json.loads(_unpacked(hit["_source"]["update"]))
                yield update["codes"], update["documents"]
            if len(hits) < _PAGE:
                return
            after = hits[-1]["sort"]


def _record(stored: dict[str, Any]) -> Record:
    try:
        return Record.model_validate(stored)
    except ValidationError as error:
        raise DataFault("what is known of the index cannot be read", remedy="Rebuild the index.") from error


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 6)).decode()


def _unpacked(text: str) -> str:
    return zlib.decompress(base64.b64decode(text)).decode()
