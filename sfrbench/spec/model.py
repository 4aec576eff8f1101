"""Experiment specifications as they are once read: layers of choices, arms, axes, report items.

A choice is flat everywhere: ``{"stitch": "grid", "stitch.scale": 3, "pseudo": "offline"}``. The file may
write it as ``stitch: {name: grid, scale: 3}`` or as ``stitch.scale: 3``; both mean the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from sfrbench.components.base import Settings
from sfrbench.errors import Problem, did_you_mean, shorter, shown
from sfrbench.files.yamlio import Document, Where
from sfrbench.maths.metric_names import LARGER
from sfrbench.stages.external.files import Predictions

Flat = dict[str, Any]
#: Where in an entry, what is wrong, and how to mend it.
Fault = tuple[Where, str, str]

#: Choices that are no component, with their legal values.
SWITCHES: Mapping[str, tuple[str, ...]] = {
    "pseudo": ("none", "offline", "online"),
    "score": ("test", "val"),
}
PROFILES = ("paper", "released", "cpu", "smoke")
#: Those that scale nothing down.
FULL_SIZE = ("paper", "released")


@dataclass(frozen=True)
class Layer:
    """Choices of one origin. ``soft`` ones apply where the chosen component has the field."""

    choices: Flat
    places: Mapping[str, str] = field(default_factory=dict)
    soft: bool = False

    def where(self, path: str) -> str:
        """The place of a choice, or of the nearest one around it."""
        while path not in self.places and "." in path:
            path = path.rpartition(".")[0]
        return self.places.get(path, "")


@dataclass(frozen=True)
class Arm:
    name: str
    label: str
    layer: Layer
    stages: tuple[str, ...]
    without: tuple[str, ...] = ()  # axes that mean nothing to it
    predictions: Predictions | None = None  # results that another tool made


@dataclass(frozen=True)
class Axis:
    """One axis, or several tied ones: ``values[i]`` gives a value to each path."""

    paths: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    where: str

    def without(self, paths: Collection[str]) -> Axis:
        """The axis without some of its tied paths; entries that are then equal are one."""
        kept = [index for index, path in enumerate(self.paths) if path not in paths]
        rows = [tuple(row[index] for index in kept) for row in self.values]
        once = {repr(row): row for row in rows}
        return Axis(tuple(self.paths[index] for index in kept), tuple(once.values()), self.where)


@dataclass(frozen=True)
class Known:
    """What an entry of the report may name: arms, and paths of axes with the number of their values; a
    reference to something ``unread`` is not reported as a fault."""

    arms: Sequence[Arm]
    paths: Mapping[str, int]
    unread: Collection[str] = ()

    def arm_faults(self, names: Iterable[Any], at: Where, of: str = "") -> Iterator[Fault]:
        """Names of arms that there are not."""
        known = [arm.name for arm in self.arms]
        for name in names:
            if name not in known and "arms" not in self.unread:
                text = isinstance(name, str)
                what = f"no arm '{shorter(name)}'" if text else f"no arm has the name {shown(name)}"
                yield at, of + what, did_you_mean(str(name), known)

    def pair_faults(self, pairs: Iterable[tuple[str, str]], at: Where, of: str) -> Iterator[Fault]:
        """Pairs that name no arms, or one arm twice."""
        for one, other in pairs:
            yield from self.arm_faults((one, other), at, of)
            if one == other:
                yield at, f"{of}'{shorter(one)}' against itself", "name two arms"

    def axis_faults(self, path: str, at: Where, of: str, more: Sequence[str] = ()) -> Iterator[Fault]:
        """A path that is no axis and none of ``more``."""
        known = [*more, *self.paths]
        if path not in known and not {path, "axes"} & set(self.unread):
            hint = did_you_mean(path, known) or f"there are none: add axes: {{{path}: [one value, another]}}"
            yield at, f"{of}: no axis '{path}'", hint

    def change_faults(self, path: str, at: Where, of: str) -> Iterator[Fault]:
        """A path that is no axis, or one of a single value: nothing changes along it."""
        yield from self.axis_faults(path, at, of)
        if self.paths.get(path) == 1:
            what = f"{of}: axis '{path}' has one value here"
            yield at, what, "give it another value, or leave this item out"


class Item(Settings):
    """One entry of ``report``: the fields of its kind, and what reading and planning ask of it.

    Each kind is a subclass, and the field ``kind`` names it in the file. The kinds are handed to whoever
    reads a specification; how an item is made is not known here.
    """

    kind: ClassVar[str]

    @property
    def drawn_over(self) -> Collection[str]:
        """Paths of axes that the item needs although they may have one value only."""
        return ()

    def faults(self, known: Known, before: Sequence[Item]) -> Iterator[Fault]:
        """What the entry names that is not there; ``before`` are the items of its kind above it."""
        yield from ()

    def asks(self, arm: str) -> Mapping[str, Mapping[str, int]]:
        """Stages that only the report needs of an arm's cells, with their settings. Of what several items ask
        for, the largest counts."""
        return {}


#: Kinds of report items by the field that names them.
ItemKinds = Mapping[str, type[Item]]


@dataclass(frozen=True)
class Exclusion:
    when: Mapping[str, Any]
    reason: str
    where: str


@dataclass(frozen=True)
class Local:
    """Choices of base that hold at some points of the axes only; ``when`` is as in an exclusion."""

    when: Mapping[str, Any]
    layer: Layer

    def holds(self, here: Mapping[str, Any]) -> bool:
        """Whether the point ``here`` (arm, and values by path) is one of them."""
        return matches(self.when, here)


def matches(when: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether a point has, at every path of ``when``, the value given there or one of the list given
    there."""
    return all(
        here.get(path) in (wanted if isinstance(wanted, list) else [wanted]) for path, wanted in when.items()
    )


@dataclass(frozen=True)
class Range:
    """The values of one searched field: from ``low`` to ``high``, or one of ``choices``."""

    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()
    whole: bool = False  # whole numbers only; known once the field is


@dataclass(frozen=True)
class Param:
    """One searched field. ``range`` is None if the card's own is meant."""

    path: str
    range: Range | None
    where: str
    places: Mapping[str, str] = field(default_factory=dict)  # of low, high, step and choices.0, ...


@dataclass(frozen=True)
class Search:
    """A hyper-parameter search: one arm, scored on validation cases, over a space of fields."""

    params: tuple[Param, ...]
    arm: Arm
    metric: str
    trials: int | None
    hours: float | None
    sampler: str
    pruner: str
    seeds: tuple[int, ...]
    where: str

    @property
    def larger(self) -> bool:
        """Whether more of the metric is better."""
        return self.metric in LARGER


@dataclass(frozen=True)
class Profile:
    """An overlay that scales a whole specification, shipped in ``experiments/profiles``."""

    name: str
    layer: Layer
    #: kind -> chosen name (or "*", or "family NAME") -> name used instead; switch -> chosen value -> value
    #: used instead
    replace: Mapping[str, Mapping[str, str]]
    needs: tuple[Literal["gpu"], ...] = ()  # without one, a run is refused

    @property
    def needs_gpu(self) -> bool:
        """Whether it is for an accelerator: a GPU, or what stands for one."""
        return "gpu" in self.needs

    def instead(self, head: str, chosen: str, family: str = "") -> str:
        """What is used where the specification chooses ``chosen``, a component's name or a switch's value; a
        component may be one of a ``family``."""
        swap = self.replace.get(head, {})
        return swap.get(chosen, swap.get(f"family {family}", swap.get("*", chosen)))


@dataclass(frozen=True)
class Spec:
    """A specification as read under one profile; ``layers`` go from weakest to strongest."""

    name: str
    document: Document
    title: str
    description: str
    paper: str
    profile: Profile
    base: Layer
    overlay: Layer  # the specification's own section for the profile
    points: tuple[Local, ...]  # laid over base, below the profile
    overlay_points: tuple[Local, ...]  # the same of the specification's section for the profile, over it
    arms: tuple[Arm, ...]
    axes: tuple[Axis, ...]
    exclude: tuple[Exclusion, ...]
    seeds: tuple[int, ...]
    report: tuple[Item, ...]
    sets: Layer
    search: Search | None = None
    problems: tuple[Problem, ...] = ()  # faults of form; the plan adds its own and raises all at once
    overridden: tuple[str, ...] = ()  # what --set asked for, as it was given
    unread: frozenset[str] = frozenset()  # sections, kinds and axes that these faults left out

    @property
    def told(self) -> dict[str, list[Any]]:
        """Values of the paths that tell cells apart, or that the report is drawn over: naming an axis of one
        value, which waits for others, would only lengthen every name."""
        drawn = {path for item in self.report for path in item.drawn_over}
        found = {
            path: [self.used(path, row[index]) for row in axis.values]
            for axis in self.axes
            for index, path in enumerate(axis.paths)
        }
        return {path: row for path, row in found.items() if len(row) > 1 or path in drawn}

    def axes_of(self, arm: Arm) -> tuple[Axis, ...]:
        """The axes that an arm has a point on."""
        own = (axis.without(arm.without) for axis in self.axes)
        return tuple(axis for axis in own if axis.paths)

    def used(self, path: str, value: Any) -> Any:
        """The value of an axis as cells bear it: of a switch, what the profile puts in its place."""
        return self.profile.instead(path, value) if path in SWITCHES else value
