"""Experiment specifications as they are once read: layers of choices, arms, axes, report items.

A choice is flat everywhere: ``{"stitch": "grid", "stitch.scale": 3, "pseudo": "offline"}``. The file may
write it as ``stitch: {name: grid, scale: 3}`` or as ``stitch.scale: 3``; both mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator

from sfrbench.components.base import Settings
from sfrbench.errors import Problem
from sfrbench.files.yamlio import Document

Flat = dict[str, Any]

#: Choices that are no component, with their legal values.
SWITCHES: Mapping[str, tuple[str, ...]] = {
    "pseudo": ("none", "offline", "online"),
    "score": ("test", "val"),
}
METRICS = ("dice", "jaccard", "asd", "hd95", "asd_rev", "assd", "nsd")
#: The metrics of which more is better; they are shares, and reports give them in percent.
LARGER = ("dice", "jaccard", "nsd")
PROFILES = ("paper", "released", "cpu", "smoke")
#: Those that scale nothing down.
FULL_SIZE = ("paper", "released")


def flatters(metric: str, value: float) -> bool:
    """Whether an empty prediction of a class that is there gets the best possible distance, 0, or is left out
    (NaN). What holds such a score is never called best in that metric."""
    return value != value or (metric not in LARGER and value == 0)


class FeaturesItem(Settings):
    """Decoder features of labelled against unlabelled cases (Fig. 10); adds a node to the cells it shows."""

    arms: list[str] | None = Field(None, min_length=1, description="none: every arm that re-trains")
    of: str = Field("foreground", description="'foreground', 'background' or the name of a class")
    cases: int = Field(32, ge=2, le=1000, description="at most so many labelled and so many unlabelled cases")
    voxels: int = Field(
        500, ge=10, le=100_000, description="voxels of each group in the figure; also the most of one case"
    )

    def shows(self, arm: str) -> bool:
        """Whether the item is about this arm."""
        return self.arms is None or arm in self.arms


#: What a report item can be.
ITEMS = (
    "table", "published", "curve", "kde", "montage", "pairs", "ranks", "pseudo_labels", "parameters",
    "rounds", "features", "canvases",
)  # fmt: skip


class ReportItem(Settings):
    """One piece of the report: exactly one of ``ITEMS``. Some fields belong to one kind alone."""

    table: str | None = None
    published: str | None = Field(None, description="a table of the paper beside our results, as 'table07'")
    rows: str | dict[str, str] = Field(
        "arm", description="'arm' or the path of an axis; of a published table: arm -> its row in the paper"
    )
    unbuilt: dict[str, str] = Field({}, description="published: row of the paper -> why no arm has it")
    metrics: list[Literal["dice", "jaccard", "asd", "hd95", "asd_rev", "assd", "nsd"]] = Field(
        ["dice", "jaccard", "asd", "hd95"], min_length=1
    )
    gains: dict[str, str] = Field({}, description="arm: the arm that its gain is against, as {sfr_mt: mt}")
    std: Literal["seeds", "cases", "none"] = Field("seeds", description="what ± is over")
    columns: list[Literal["params", "seconds"]] = Field([], description="further columns: the model's cost")
    curve: dict[Literal["x", "y"], str] | None = None
    kde: Literal["dice", "jaccard", "nsd", "confidence"] | None = Field(
        None, description="per-case scores; 'confidence': C of SFR+ against Dice"
    )
    montage: int | None = Field(None, ge=1, le=12)
    arms: list[str] = Field([], description="the arms that the item shows; none: all")
    pairs: list[tuple[str, str]] | None = None
    ranks: Literal["dice", "jaccard", "asd", "hd95", "asd_rev", "assd", "nsd"] | None = Field(
        None, description="mean ranks by a metric, over datasets where 'dataset' is an axis, else over cases"
    )
    pseudo_labels: Literal[True] | None = None
    parameters: Literal[True] | None = None
    rounds: Literal[True] | None = None
    canvases: int | None = Field(
        None, ge=1, le=4, description="scored cases on canvases as SAM sees them; adds a node to the cells"
    )

    features: FeaturesItem | None = None

    @model_validator(mode="after")
    def _one_piece(self) -> ReportItem:
        given = [kind for kind in ITEMS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(ITEMS)}; got {', '.join(given) or 'none'}")
        if self.curve is not None and set(self.curve) != {"x", "y"}:
            raise ValueError("a curve needs x (the path of an axis) and y (a metric)")
        if self.published is not None and "rows" in self.model_fields_set and isinstance(self.rows, str):
            raise ValueError("rows of a published table map arms to rows of the paper")
        if self.published is None and isinstance(self.rows, dict):
            raise ValueError("rows is 'arm' or the path of an axis; a mapping goes with 'published'")
        if self.published is None and self.unbuilt:
            raise ValueError("unbuilt goes with 'published'")
        stray = sorted(self.model_fields_set & {"gains", "std", "columns"})
        if stray and self.table is None:
            raise ValueError(f"{', '.join(stray)}: only for a table")
        return self


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


@dataclass(frozen=True)
class Axis:
    """One axis, or several tied ones: ``values[i]`` gives a value to each path."""

    paths: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    where: str


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
    """Whether a point has the wanted value, or one of a list, at every path of ``when``."""
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
    """One searched field. ``range`` is none where the card's own is meant."""

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
    sampler_where: str

    @property
    def larger(self) -> bool:
        """Whether more of the metric is better."""
        return self.metric in LARGER


@dataclass(frozen=True)
class Profile:
    """An overlay that scales a whole specification, shipped in ``experiments/profiles``."""

    name: str
    layer: Layer
    #: kind -> chosen name (or "*") -> name used instead; switch -> chosen value -> value used instead
    replace: Mapping[str, Mapping[str, str]]
    needs: tuple[str, ...] = ()

    def instead(self, head: str, chosen: str) -> str:
        """What is used where the specification chooses ``chosen``, a component's name or a switch's value."""
        swap = self.replace.get(head, {})
        return swap.get(chosen, swap.get("*", chosen))


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
    report: tuple[ReportItem, ...]
    sets: Layer
    search: Search | None = None
    problems: tuple[Problem, ...] = ()  # faults of form; the plan adds its own and raises all at once
    unread: frozenset[str] = frozenset()  # sections, kinds and axes that these faults left out

    @property
    def told(self) -> dict[str, list[Any]]:
        """Values of the paths that tell cells apart, or that the report is drawn over: an axis of one value,
        which waits for others, would only lengthen every name."""
        drawn = {item.rows for item in self.report if isinstance(item.rows, str)}
        drawn |= {item.curve["x"] for item in self.report if item.curve}
        found = {
            path: [self.used(path, row[index]) for row in axis.values]
            for axis in self.axes
            for index, path in enumerate(axis.paths)
        }
        return {path: row for path, row in found.items() if len(row) > 1 or path in drawn}

    def used(self, path: str, value: Any) -> Any:
        """The value of an axis as cells bear it: of a switch, what the profile puts in its place."""
        return self.profile.instead(path, value) if path in SWITCHES else value
