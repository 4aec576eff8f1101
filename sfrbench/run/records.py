"""The records of a store that tell how long the work of their stage takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfrbench.stages.recipe import Link
from sfrbench.store.store import Store

Record = Mapping[str, Any]


def record_of(store: Store, link: Link) -> Record | None:
    """The record of a node; none where its artefact is missing or damaged."""
    return store.get(*link).record if store.has(*link) else None


def newest(store: Store, stage: str, most: int) -> list[Record]:
    """Of the newest artefacts of a stage, the records that tell its time; oldest first."""
    return [record for record in store.records(stage, most) if tells(record)]


def tells(record: Record) -> bool:
    """Whether its seconds are those of the node's own work, from beginning to end."""
    whole = "equal_to" not in record and not record.get("notes", {}).get("resumed_at")
    seconds = record.get("seconds")
    return whole and isinstance(seconds, int | float) and 0 <= seconds < 1e12
