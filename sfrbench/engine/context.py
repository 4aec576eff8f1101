"""What a stage gets to run: its settings, its inputs, a place to write, and a place that survives a kill."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from sfrbench.components.base import Component, Settings
from sfrbench.store.store import Artefact


class Pruned(Exception):
    """A stage was stopped on purpose: what it trains does not look promising. Its checkpoint stays."""


class Stopped(Exception):
    """A stage was told to stop: its process has to end. What it was training has left a checkpoint."""


C = TypeVar("C", bound=Component)
S = TypeVar("S", bound=Settings, covariant=True)


class Progress(Protocol):
    """Called after each unit of work; ``values`` are shown beside the bar (loss, Dice)."""

    def __call__(self, done: int, total: int, **values: float) -> None: ...


def no_progress(done: int, total: int, **values: float) -> None:
    """The progress that is shown to nobody."""


def watch_nothing(step: int, dice: float) -> bool:
    """Lets every training go on."""
    return False


def goes_on() -> bool:
    """The answer to ``stopping`` of a process that nobody ends."""
    return False


@dataclass(frozen=True)
class StageContext(Generic[S]):
    """One node's run. A stage reads ``inputs``, writes files under ``out`` and returns nothing."""

    components: Mapping[str, Component]  # kind -> component that this stage consumes
    settings: S  # what else the stage is told (split, patch, ...)
    inputs: Mapping[str, Artefact]  # role -> artefact
    seed: int  # base seed of the cell; never used bare, see ``seed_for``
    out: Path  # becomes the artefact when the stage returns
    scratch: Path  # kept when the run is killed: checkpoints
    device: str = "cpu"
    ahead: int | None = None  # batches made before their step, in a thread; none: as suits the device
    data_root: Path | None = None
    weights: Callable[[str], Path] | None = None
    progress: Progress = no_progress
    watch: Callable[[int, float], bool] = watch_nothing  # told (step, validation Dice); true: stop here
    stopping: Callable[[], bool] = goes_on  # true: leave a checkpoint and raise ``Stopped``
    notes: dict[str, Any] = field(default_factory=dict)  # goes into the record

    def component(self, kind: str, cls: type[C]) -> C:
        """The component of ``kind``, typed."""
        return cast(C, self.components[kind])


def seed_for(stage: str, purpose: str, base_seed: int) -> int:
    """A 63-bit seed derived from stage, purpose and base seed, the same on every machine."""
    digest = hashlib.sha256(f"{stage}/{purpose}/{base_seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
