"""What a stage says of itself.

Each stage is a folder here: ``recipe.py``, which never imports torch, with its ``RECIPE``, and ``run.py``
with its behaviour, ``run(ctx)``. ``finder`` finds them by their folders, so a new stage is a new folder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, cast

from sfrbench.components.base import Component, Dataset, Protocol
from sfrbench.stages.cost import Costed, Work
from sfrbench.stages.external.files import Predictions
from sfrbench.stages.settings import StageSettings

Link = tuple[str, str]  # stage, key
Fault = tuple[str, str]  # what is wrong, and how to mend it
Pseudo = Literal["none", "offline", "online"]
Score = Literal["test", "val"]
#: The kinds that a fine-tuned SAM is made of.
SAM = ("stitch", "foundation", "finetune")


@dataclass(frozen=True)
class Chosen:
    """What a cell has chosen, as recipes see it."""

    components: Mapping[str, Component]
    stages: Collection[str]  # those that the arm names
    pseudo: Pseudo
    score: Score
    fingerprint: str  # content hash of the dataset's files on this machine
    predictions: Predictions | None = None  # another tool's results, which the cell is judged by
    predicted: str = ""  # what they hold on this machine, as a hash

    @property
    def dataset(self) -> Dataset:
        return cast(Dataset, self.components["dataset"])

    @property
    def protocol(self) -> Protocol:
        return cast(Protocol, self.components["protocol"])


@dataclass(frozen=True)
class Asked:
    """One node of a stage, as the recipe asks for it."""

    settings: StageSettings
    #: Role of the input -> role of its node in the cell.
    inputs: Mapping[str, str]
    #: Kinds that stand in the key -> their fields that this stage does not read, and that do not count.
    keyed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: Kinds that the stage merely gets: the key of an input, or a setting, says what matters of them.
    gets: tuple[str, ...] = ()
    #: Whether the cell's seed matters to this node; only a stage that is ``seeded`` has it in its keys.
    seeded: bool = True

    @cached_property
    def told(self) -> dict[str, Any]:
        """The settings in JSON types."""
        return self.settings.told()


def whole(*kinds: str) -> dict[str, frozenset[str]]:
    """These kinds in the key, every field."""
    return dict.fromkeys(kinds, frozenset())


@dataclass(frozen=True)
class Needs:
    """What a stage wants of a machine, roughly, at the paper's sizes. Whoever schedules reads it; no key and
    no record holds it."""

    accelerator: bool = False  # a GPU makes it faster
    network: bool = False  # it runs one, so that the precision is settled before
    training_canvases: bool = False  # it draws some, for which a stitch may need data of its own
    cores: int = 1  # that it keeps busy, without a GPU
    memory: Literal["small", "medium", "large"] = "small"  # up to 4, up to 16, more than 16 GB
    duration: Literal["seconds", "minutes", "hours"] = "minutes"  # where it has what it wants


def nothing(stages: Collection[str], pseudo: Pseudo) -> tuple[str, ...]:
    """The kinds that a stage asks for by default: a cell has a dataset and a protocol anyway."""
    return ()


def never(cell: Chosen, nodes: Mapping[str, Link]) -> Mapping[str, Asked]:
    """No nodes: for a stage that joins no cell by itself, only when rounds or reports ask for it."""
    return {}


def sound(cell: Chosen) -> Iterable[Fault]:
    """No faults: for a stage that works with all that components allow."""
    return ()


def always(inputs: Mapping[str, str]) -> bool:
    """Whether equal work is looked for, by default."""
    return True


@dataclass(frozen=True)
class Recipe:
    """A stage, but for its behaviour."""

    stage: str  # the name of the folder
    #: Raised when the stage's own code changes what it writes; part of every key of the stage.
    version: int
    settings: type[StageSettings]
    #: Role of each input -> the stages of which one may stand there. All that may be there in a first pass;
    #: stages join a cell in the order that this makes.
    inputs: Mapping[str, tuple[str, ...]]
    #: The same of the rounds of SFR+ and self-training, which close circles between stages.
    round_inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: The stage's nodes in a cell, by role, from the choices and the nodes before it.
    joins: Callable[[Chosen, Mapping[str, Link]], Mapping[str, Asked]] = never
    #: What is wrong with the choices of a cell that names stages, beyond what components say of one another.
    faults: Callable[[Chosen], Iterable[Fault]] = sound
    #: The node that an item of a report asks for, from the cell and what it wants. Cells that lack its inputs
    #: or components go without.
    requested: Callable[..., Asked] | None = None
    #: Kinds of components that a cell needs for this stage, from the arm's stages and the pseudo-labels.
    kinds: Callable[[Collection[str], Pseudo], tuple[str, ...]] = nothing
    needs: Needs = Needs()
    #: Whether a specification names it: it runs where ``stages`` is not given, only where it is named, never.
    named: Literal["by default", "on request", "never"] = "on request"
    seeded: bool = False  # whether the cell's seed stands in the key
    told_by: str = ""  # the kind of component whose name tells people its nodes apart
    #: What a node takes, from its components, settings and inputs; none: nobody knows.
    cost: Callable[[Costed], Work | None] | None = None
    #: Whether nodes with other keys that did equal work are looked for, from the stages of its inputs.
    compared: Callable[[Mapping[str, str]], bool] = always

    def takes(self, role: str, stage: str) -> bool:
        """Whether an artefact of ``stage`` may be the input ``role``."""
        return stage in (*self.inputs.get(role, ()), *self.round_inputs.get(role, ()))
