"""The generations of one alias in the cluster, and the aliases that fence their writers.

Which index and which alias means what, stands in ``elasticsearch_engine``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from elasticsearch import Elasticsearch

from sicargabox_core.errors import Conflict, DataFault, SicargaBoxError
from sicargabox_core.search.elasticsearch_errors import GONE, Refused, clear_errors
from sicargabox_core.search.elasticsearch_state import Lock, Record, State
from sicargabox_core.settings import ENV_PREFIX

log = structlog.get_logger(__name__)

NOTHING_KNOWN = "nothing is known of the index that serves"
OTHER_MAPPING = "the index has the mapping of another release"


@dataclass(frozen=True)
class Stored:
    """An index of ours as the cluster knows it."""

    index: str
    generation: str
    mapping: str | None
    serves: bool
    aliases: frozenset[str]

    @property
    def building(self) -> bool:
        """Whether it may still be filled."""
        return build_alias(self.index) in self.aliases


class Generations:
    """What there is, and what writers do to it as a whole. Faults are raised as ``clear_errors`` makes them."""

    def __init__(self, client: Elasticsearch, state: State, alias: str) -> None:
        """``client`` has the patience of writers."""
        self._writer = client
        self._state = state
        self.alias = alias

    def take_over(self, lock: Lock) -> None:
        """After one that did not give its lock back: what it was about to swap can no longer be swapped."""
        if not lock.outlived:
            return
        try:
            taken_away = []
            for one in self.stored():
                for alias in one.aliases:
                    if alias.startswith(f"{one.index}+swap-"):
                        self.change_aliases([removed(one.index, alias)])
                        taken_away.append(alias)
            log.warning("search.lock_taken_over", token=lock.token, swaps_taken_away=taken_away)
        except SicargaBoxError:
            lock.keep()
            raise

    def stored(self, client: Elasticsearch | None = None) -> list[Stored]:
        """Our indexes, and whatever else the alias names."""
        with clear_errors():
            answer = (client or self._writer).indices.get(
                index=[self.alias, f"{self.alias}-*"],
                ignore_unavailable=True,
                allow_no_indices=True,
                features=["aliases", "mappings"],
                filter_path=["*.aliases", "*.mappings._meta"],
            )
        found = []
        for index, told in answer.body.items():
            meta = told.get("mappings", {}).get("_meta", {})
            aliases = frozenset(told.get("aliases", ()))
            serves = self.alias in aliases
            # Another installation's alias may begin like ours; its indexes are none of ours.
            if meta.get("alias") == self.alias or serves:
                generation = str(meta.get("generation", index))
                found.append(Stored(index, generation, meta.get("mapping"), serves, aliases))
        return found

    def serving(self, stored: Sequence[Stored]) -> Stored | None:
        """The one the alias names. Raises ``DataFault`` when it names several."""
        serving = [one for one in stored if one.serves]
        if len(serving) > 1:
            raise several(self.alias, [one.index for one in serving])
        return serving[0] if serving else None

    def check_alias_is_free(self, serving: Stored | None, client: Elasticsearch) -> None:
        """Raises ``Conflict`` when an index has the alias's name: no alias can be set then.

        Whoever writes a document to an alias that is not there has the server make such an index.
        """
        if serving is not None:
            return
        with clear_errors():
            taken = bool(client.indices.exists(index=self.alias))
        if taken:
            raise Conflict(
                f"an index is named {self.alias}, as the alias of the search index has to be",
                field=f"{ENV_PREFIX}SEARCH_INDEX",
                remedy="Delete that index in Elasticsearch, or set another name here; then rebuild the index.",
            )

    def remove_unnamed(self, stored: Sequence[Stored], record: Record | None) -> None:
        """Removes every generation but the serving one and the one before. Only under the lock."""
        named = {record.generation, record.previous} if record else set()
        self.remove([one for one in stored if not one.serves and (one.generation not in named or one.building)])

    def remove(self, unwanted: Sequence[Stored]) -> None:
        """Deletes these indexes, and what is known of them."""
        gone = []
        for one in unwanted:
            if one.building:
                # From here on nobody can fill it or have it serve, whatever is still on its way to the server.
                try:
                    self.change_aliases([removed(one.index, build_alias(one.index))])
                except Refused as error:
                    if error.status != GONE:
                        raise
                    # It serves since we looked, or somebody else is removing it.
                    continue
            with clear_errors():
                self._writer.indices.delete(index=one.index, ignore_unavailable=True)
            gone.append(one.index)
        if gone:
            self._state.forget(gone)

    def change_aliases(self, actions: Sequence[dict[str, Any]]) -> None:
        """All of them in one step, or none."""
        with clear_errors():
            self._writer.indices.update_aliases(actions=actions)


def several(alias: str, indexes: Sequence[str]) -> DataFault:
    """For an alias that somebody has set on more than one index: which of them serves, nobody can say."""
    return DataFault(
        f"the alias {alias} names several indexes ({', '.join(sorted(indexes))})",
        remedy="Leave it on the newest of them.",
    )


def build_alias(index: str) -> str:
    """Of a generation that is being filled."""
    return f"{index}+build"


def swap_alias(index: str, token: int) -> str:
    """Of one that is about to serve, by its writer's token."""
    return f"{index}+swap-{token}"


def added(index: str, alias: str) -> dict[str, Any]:
    """The action that gives an index an alias."""
    return {"add": {"index": index, "alias": alias}}


def removed(index: str, alias: str) -> dict[str, Any]:
    """The action that takes it away; all actions of its call fail when it is not there."""
    return {"remove": {"index": index, "alias": alias, "must_exist": True}}
