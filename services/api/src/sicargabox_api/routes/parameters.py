"""Kinds of parameters that several routes take."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Path, Query
from pydantic import AwareDatetime, Field, StringConstraints

# PostgreSQL takes no NUL in a text, so it is refused before any statement.
Word = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=200)]
# Years that every database and zone conversion can handle.
Moment = Annotated[AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), le=datetime(2200, 1, 1, tzinfo=UTC))]

TaskId = Annotated[UUID, Path(description="The task's id, as `Location` and `id` give it.")]
Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
Lang = Annotated[Literal["es", "en"], Query(description="Language of the texts; the words may be of either.")]
Code = Annotated[
    str,
    Path(max_length=40, description="With or without dots.", examples=["8518.30.00.00", "8518300000", "8518"]),
]
