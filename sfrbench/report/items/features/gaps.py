"""Features of labelled against unlabelled cases (Fig. 10): what the store holds, as one line for each arm."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sfrbench.errors import did_you_mean
from sfrbench.maths.gaps import DRAWS, Array, CaseSample, Groups
from sfrbench.report.facts.info import Features, ReportInfo
from sfrbench.results.axes import axis_text, axis_texts, point_texts

UNKNOWN = "no unlabelled case has a label, so it is not known what is predicted correctly in them"


@dataclass(frozen=True)
class Gap:
    """One arm at one point of the axes, all seeds."""

    label: str
    of: str
    voxels: int
    members: Sequence[Features] = field(repr=False)

    @property
    def arm(self) -> str:
        return self.members[0].arm

    @property
    def axes(self) -> Mapping[str, Any]:
        return self.members[0].axes

    @property
    def name(self) -> str:
        return ", ".join([self.label, *point_texts(self.axes)])

    def behind(self) -> dict[str, Any]:
        """What the row stands on, for provenance.json."""
        return {
            "row": self.name,
            "arm": self.arm,
            "match": {"arm": self.arm, **axis_texts(self.axes)},
            "axes": dict(self.axes),
            "cells": {str(one.seed): one.cell for one in self.members},
            "features": [one.key for one in self.members],
            "labelled": list(self.members[0].labelled),
            "unlabelled": list(self.members[0].unlabelled),
        }

    @cached_property
    def samples(self) -> list[tuple[list[CaseSample], list[CaseSample]]]:
        """Cases of both groups in the network of each seed."""
        return [
            (_cases(one.labelled, one, self.of), _cases(one.unlabelled, one, self.of)) for one in self.members
        ]

    def size(self, index: int) -> int:
        """Voxels of each group that the figure shows of a seed: min(labelled, unlabelled, the item's)."""
        return min(self.voxels, *(sum(case.voxels for case in group) for group in self.samples[index]))

    @cached_property
    def groups(self) -> list[Groups | None]:
        """The two groups of each seed; None for a seed where one of them has no correct voxel."""
        sizes = [self.size(index) for index in range(len(self.members))]
        return [Groups(*pair, size) if size else None for pair, size in zip(self.samples, sizes, strict=True)]

    @property
    def known_seeds(self) -> frozenset[int]:
        """Seeds with a correct voxel in both groups."""
        return frozenset(
            one.seed for one, groups in zip(self.members, self.groups, strict=True) if groups is not None
        )

    @property
    def unseen(self) -> str:
        """Which of several classes have no correct voxel in a group; then other classes make the distance."""
        if not all(one.unlabelled for one in self.members):
            return UNKNOWN
        lost: dict[str, list[int]] = {}
        for one in self.members:
            for label in classes_of(one.classes, self.of):
                sides = (one.labelled, one.unlabelled)
                if not all(any(counts[label, 1] for _, counts in side.values()) for side in sides):
                    lost.setdefault(one.classes[label], []).append(one.seed)
        if not lost or len(classes_of(self.members[0].classes, self.of)) < 2:
            return ""
        said = (f"{name} (seed {', '.join(map(str, seeds))})" for name, seeds in lost.items())
        return (
            f"without a correct voxel in one of the groups: {'; '.join(said)}. The distance is not of the "
            "same classes as elsewhere and not comparable with those rows"
        )

    @cached_property
    def observed(self) -> Array:
        """(S, 3), a row of NaN where there is nothing."""
        return np.stack([np.full(3, np.nan) if one is None else one.observed() for one in self.groups])

    @cached_property
    def draws(self) -> Array:
        """(B, 3): means over seeds, cases and seeds drawn anew as two crossed levels."""
        n = len(self.members)
        counts = np.random.default_rng(n).multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(float)
        return _weighted([None if one is None else one.bootstrapped() for one in self.groups], counts)

    @cached_property
    def permuted(self) -> Array:
        """(B, 3): means over seeds, with the cases permuted between the groups."""
        each = [None if one is None else one.permuted() for one in self.groups]
        return _weighted(each, np.ones((DRAWS, len(each))))


def _cases(group: Mapping[str, tuple[Any, Any]], one: Features, of: str) -> list[CaseSample]:
    chosen = classes_of(one.classes, of)
    found = []
    for name, (samples, counts) in group.items():
        rows = [samples[label][~np.isnan(samples[label])].astype(np.float64) for label in chosen]
        right = [int(counts[label, 1]) for label in chosen]
        found.append(CaseSample(name, tuple(zip(rows, right, strict=True))))
    return found


def classes_of(classes: Sequence[str], of: str) -> list[int]:
    """The indices of the classes that an item's ``of`` names."""
    if of == "foreground":
        return list(range(1, len(classes)))
    return [0] if of == "background" else [list(classes).index(of)]


def _weighted(each: Sequence[Array | None], counts: Array) -> Array:
    """Means over seeds (B, 3), weighted by counts (B, S); a seed without a number takes no part."""
    known = [(one, counts[:, index]) for index, one in enumerate(each) if one is not None]
    if not known:
        return np.full((len(counts), 3), np.nan)
    total = np.sum([np.where(np.isnan(one), 0, one) * count[:, None] for one, count in known], axis=0)
    weight = np.sum([~np.isnan(one) * count[:, None] for one, count in known], axis=0)
    return np.asarray(np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0))


def gaps_of(
    info: ReportInfo, of: str, voxels: int, arms: Collection[str] | None = None
) -> tuple[list[Gap], str]:
    """The lines of some arms (none: of all), in the order of arms and points, and why there are none."""
    known = list(dict.fromkeys(name for one in info.features for name in one.classes))
    if known and of not in ("foreground", "background", *known):
        return [], f"features: no class '{of}' here; {did_you_mean(of, known)}".rstrip("; ")
    if info.features and not any(one.unlabelled for one in info.features):
        return [], f"No features: {UNKNOWN}."
    groups: dict[tuple[str, tuple[str, ...]], list[Features]] = {}
    for one in info.features:
        if arms is None or one.arm in arms:
            point = tuple(axis_text(value) for value in one.axes.values())
            groups.setdefault((one.arm, point), []).append(one)
    order = [arm for arm, _ in info.arms]
    lines = [Gap(dict(info.arms).get(arm, arm), of, voxels, members) for (arm, _), members in groups.items()]
    return sorted(
        lines, key=lambda line: order.index(line.arm)
    ), "" if lines else "No features were sampled yet."


def mean_of(values: Array) -> Array:
    """Mean over rows, ignoring NaN; NaN where every row is."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0).sum(axis=0), known.sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
