"""What a simulated user said of one case, from the artefact of the stage ``interact``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sfrbench.components.base_prompts import Said
from sfrbench.store.store import Artefact

#: By class, what was said in each round, the seconds that the model took and the Dice after it.
Talk = Mapping[str, Mapping[str, list[Any]]]


def talk_of(artefact: Artefact, case: str) -> Talk:
    """The talk about one case."""
    return cast(Talk, artefact.read_json(f"said/{case}.json"))


def said_until(artefact: Artefact, case: str, rounds: int) -> list[Said]:
    """What was said of all objects of a case in the first ``rounds`` rounds."""
    return [Said.of(said) for own in talk_of(artefact, case).values() for said in own["said"][:rounds]]


def seconds_until(artefact: Artefact, case: str, rounds: int) -> float:
    """How long the model took for its answers in the first ``rounds`` rounds."""
    return float(sum(sum(own["seconds"][:rounds]) for own in talk_of(artefact, case).values()))
